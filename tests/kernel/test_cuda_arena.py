"""The arena's pieces never overlap, are all given back, and holes join: against a plain list of taken bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from augserver.kernel.cuda.arena import ALIGN, Arena, aligned


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9 * ALIGN), st.integers(0, 99)), max_size=60))
def test_pieces_are_aligned_lie_inside_and_never_overlap(moves):
    arena = Arena(20 * ALIGN + 17)
    taken: dict[int, int] = {}
    for take, size, which in moves:
        if take or not taken:
            offset = arena.take(size)
            largest = _largest_hole(taken, 20 * ALIGN)
            assert (offset is None) == (aligned(size) > largest)
            if offset is not None:
                assert offset % ALIGN == 0
                assert all(offset + aligned(size) <= at or at + length <= offset for at, length in taken.items())
                taken[offset] = aligned(size)
        else:
            offset = sorted(taken)[which % len(taken)]
            arena.give(offset)
            del taken[offset]
        assert arena.taken_bytes == sum(taken.values())
    for offset in taken:
        arena.give(offset)
    assert arena.take(20 * ALIGN) == 0


def _largest_hole(taken: dict[int, int], size: int) -> int:
    ends = [0, *(at + length for at, length in sorted(taken.items()))]
    starts = [*sorted(taken), size]
    return max(start - end for end, start in zip(ends, starts, strict=True))
