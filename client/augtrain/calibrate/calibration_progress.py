"""Who is told how far a calibration is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from augtrain.calibrate.candidates import CalibrateConfig, Weights
from augtrain.calibrate.trials import Trial
from augtrain.fit.progress_over_runs import RichProgressOverRuns
from augtrain.fit.run_progress import RunProgress


class CalibrateProgress(RunProgress):
    """Nobody; the base of those who show it. A trial's run tells it of its steps."""

    @contextmanager
    def trial(self, weights: Weights, rung: int, number: int, counts: Sequence[int], config: CalibrateConfig) -> Iterator[None]:
        """While the number-th candidate (from 0) of a rung is trained; `counts` of them are on each rung."""
        yield

    def finished(self, trial: Trial) -> None:
        """A trial has a score."""


class RichCalibrateProgress(RichProgressOverRuns, CalibrateProgress):
    """A bar over the steps that all rungs take, and a line for each trial that is done."""

    @contextmanager
    def trial(self, weights: Weights, rung: int, number: int, counts: Sequence[int], config: CalibrateConfig) -> Iterator[None]:
        ends = [config.steps_of(each) for each in range(len(counts))]
        added = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
        total = sum(count * steps for count, steps in zip(counts, added, strict=True))
        done = sum(count * steps for count, steps in zip(counts[:rung], added, strict=False)) + number * added[rung]
        description = f"rung {rung + 1}/{len(counts)}, candidate {number + 1}/{counts[rung]}"
        with self._shown_run(description, f"FP / FN {weights}", done=done, total=total, begin=ends[rung] - added[rung]):
            yield

    def finished(self, trial: Trial) -> None:
        score = trial.undefined or ("no such organ" if trial.score is None else f"{trial.score:.3f}")
        self._print(f"step {trial.steps}, FP / FN {trial.weights}: {score}")
