"""A share waits for itself alone, and is refused where it has nothing to wait for."""

from __future__ import annotations

import threading

import pytest

from augserver.errors import BudgetError, StateError
from augserver.pipeline.byte_budget import ByteBudget


def test_what_exceeds_a_share_is_refused_with_the_name_of_the_setting():
    budget = ByteBudget(100, 60, section="warp")
    with budget.open() as share, pytest.raises(BudgetError, match=r"takes 61 bytes .* warp\.max_stream_bytes is 60"):
        share.take(61, "the volume")
    assert budget.statistics().used_bytes == 0


def test_a_share_is_refused_while_others_hold_the_room_and_let_in_afterwards():
    budget = ByteBudget(100, 60, section="warp")
    with budget.open() as first, budget.open() as second:
        first.take(60, "the volume")
        with pytest.raises(BudgetError, match=r"takes 41 bytes .* warp\.max_bytes = 100 other calls hold 60"):
            second.take(41, "the volume")
        second.take(40, "the volume")
        second.give(40)
        first.give(60)
        second.take(41, "the volume")
        assert budget.statistics().used_bytes == 41
    assert budget.statistics().used_bytes == 0


@pytest.mark.parametrize("size_bytes", [31, 50])  # too much for the share beside its own 30; too much for all beside the other's 40
def test_a_share_that_holds_something_waits_until_it_gives_that_back(size_bytes):
    budget = ByteBudget(100, 60, section="warp")
    with budget.open() as other, budget.open() as share:
        other.take(40, "the volume")
        share.take(30, "the volume")
        waiting = threading.Thread(target=share.take, args=(size_bytes, "the volume"))
        waiting.start()
        assert waiting.is_alive()
        share.give(30)
        waiting.join(10)
        assert budget.statistics().used_bytes == 40 + size_bytes


def test_closing_a_share_wakes_its_waiter_and_gives_everything_back():
    budget = ByteBudget(100, 60, section="warp")
    share = budget.open()
    share.take(60, "the volume")
    raised: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(StateError) as caught:
            share.take(1, "the volume")
        raised.append(caught.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    share.close()
    waiting.join(10)
    assert "end of its call" in str(raised[0])
    assert budget.statistics().used_bytes == 0
