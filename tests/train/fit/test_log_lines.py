"""Without a terminal a training says how far it is, in lines that a log file can hold."""

from __future__ import annotations

import io

import pytest
from augtrain.fit.log_lines import LINE_S
from augtrain.fit.run_progress import RichProgress
from rich.console import Console

STEPS = 200
STEP_S = 1.5


def lines_of(*, terminal: bool, begin: int = 0) -> list[str]:
    """What is printed by a training of STEPS steps that take STEP_S each, and a validation of 80 s after step 100."""
    now = [1000.0]
    out = io.StringIO()
    progress = RichProgress(Console(file=out, width=150, force_terminal=terminal), clock=lambda: now[0])
    with progress.shown(begin, STEPS):
        for step in range(begin + 1, STEPS + 1):
            now[0] += STEP_S
            progress.step(step, 1 / step, 0.25 if step > 1 else None)
            for tenth in range(10 if step == 100 else 0):
                now[0] += 8
                progress.validating(tenth / 10)
    return out.getvalue().splitlines()


def test_the_first_and_the_last_step_and_one_in_half_a_minute_between() -> None:
    lines = lines_of(terminal=False)
    every = int(LINE_S / STEP_S)
    assert lines[0] == "step 1 of 200: loss 1.0000"
    assert lines[1] == f"step {1 + every} of 200: loss 0.0476  waiting 25.0 %  0:04:28 left"
    assert [int(line.split()[1]) for line in (*lines[:5], *lines[8:])] == [1, 21, 41, 61, 81, 115, 135, 155, 175, 195, 200]
    assert lines[5:8] == ["validating, 0 %", "validating, 40 %", "validating, 80 %"]
    assert lines[-1] == "step 200 of 200: loss 0.0050  waiting 25.0 %"


def test_a_run_that_goes_on_reckons_from_where_it_went_on() -> None:
    first, second, *_ = lines_of(terminal=False, begin=150)
    assert first == "step 151 of 200: loss 0.0066  waiting 25.0 %"  # it compiled the network, and says nothing of the pace
    assert second == "step 171 of 200: loss 0.0058  waiting 25.0 %  0:00:44 left"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_has_a_bar_in_place_of_the_lines(terminal: bool) -> None:
    said = "\n".join(lines_of(terminal=terminal))
    assert ("step 1 of 200" in said, "200/200" in said) == (not terminal, terminal)
