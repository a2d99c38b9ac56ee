"""The calibration around its runs: who goes on, what is kept, what is written. Most tests answer for the runs themselves."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient.errors import ConfigError, DivergedError, NotFoundError, StateError
from augtrain.calibrate import CalibrateConfig, Weights, calibrate
from augtrain.calibrate.best_toml import make_toml
from augtrain.calibrate.calibration_progress import CalibrateProgress, RichCalibrateProgress
from augtrain.calibrate.picture import draw_calibration
from augtrain.fit import FitConfig
from PIL import Image
from rich.console import Console

pytestmark = pytest.mark.usefixtures("tiny_network")

Template = Callable[..., FitConfig]
FIVE = tuple(Weights(fp=fp, fn=fn) for fp, fn in ((0.5, 1.5), (1.0, 1.0), (1.5, 0.5), (0.25, 1.0), (2.0, 3.0)))
DIVERGED = DivergedError("the loss of step 1 is nan: the training diverged")
# rung by rung; the fourth is worst at first and would be best in the end
SCORES = {
    FIVE[0]: [0.30, 0.50, 0.71],
    FIVE[1]: [0.40, 0.60, 0.70],
    FIVE[2]: [0.35, 0.40, 0.90],
    FIVE[3]: [0.10, 0.99, 0.99],
    FIVE[4]: [None, 0.99, 0.99],
}


def score_of(number: int, config: FitConfig) -> tuple[float | None, dict[str, float | None]]:
    """The scores above; `liver` is the better of two organs the lower the FP weight is."""
    weights = weights_of(config)
    dice = {"liver": 1 / (1 + weights.fp), "bone": 0.9, "bladder": None}
    return SCORES[weights][{10: 0, 20: 1, 40: 2}[config.steps]], dice


def weights_of(config: FitConfig) -> Weights:
    assert not isinstance(config.loss, str)
    return Weights(fp=config.loss["fp_weight"], fn=config.loss["fn_weight"])


@pytest.fixture
def runs(stand_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("augtrain.calibrate.calibration.draw_calibration", lambda *_: None)
    return stand_in("augtrain.calibrate.calibration", score_of)


def of(template: FitConfig, **changes: Any) -> CalibrateConfig:
    return CalibrateConfig(**{"template": template, "candidates": FIVE, "rung_steps": 10, **changes})


def test_the_better_half_goes_on_for_twice_the_steps_until_the_best_is_known(make_template: Template, runs: Any) -> None:
    result = calibrate(of(make_template()))
    trained = [(each.steps, weights_of(each)) for each in runs.configs]
    assert trained == [
        *((10, weights) for weights in FIVE),
        *((20, FIVE[k]) for k in (1, 2, 0)),
        *((40, FIVE[k]) for k in (1, 0)),
    ]
    assert result.best == FIVE[0]
    assert [each.score for each in result.trials] == [0.4, 0.35, 0.3, 0.1, None, 0.6, 0.5, 0.4, 0.71, 0.7]


def test_a_candidate_that_diverges_is_out_and_named_and_the_others_go_on(make_template: Template, runs: Any) -> None:
    runs.ends = {0: DIVERGED, 1: DIVERGED, 5: DIVERGED}
    config, shown = of(make_template()), io.StringIO()
    result = calibrate(config, progress=RichCalibrateProgress(Console(file=shown, width=200)))
    trained = [(each.steps, weights_of(each)) for each in runs.configs]
    assert trained == [*((10, weights) for weights in FIVE), *((20, FIVE[k]) for k in (2, 3, 4)), *((40, FIVE[k]) for k in (3, 4))]
    assert result.best == FIVE[3]
    assert [each.undefined is not None for each in result.trials] == [False, False, False, True, True, False, False, True, False, False]
    assert "step 10, FP / FN 0.5 / 1.5: the loss of step 1 is nan" in shown.getvalue()
    with (config.template.out / "calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["score"] for row in rows if row["undefined"]] == [""] * 3
    assert {row["bone"] for row in rows if not row["undefined"]} == {"0.9"}
    runs.configs.clear()
    assert calibrate(config).best == FIVE[3]
    assert not runs.configs  # that it diverged is a result, and would be the same again


def test_where_all_diverge_there_is_no_best(make_template: Template, runs: Any) -> None:
    runs.ends = dict.fromkeys(range(5), DIVERGED)
    with pytest.raises(DivergedError, match="all candidates of rung 1 diverged; the first: the loss of step 1 is nan"):
        calibrate(of(make_template()))


def test_a_candidate_goes_on_in_its_own_folder_and_each_is_deterministic(make_template: Template, runs: Any) -> None:
    calibrate(of(make_template()))
    folders = {weights: {each.out for each in runs.configs if weights_of(each) == weights} for weights in FIVE}
    assert all(len(each) == 1 for each in folders.values())
    assert len(set().union(*folders.values())) == 5
    assert all(each.optimizer.deterministic for each in runs.configs)
    assert {each.seed for each in runs.configs} == {0}


@pytest.mark.parametrize(
    ("candidates", "keep", "counts"), [(5, 0.5, [5, 3, 2]), (9, 0.5, [9, 5, 3, 2]), (2, 0.5, [2]), (3, 0.9, [3, 2]), (9, 0.25, [9, 3])]
)
def test_rungs_shrink_to_two(make_template: Template, candidates: int, keep: float, counts: list[int]) -> None:
    pairs = tuple(Weights(fp=1.0, fn=0.5 + number) for number in range(candidates))
    assert of(make_template(), candidates=pairs, keep=keep).survivors() == counts


def test_an_organ_or_the_worst_one_may_decide(make_template: Template, runs: Any) -> None:
    result = calibrate(of(make_template({"out": str(make_template().out / "liver")}), score="liver"))
    assert result.best == FIVE[3]  # of the lowest FP weight
    result = calibrate(of(make_template({"out": str(make_template().out / "worst")}), score="worst"))
    assert result.best == FIVE[3]
    assert result.trials[0].score == pytest.approx(1 / 1.25)


def test_the_best_is_a_config_that_fit_reads(make_template: Template, runs: Any) -> None:
    template = make_template({"loss": {"name": "iou", "background": False}, "steps": 77, "optimizer.clip_norm": 3.0})
    result = calibrate(of(template))
    assert result.config == template.out / "best.toml"
    wanted = dataclasses.replace(
        template, out=template.out / "best", loss={"name": "iou", "background": False, "fp_weight": 0.5, "fn_weight": 1.5}
    )
    assert FitConfig.load(result.config) == wanted


def test_any_config_survives_the_way_through_toml(make_template: Template, tmp_path: Path) -> None:
    config = make_template(
        {
            "server": ["127.0.0.1:1", "[::1]:2"],
            "token_file": 'a "quoted" \\ ünïcode.txt',
            "loss": {"name": "sum", "losses": ["cross_entropy", {"name": "iou", "background": False}], "weights": [1, 0.5]},
            "optimizer.learning_rate": 1e-7,
            "augmentation.start": "plateau",
            "validation": {"fold": "1/3", "every": 5},
            "recipe": {"window": {"low": -100, "high": [300, 400]}, "labels": {"keep": ["liver", "bone"]}, "crop": {"mode": "center"}},
        }
    )
    path = tmp_path / "config.toml"
    path.write_text(make_toml(config), encoding="utf-8")
    assert FitConfig.load(path) == config


def test_table_and_picture_are_written(make_template: Template, runs: Any) -> None:
    config = of(make_template())
    result = calibrate(config)
    draw_calibration(config.template.out / "calibration.png", result.trials, config.score)
    with (config.template.out / "calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rung"], row["fp_weight"], row["fn_weight"], row["score"]) for row in rows[4:6]] == [
        ("0", "2.0", "3.0", ""),
        ("1", "1.0", "1.0", "0.6"),
    ]
    pixels = np.asarray(Image.open(config.template.out / "calibration.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("killed_at", [0, 4, 6, 9])
def test_killed_it_goes_on_with_the_trial_that_it_was_in(
    make_template: Template, runs: Any, killed: type[BaseException], killed_at: int
) -> None:
    config = of(make_template())
    runs.ends = {killed_at: killed}
    with pytest.raises(killed):
        calibrate(config)
    result = calibrate(config)
    assert result.best == FIVE[0]
    assert len(runs.configs) == 11
    assert runs.configs[killed_at + 1] == runs.configs[killed_at]


def test_stopped_by_a_signal_there_is_no_best_yet(make_template: Template, runs: Any) -> None:
    config = of(make_template())
    runs.ends = {7: "stopped"}
    result = calibrate(config)
    assert (result.best, result.config, len(result.trials)) == (None, None, 7)
    assert not (config.template.out / "best.toml").exists()
    assert calibrate(config).best == FIVE[0]


@pytest.mark.parametrize(("changes", "named"), [({"keep": 0.3}, "keep was 0.5, and is 0.3"), ({"candidates": FIVE[:4]}, "candidates was")])
def test_the_folder_of_another_calibration_is_refused(make_template: Template, runs: Any, changes: dict[str, Any], named: str) -> None:
    calibrate(of(make_template()))
    with pytest.raises(StateError, match=f"of another calibration: {named}"):
        calibrate(of(make_template(), **changes))
    assert len(runs.configs) == 10


def test_a_file_that_is_none_of_trials_is_refused(make_template: Template, runs: Any) -> None:
    config = of(make_template())
    config.template.out.mkdir()
    (config.template.out / "calibration.json").write_text('{"calibration": {}')
    with pytest.raises(StateError, match="damaged or no file of trials"):
        calibrate(config)


@pytest.mark.parametrize(
    ("changes", "template", "error", "message"),
    [
        ({"score": "livre"}, {}, NotFoundError, "did you mean 'liver'"),
        ({"candidates": FIVE[:1]}, {}, ConfigError, "at least two pairs"),
        ({"candidates": (FIVE[0], FIVE[0])}, {}, ConfigError, "each pair once"),
        ({"keep": 1.0}, {}, ConfigError, "keep"),
        ({"rung_steps": 0}, {}, ConfigError, "rung_steps"),
        ({}, {"loss": "dice"}, ConfigError, 'allowed: "iou"'),
        ({}, {"validation.volumes": []}, ConfigError, "scores volumes that are not trained on"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_trial(
    make_template: Template, runs: Any, changes: dict[str, Any], template: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        calibrate(of(make_template(template), **changes))
    assert runs.configs == []


@pytest.mark.parametrize(("fp", "fn"), [(0.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_weights_that_mean_nothing_are_refused(fp: float, fn: float) -> None:
    with pytest.raises(ConfigError, match="weights"):
        Weights(fp=fp, fn=fn)


def test_the_bar_tells_the_rung_and_the_share_of_all_steps(make_template: Template, runs: Any) -> None:
    shown = io.StringIO()
    progress = RichCalibrateProgress(Console(file=shown, force_terminal=True, width=200))
    calibrate(of(make_template()), progress=progress)
    progress.close()
    assert "step 10, FP / FN 2 / 3: no such organ" in shown.getvalue()
    frames = shown.getvalue().splitlines()
    assert any("rung 3/3, candidate 2/2" in frame and "99%" in frame for frame in frames)  # one step is left of 5 * 10 + 3 * 10 + 2 * 20


@pytest.mark.slow
def test_killed_in_the_second_rung_it_comes_to_the_very_scores_of_an_undisturbed_calibration(
    make_template: Template, killed: type[BaseException], tmp_path: Path
) -> None:
    """Training itself; the same seed gives the same scores to the bit."""

    class KillAt(CalibrateProgress):
        def step(self, step: int, loss: float, wait_share: float | None) -> None:
            if step == 4:
                raise killed

    settings: dict[str, Any] = {"candidates": FIVE[:3], "rung_steps": 2}
    undisturbed = calibrate(of(make_template({"out": str(tmp_path / "undisturbed")}), **settings))
    config = of(make_template(), **settings)
    with pytest.raises(killed):
        calibrate(config, progress=KillAt())
    result = calibrate(config)
    assert result.trials == undisturbed.trials
    assert result.best == undisturbed.best
    assert [each.steps for each in result.trials] == [2, 2, 2, 4, 4]
