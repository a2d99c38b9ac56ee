"""Programs of recipe steps: the same bits on every instruction set and any number of threads, whatever the stages."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augserver.augment.sample import SampleParams
from augserver.kernel import _cpu, open_backend

sys.path.append(str(Path(__file__).resolve().parent))
from step_programs import OPS, with_program


def run(program, volume, patch, *, isa="scalar", threads=1, dtype=np.float32):
    """One sample under a program of its own."""
    affine = np.eye(3, 4, dtype=np.float32)
    affine[0, 1] = 0.25
    with open_backend("cpu", threads=threads, isa=isa) as backend:
        out = backend.allocate((1, len(volume.image), *patch), dtype)
        backend.augment([volume], [with_program(SampleParams(affine=affine), program, dtype)], out)
        return out[0].copy()


@given(
    program=st.lists(st.lists(st.sampled_from(OPS), max_size=5), min_size=2, max_size=2).filter(lambda both: any(both)),
    patch=st.sampled_from([(1, 1, 1), (3, 5, 7), (21, 10, 33), (2, 2, 1100)]),
    dtype=st.sampled_from([np.float32, np.float16]),
)
@settings(max_examples=60, deadline=None)
def test_bytes_do_not_depend_on_instruction_set_and_threads(make_volume, program, patch, dtype):
    volume = make_volume(np.random.default_rng(1).normal(0, 100, (2, 30, 20, 40)).astype(np.float32))
    expected = run(program, volume, patch, dtype=dtype).tobytes()
    sets = _cpu.isas()
    assert len(sets) > 1
    for isa in sets:
        assert run(program, volume, patch, isa=isa, threads=3, dtype=dtype).tobytes() == expected, isa


@pytest.mark.parametrize("instruction_set", _cpu.isas())
def test_every_nan_has_the_same_bits(make_volume, instruction_set):
    image = np.full((1, 4, 4, 4), np.nan, np.float32)
    image.view(np.uint32)[...] = 0xFFC12345
    found = run([[{"op": "multiply", "factor": -2.0}]], make_volume(image), (4, 4, 4), isa=instruction_set).view(np.uint32)
    assert found.min() == found.max() == 0x7FC00000


def test_a_channel_without_ops_is_as_it_was_sampled(make_volume):
    volume = make_volume(np.random.default_rng(1).normal(0, 100, (2, 30, 20, 40)).astype(np.float32))
    both = run([[], [{"op": "contrast", "factor": 1.5}]], volume, (5, 6, 7))
    plain = run([[], [{"op": "shift", "offset": 0.0}]], volume, (5, 6, 7))
    assert np.array_equal(both[0], plain[0])
    sampled = plain[1].astype(np.float64)
    expected = np.clip((sampled - sampled.mean()) * 1.5 + sampled.mean(), sampled.min(), sampled.max())
    assert np.abs(both[1] - expected).max() < 1e-6 * np.abs(sampled).max()
