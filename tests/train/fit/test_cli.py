"""The command: options become a config, errors become a line and an exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from augtrain.cli import main
from augtrain.fit import FitConfig, FitResult
from augtrain.fit.history import Validation

RECIPE = "[window]\nlow = -100\nhigh = 300\n"
BEST = Validation(step=7, loss=0.5, mean_dice=0.75, dice={"liver": 0.75, "bone": None}, volumes={})


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FitConfig]:
    """The configs that the command would train by; each run is stopped at step 7."""
    configs: list[FitConfig] = []

    def fit(config: FitConfig, **_: Any) -> FitResult:
        configs.append(config)
        return FitResult(
            out=config.out,
            steps=7,
            finished=config.steps == 7,
            loss=0.25,
            best=BEST,
            parameters=1234,
            step_s=0.5,
            wait_share=0.0125,
            transport="local",
            augmented_from=3,
        )

    monkeypatch.setattr("augtrain.fit.training_run.fit", fit)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mild.toml").write_text(RECIPE)
    return configs


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["fit", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_every_option_reaches_its_key(seen: list[FitConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--server a:1 --server b:2 --out run --recipe mild.toml --patch 16x24x32 --model unet2d --width 0.5 --loss dice --steps 7"
    options += " --batch-size 3 --dtype uint8 --transport grpc --volumes x,y,z --optimizer sgd --learning-rate 0.5 --momentum 0.8"
    options += " --clip-norm 3 --rate-rule plateau --precision mixed_bfloat16 --augment-from plateau --validation z --validate-every 11"
    options += " --checkpoint-every 13 --seed 17 --token-file secret --tls-ca system --no-tensorboard"
    assert exit_code(*options.split()) == 0
    [config] = seen
    assert config.server == ("a:1", "b:2")
    assert (config.out, config.network, config.network_options, config.loss, config.steps) == (
        Path("run"),
        "unet2d",
        {"width": 0.5},
        "dice",
        7,
    )
    batches = config.batches
    assert (batches.patch, batches.size, batches.dtype, batches.transport) == ((16, 24, 32), 3, "uint8", "grpc")
    assert batches.volumes == ("x", "y", "z")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum, optimizer.clip_norm) == ("sgd", 0.5, 0.8, 3.0)
    assert (optimizer.precision, config.learning_rate.rule, config.augmentation.start) == ("mixed_bfloat16", "plateau", "plateau")
    assert (config.validation.volumes, config.validation.every, config.checkpoints.every) == (("z",), 11, 13)
    assert (config.seed, config.token_file, config.tls_ca, config.tensorboard) == (17, str(tmp_path / "secret"), "system", False)
    table = capsys.readouterr().out
    for text in ("1,234", "0.2500", "500 ms", "1.25 %", "shared memory", "0.7500", "not there", str(Path("run") / "model")):
        assert text in table


def test_options_go_before_the_file_and_a_stopped_run_says_how_to_go_on(
    seen: list[FitConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "run.toml").write_text(
        'server = "a:1"\nout = "run"\nrecipe = "own.toml"\nsteps = 5\n[batches]\npatch = [8, 8, 8]\n[validation]\nfraction = 0.5\n'
    )
    (tmp_path / "config" / "own.toml").write_text(RECIPE.replace("300", "200"))
    assert exit_code("config/run.toml", "--steps", "9", "--augment-from", "4", "--json") == 130
    [config] = seen
    assert (config.steps, config.augmentation.start, config.validation.fraction) == (9, 4, 0.5)
    assert config.recipe.to_dict()["window"]["high"] == [200.0, 200.0]
    captured = capsys.readouterr()
    assert json.loads(captured.out)["best"]["dice"] == {"liver": 0.75, "bone": None}
    assert "stopped at step 7 of 9; the same command goes on from there" in captured.err
    exit_code("config/run.toml", "--recipe", "mild.toml")
    assert seen[1].recipe.to_dict()["window"]["high"] == [300.0, 300.0]


def test_a_backend_that_is_not_installed_is_told_with_a_way_out(
    seen: list[FitConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "augtrain.fit.run_progress", None)  # as for any module that cannot be found
    assert exit_code(*["--server", "a:1", "--out", "r", "--recipe", "mild.toml", "--patch", "8,8,8"]) == 64
    assert "which is not installed; pip install" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 64, "server: got None"),
        ("--server a:1 --out r --recipe mild.toml", 64, "batches.patch: got None"),
        ("--server a:1 --out r --recipe none.toml --patch 8,8,8", 4, "none.toml"),
        ("--server a:1 --out r --recipe mild.toml --patch 8,8,x", 64, "Z,Y,X"),
        ("--server a:1 --out r --recipe mild.toml --patch 8,8,8 --optimizer adma", 64, "did you mean 'adam'"),
        ("nothing.toml", 4, "nothing.toml"),
    ],
)
def test_a_slip_is_one_line_and_an_exit_code(
    seen: list[FitConfig], capsys: pytest.CaptureFixture[str], arguments: str, code: int, message: str
) -> None:
    assert exit_code(*arguments.split()) == code
    assert message in capsys.readouterr().err
    assert seen == []
