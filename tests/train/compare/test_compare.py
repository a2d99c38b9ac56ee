"""The comparison around its runs: which there are, what is kept of them, what the tables say. Most tests answer for the runs themselves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augclient.errors import ConfigError, DivergedError, NotFoundError, PatchError, StateError
from augtrain.cli import main
from augtrain.compare import LOSSES, Cell, CompareConfig, Spread, compare
from augtrain.compare.comparison_progress import CompareProgress, RichCompareProgress
from augtrain.compare.comparison_tables import make_markdown
from augtrain.fit import FitConfig
from rich.console import Console

pytestmark = pytest.mark.usefixtures("tiny_network")

Template = Callable[..., FitConfig]


SCORES = [0.5, 0.7, 0.4, 0.9, 0.65, 0.3, 0.8, 0.1]
DIVERGED = DivergedError("the loss of step 1 is nan: the training diverged")


def score_of(number: int, config: FitConfig) -> tuple[float | None, dict[str, float | None]]:
    """The scores above in turn."""
    score = SCORES[number % len(SCORES)]
    return score, {"liver": score, "bladder": score / 2, "bone": None}


@pytest.fixture
def runs(stand_in: Callable[..., Any]) -> Any:
    return stand_in("augtrain.compare.comparison_run", score_of)


def small(template: FitConfig, **changes: Any) -> CompareConfig:
    """Eight cells: two losses, with and without augmentation, two seeds."""
    return CompareConfig(**{"template": template, "losses": ("iou", "dice:weighting=square"), "seeds": (4, 7), **changes})


def test_each_cell_is_a_run_that_differs_in_its_loss_its_augmentation_and_its_seed_alone(make_template: Template, runs: Any) -> None:
    template = make_template()
    compare(CompareConfig(template=template, seeds=(0, 3)))
    assert len(runs.configs) == len({each.out for each in runs.configs}) == 2 * 2 * len(LOSSES)
    varied = [(each.seed, each.loss, "affine" in each.recipe.to_dict()) for each in runs.configs]
    assert varied == [(seed, loss, augmented) for seed in (0, 3) for loss in LOSSES for augmented in (False, True)]
    for each in runs.configs:
        assert (each.steps, each.batches, each.validation, each.network) == (3, template.batches, template.validation, "tiny")
        assert each.recipe.to_dict()["window"] == ({"low": [-1000, -600], "high": [400, 800]} if "affine" in each.recipe.to_dict() else
                                                   {"low": [-800, -800], "high": [600, 600]})  # fmt: skip


def test_the_tables_have_mean_and_sample_deviation_over_the_seeds(make_template: Template, runs: Any) -> None:
    config = small(make_template())
    comparison = compare(config)
    means, deviations = np.mean([0.5, 0.65]), np.std([0.5, 0.65], ddof=1)
    with (config.template.out / "table.csv").open() as file:
        first, *_ = rows = list(csv.DictReader(file))
    assert [(row["loss"], row["augmented"]) for row in rows] == [
        ("iou", "False"),
        ("iou", "True"),
        ("dice:weighting=square", "False"),
        ("dice:weighting=square", "True"),
    ]
    assert float(first["mean_dice_mean"]) == pytest.approx(means)
    assert float(first["mean_dice_sd"]) == pytest.approx(deviations)
    assert float(first["bladder_mean"]) == pytest.approx(means / 2)
    assert (first["mean_dice_n"], first["bone_n"], first["bone_mean"]) == ("2", "0", "")
    markdown = (config.template.out / "table.md").read_text().splitlines()
    assert markdown[0] == "| loss | augmentation | n | mean organ Dice | liver | bladder | bone |"
    assert markdown[2] == "| `iou` | without | 2 | 0.575 ± 0.106 | 0.575 ± 0.106 | 0.287 ± 0.053 | - |"
    assert make_markdown(comparison).splitlines() == markdown
    document = json.loads((config.template.out / "comparison.json").read_text())
    assert document["rows"][3]["mean_dice"] == {
        "mean": pytest.approx(np.mean([0.9, 0.1])),
        "sd": pytest.approx(np.std([0.9, 0.1], ddof=1)),
        "n": 2,
    }
    with (config.template.out / "cells.csv").open() as file:
        assert [float(row["mean_dice"]) for row in csv.DictReader(file)] == SCORES


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    assert str(Spread.of([0.25])) == "0.250"
    assert Spread.of([0.25]).sd is None
    assert str(Spread.of([None, None])) == "-"
    assert Spread.of([None, 0.5, 0.25]).n == 2


def test_killed_it_goes_on_with_the_cell_that_it_was_in(make_template: Template, runs: Any, killed: type[BaseException]) -> None:
    config = small(make_template())
    runs.ends = {3: killed}
    with pytest.raises(killed):
        compare(config)
    comparison = compare(config)
    assert comparison.missing == ()
    assert len(runs.configs) == 9
    assert runs.configs[4].out == runs.configs[3].out
    compare(config)
    assert len(runs.configs) == 9  # all is done


def test_a_cell_that_diverges_is_undefined_and_named_and_the_others_go_on(make_template: Template, runs: Any) -> None:
    config = small(make_template())
    runs.ends = {0: DIVERGED, 2: DIVERGED, 6: DIVERGED}
    shown = io.StringIO()
    comparison = compare(config, progress=RichCompareProgress(Console(file=shown, width=200)))
    assert len(runs.configs) == 8
    assert comparison.missing == ()
    assert [(each.undefined is not None, each.mean_dice) for each in comparison.results] == [
        *((True, None), (False, 0.7), (True, None), (False, 0.9)),
        *((False, 0.65), (False, 0.3), (True, None), (False, 0.1)),
    ]
    assert "1/8  iou without augmentation, seed 4: the loss of step 1 is nan: the training diverged  (0 s)" in shown.getvalue()
    markdown = (config.template.out / "table.md").read_text().splitlines()
    assert markdown[2:5] == [
        "| `iou` | without | 2, 1 diverged | 0.650 | 0.650 | 0.325 | - |",
        "| `iou` | with | 2 | 0.500 ± 0.283 | 0.500 ± 0.283 | 0.250 ± 0.141 | - |",
        "| `dice:weighting=square` | without | 2, 2 diverged | diverged | diverged | diverged | diverged |",
    ]
    with (config.template.out / "table.csv").open() as file:
        assert [(row["diverged"], row["mean_dice_n"]) for row in csv.DictReader(file)] == [("1", "1"), ("0", "2"), ("2", "0"), ("0", "2")]
    with (config.template.out / "cells.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["undefined"], first["mean_dice"]) == ("the loss of step 1 is nan: the training diverged", "")
    assert compare(config).results == comparison.results
    assert len(runs.configs) == 8  # it is a result, and would be the same again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "told"), [(3, "the loss of step 1 is nan: the training diverged"), (1, "answers with numbers that are not finite")]
)
def test_training_at_a_rate_that_is_far_too_high_is_such_a_cell(make_template: Template, steps: int, told: str) -> None:
    template = make_template({"optimizer": {"name": "sgd", "learning_rate": 1e30}, "steps": steps})
    (cell,) = compare(CompareConfig(template=template, losses=("cross_entropy",), augmented=(False,), seeds=(1,))).results
    assert told in (cell.undefined or "")


def test_half_a_line_at_the_end_is_cut_off_and_its_cell_run_again(make_template: Template, runs: Any) -> None:
    config = small(make_template(), seeds=(4,))
    whole = compare(config)
    path = config.template.out / "results.jsonl"
    text = path.read_text()
    path.write_text(text[: text.rindex("{") + 40])
    runs.configs.clear()
    runs.score = lambda number, config: score_of(number + 3, config)
    again = compare(config)
    assert [each.out.name for each in runs.configs] == [Cell(loss="dice:weighting=square", augmented=True, seed=4).name]
    assert [each.mean_dice for each in again.results] == [each.mean_dice for each in whole.results]
    assert len(path.read_text().splitlines()) == 5


def test_stopped_by_a_signal_it_tells_what_is_missing_and_writes_what_is_there(make_template: Template, runs: Any) -> None:
    config = small(make_template())
    runs.ends = {2: "stopped"}
    comparison = compare(config)
    assert (len(comparison.results), len(comparison.missing)) == (2, 6)
    assert len((config.template.out / "table.md").read_text().splitlines()) == 4


def test_seeds_and_losses_may_be_added_to_a_comparison(make_template: Template, runs: Any) -> None:
    compare(small(make_template(), seeds=(4,), losses=("iou",)))
    comparison = compare(small(make_template()))
    assert len(runs.configs) == 8
    assert [each.seeds for each in comparison.rows] == [(4, 7)] * 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 4}, "steps was 3, and is 4"),
        ({"validation.volumes": ["torso_2"]}, "validation was"),
        ({"batches.size": 1}, "batches was"),
    ],
)
def test_the_folder_of_another_comparison_is_refused(make_template: Template, runs: Any, changes: dict[str, Any], named: str) -> None:
    compare(small(make_template()))
    runs.configs.clear()
    with pytest.raises(StateError, match=f"of another comparison: {named}"):
        compare(small(make_template(changes)))
    assert runs.configs == []


def test_results_of_another_backend_are_not_taken_for_this_ones(
    make_template: Template, runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(small(make_template()))
    monkeypatch.setattr("keras.backend.backend", lambda: "of tomorrow")
    with pytest.raises(StateError, match=r'of another comparison: backend was "[a-z]+", and is "of tomorrow" now'):
        compare(small(make_template()))


@pytest.mark.parametrize("content", ["not JSON\n", "[]\n", '{"comparison": {}}\n{"loss": 3}\n'])
def test_a_file_that_is_none_of_results_is_refused_and_left_alone(make_template: Template, runs: Any, content: str) -> None:
    config = small(make_template())
    config.template.out.mkdir()
    path = config.template.out / "results.jsonl"
    path.write_text(content)
    with pytest.raises(StateError, match="choose another folder by --out"):
        compare(config)
    assert path.read_text() == content


def test_two_comparisons_cannot_share_a_folder_at_once(make_template: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(make_template())

    def second(*_: Any, **__: Any) -> Any:
        return compare(config)

    monkeypatch.setattr("augtrain.compare.comparison_run.fit", second)
    with pytest.raises(StateError, match="in use by another augtrain compare"):
        compare(config)


@pytest.mark.parametrize(
    ("changes", "template", "error", "message"),
    [
        ({"losses": ("iou", "dyce")}, {}, ConfigError, "did you mean 'dice'"),
        ({"losses": ()}, {}, ConfigError, "losses: got .*at least one"),
        ({"seeds": (1, 1)}, {}, ConfigError, "seeds: got .*each once"),
        ({}, {"validation.volumes": []}, ConfigError, "scores volumes that are not trained on"),
        ({}, {"validation.volumes": ["torso_9"]}, NotFoundError, "torso_9"),
        ({}, {"recipe": {"window": {"low": -100, "high": 300}}}, ConfigError, "no augmentation to compare"),
        ({}, {"batches.patch": [7, 6, 10]}, PatchError, "nearest"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_cell(
    make_template: Template, runs: Any, changes: dict[str, Any], template: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare(small(make_template(template), **changes))
    assert runs.configs == []


def test_the_bar_tells_the_cell_and_the_share_of_all_steps(make_template: Template, runs: Any) -> None:
    shown = io.StringIO()
    progress = RichCompareProgress(Console(file=shown, force_terminal=True, width=200))
    compare(small(make_template()), progress=progress)
    progress.close()
    assert "1/8  iou without augmentation, seed 4: mean Dice 0.500  (0 s)" in shown.getvalue()
    frames = shown.getvalue().splitlines()
    assert any("cell 8/8" in frame and "96%" in frame for frame in frames)  # 7 cells of 3 steps and 2 steps of the eighth


def test_a_server_and_a_dataset_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["compare", "--server", "127.0.0.1:1", "--dataset", str(tmp_path), "--out", str(tmp_path / "out")])
    assert left.value.code == ConfigError.exit_code
    assert "give one of them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_in_the_middle_of_a_run_it_comes_to_the_scores_of_an_undisturbed_comparison(
    make_template: Template, killed: type[BaseException], tmp_path: Path
) -> None:
    """Training itself, killed at the third step of the second cell, past its checkpoint of step 2."""

    class KillAt(CompareProgress):
        steps = 0

        def step(self, step: int, loss: float, wait_share: float | None) -> None:
            self.steps += 1
            if self.steps == 6:
                raise killed

    one: dict[str, Any] = {"losses": ("dice",), "seeds": (5,)}
    undisturbed = compare(CompareConfig(template=make_template({"out": str(tmp_path / "undisturbed")}), **one))
    config = CompareConfig(template=make_template(), **one)
    with pytest.raises(killed):
        compare(config, progress=KillAt())
    result = compare(config)
    assert [each.cell for each in result.results] == config.cells()
    for ours, theirs in zip(result.results, undisturbed.results, strict=True):
        assert ours.training_loss == pytest.approx(theirs.training_loss, rel=1e-4)
        assert ours.mean_dice == pytest.approx(theirs.mean_dice, abs=0.01)
    plain, augmented = result.results
    assert plain.training_loss != augmented.training_loss
