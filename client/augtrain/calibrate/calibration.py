"""Successive halving: train all candidates for a while, keep the better ones, train these for as long again, and so on.

A candidate goes on from its own checkpoint, so a rung costs what it adds. What is done is kept: after any kill the same call repeats
nothing but the steps since the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
from augclient.errors import DivergedError, NotFoundError

from augtrain.calibrate.best_toml import write_best
from augtrain.calibrate.calibration_progress import CalibrateProgress
from augtrain.calibrate.candidates import MEAN, WORST, CalibrateConfig, Weights
from augtrain.calibrate.picture import draw_calibration
from augtrain.calibrate.trial_tables import write_trials
from augtrain.calibrate.trials import Trial, hold_trials, value
from augtrain.fit import fit
from augtrain.fit.connection import ask_dataset
from augtrain.fit.history import Validation
from augtrain.fit.learner import find_network
from augtrain.fit.toml_table import name_nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a calibration came to.

    Attributes:
        trials: rung by rung, each from best to worst.
        best: None where it was stopped before its end.
        config: the TOML file for `augtrain fit`; None as `best`.
    """

    trials: tuple[Trial, ...]
    best: Weights | None
    config: Path | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "best": None if self.best is None else {"fp_weight": self.best.fp, "fn_weight": self.best.fn},
            "config": None if self.config is None else str(self.config),
            "trials": [asdict(each) for each in self.trials],
        }


def calibrate(config: CalibrateConfig, *, progress: CalibrateProgress | None = None) -> Calibration:
    """Choose the weights.

    The folder gets calibration.json, calibration.csv, calibration.png, best.toml and the candidates' runs. Stopped by SIGINT or SIGTERM it
    returns with `best` None; killed or not, the same call goes on.

    Raises:
        What augtrain.fit.fit() raises, before the first trial where it can be known then. NotFoundError: no organ has the name of the
            score. StateError: the folder is another calibration's. DivergedError: all candidates' trainings diverged; where some did, the
            others go on without them.
    """
    progress = progress or CalibrateProgress()
    template = config.template
    find_network(template)
    dataset, volumes = ask_dataset(template)
    _check_score(config.score, [name for label, name in volumes.classes.items() if label])
    counts = config.survivors()
    ranked: list[Trial] = []
    stopped = False
    with hold_trials(template.out, config.identity(dataset.fingerprint, keras.backend.backend())) as kept:
        survivors: Sequence[Weights] = config.candidates
        for rung, count in enumerate(counts):
            survivors = survivors[:count]
            for number, weights in enumerate(survivors):
                if kept.find(rung, weights) is None:
                    with progress.trial(weights, rung, number, counts, config):
                        trial = _train(config, weights, rung, progress)
                    if trial is None:
                        stopped = True
                        break
                    kept.add(trial)
                    progress.finished(trial)
            done = [each for each in (kept.find(rung, weights) for weights in survivors) if each is not None]
            ranked += rank(done)
            if stopped:
                break
            survivors = [each.weights for each in rank(done) if each.undefined is None]
            if not survivors:
                raise DivergedError(f"all candidates of rung {rung + 1} diverged; the first: {done[0].undefined}")
        write_trials(template.out / "calibration.csv", ranked)
        if ranked:
            draw_calibration(template.out / "calibration.png", ranked, config.score)
        if stopped:
            return Calibration(trials=tuple(ranked), best=None, config=None)
        best = survivors[0]
        path = write_best(template.out, config, best)
    return Calibration(trials=tuple(ranked), best=best, config=path)


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """From best to worst; of equal ones the first stays first."""
    return sorted(trials, key=value, reverse=True)


def _train(config: CalibrateConfig, weights: Weights, rung: int, progress: CalibrateProgress) -> Trial | None:
    """Train a candidate to the end of a rung; None where a signal stopped it."""
    trial = Trial(rung=rung, fp=weights.fp, fn=weights.fn, steps=config.steps_of(rung), score=None, mean_dice=None, dice={})
    try:
        result = fit(config.run_of(weights, rung), progress=progress, pictures=False)
    except DivergedError as error:  # worse than all that did not
        return replace(trial, undefined=str(error))
    finally:
        # what the last network left behind in this process would add up over the trials
        keras.utils.clear_session()
    if not result.finished or result.best is None:
        return None
    best = result.best
    return replace(trial, steps=result.steps, score=_score(config.score, best), mean_dice=best.mean_dice, dice=best.dice)


def _score(score: str, found: Validation) -> float | None:
    if score == MEAN:
        return found.mean_dice
    if score == WORST:
        return min((value for value in found.dice.values() if value is not None), default=None)
    return found.dice[score]


def _check_score(score: str, organs: list[str]) -> None:
    allowed = [MEAN, WORST, *organs]
    if score not in allowed:
        raise NotFoundError(f"score: there is no organ {score!r}{name_nearest(score, allowed)}")
