"""`augtrain fit`: train a network on batches from a server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from augtrain.cli.run_options import KEYS, overrides_of, run_options

if TYPE_CHECKING:
    from rich.console import Console

    from augtrain.fit import FitResult

_INTERRUPTED = 130  # as shells have it after Ctrl-C

_KEYS = {
    **KEYS,
    "loss": "loss",
    "steps": "steps",
    "seed": "seed",
    "dtype": "batches.dtype",
    "transport": "batches.transport",
    "optimizer": "optimizer.name",
    "momentum": "optimizer.momentum",
    "clip_norm": "optimizer.clip_norm",
    "precision": "optimizer.precision",
    "rate_rule": "learning_rate.rule",
    "augment_from": "augmentation.start",
    "validate_every": "validation.every",
    "checkpoint_every": "checkpoints.every",
    "tensorboard": "tensorboard",
}


def _start(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    return int(value) if value is not None and value.isdigit() else value


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--server", "servers", multiple=True, metavar="ADDRESS", help="host:port; several: a fleet.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; with the same command it goes on where it was stopped.")
@click.option("--loss", help="Such as iou, dice:weighting=square, cross_entropy+0.5*dice.")
@click.option("--steps", type=int, help="Batches to train on, in all.")
@click.option("--seed", type=int)
@run_options
@click.option("--dtype", help="Of images on the way: float32, float16 or uint8.")
@click.option("--transport", help="auto, local or grpc.")
@click.option("--optimizer", help="adam or sgd.")
@click.option("--momentum", type=float, help="Of sgd.")
@click.option("--clip-norm", type=float, help="Largest common norm of the gradients; 0: any.")
@click.option("--rate-rule", help="constant, plateau or period.")
@click.option("--precision", help="float32, mixed_float16 or mixed_bfloat16.")
@click.option(
    "--augment-from",
    callback=_start,
    metavar="STEP|plateau",
    help="First step with augmentation; plateau: once the loss stops falling.",
)
@click.option("--validate-every", type=int, metavar="STEPS", help="0: at the end alone.")
@click.option("--checkpoint-every", type=int, metavar="STEPS")
@click.option("--tensorboard/--no-tensorboard", default=None, help="Write event files.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit(config: Path | None, servers: tuple[str, ...], out: Path | None, as_json: bool, **options: Any) -> int:
    """Train a network on batches from a server.

    All is said by CONFIG, a TOML file, or by options, which take precedence. The run's folder gets the network (model/), checkpoints,
    history.csv, curves.png, prediction.png and event files for TensorBoard. Killed or stopped by Ctrl-C, the same command goes on with the
    very next batch.
    """
    from augclient.errors import ConfigError
    from rich.console import Console

    from augtrain.fit import FitConfig

    overrides = overrides_of(options, _KEYS)
    if servers:
        overrides["server"] = list(servers)
    if out is not None:
        overrides["out"] = str(out)
    read = FitConfig.load(config, overrides) if config is not None else FitConfig.from_table({}, overrides)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, which tells of its build and its optimizer
    try:
        from augtrain.fit import fit as train
        from augtrain.fit.run_progress import RichProgress
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'training needs {error.name}, which is not installed; pip install "augserver-client[train,tensorflow]", or choose another '
            "backend of Keras that is there by KERAS_BACKEND=torch or jax"
        ) from error

    result = train(read, progress=RichProgress(Console(stderr=True)))
    if as_json:
        click.echo(json.dumps(result.to_dict(), allow_nan=False))
    else:
        _print_result(Console(), result)
    if not result.finished:
        click.echo(f"augtrain: stopped at step {result.steps} of {read.steps}; the same command goes on from there", err=True)
        return _INTERRUPTED
    return 0


def _print_result(console: Console, result: FitResult) -> None:
    from rich.table import Table

    table = Table(show_header=False)
    table.add_row("steps", str(result.steps))
    table.add_row("parameters", f"{result.parameters:,}")
    table.add_row("loss, mean of the last 20 steps", f"{result.loss:.4f}")
    if result.augmented_from is not None:
        table.add_row("augmented from step", str(result.augmented_from))
    if result.step_s is not None and result.wait_share is not None:
        table.add_row("time per step", f"{1e3 * result.step_s:.0f} ms")
        table.add_row("of it waiting for data", f"{100 * result.wait_share:.2f} %")
    if result.transport is not None:
        table.add_row("batches came by", {"local": "shared memory", "grpc": "gRPC"}[result.transport])
    if result.best is not None:
        table.add_row("best validation at step", str(result.best.step))
        table.add_row("mean organ Dice", _score(result.best.mean_dice))
        for name, value in result.best.dice.items():
            table.add_row(f"  {name}", _score(value))
    table.add_row("network saved in", str(result.out / "model"))
    console.print(table)


def _score(value: float | None) -> str:
    return "not there" if value is None else f"{value:.4f}"
