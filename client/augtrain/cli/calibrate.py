"""`augtrain calibrate`: the weights of false positives and false negatives in the IoU loss."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import click

from augtrain.cli.run_options import overrides_of, run_options
from augtrain.cli.value_lists import read_numbers

_INTERRUPTED = 130  # as shells have it after Ctrl-C


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--server", "servers", multiple=True, metavar="ADDRESS", help="host:port; several: a fleet.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; with the same command it goes on where it was stopped.")
@click.option("--fp", callback=read_numbers, default="0.5,1,1.5", show_default=True, help="Weights of false positives.")
@click.option(
    "--fn", callback=read_numbers, default="0.5,1,1.5", show_default=True, help="Weights of false negatives; every pair is a candidate."
)
@click.option("--rung-steps", type=int, default=100, show_default=True, help="Batches before the first choice; each rung doubles them.")
@click.option("--keep", type=float, default=0.5, show_default=True, help="Share of the candidates that go on.")
@click.option("--score", default="mean", show_default=True, help="Dice to choose by: mean, worst, or an organ's name.")
@click.option("--steps", type=int, help="Of the run that best.toml describes.")
@click.option("--seed", type=int)
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def calibrate(
    config: Path | None,
    servers: tuple[str, ...],
    out: Path | None,
    fp: list[float],
    fn: list[float],
    rung_steps: int,
    keep: float,
    score: str,
    steps: int | None,
    seed: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Tune the weights of false positives and false negatives in the IoU loss on a server's volumes.

    All pairs of --fp and --fn are trained for a while and scored on validation volumes; the better half goes on, each from its own
    checkpoint, until one is left. CONFIG, a TOML file as for fit, says the rest of the runs; options take precedence.

    OUT gets best.toml for `augtrain fit`, calibration.csv, calibration.png and calibration.json.
    """
    from rich.console import Console

    from augtrain.calibrate import CalibrateConfig, Weights
    from augtrain.fit import FitConfig

    overrides = overrides_of(options)
    given = {"server": list(servers) or None, "out": None if out is None else str(out), "steps": steps, "seed": seed}
    overrides |= {key: value for key, value in given.items() if value is not None}
    template = FitConfig.load(config, overrides) if config is not None else FitConfig.from_table({}, overrides)
    candidates = tuple(Weights(fp=a, fn=b) for a in fp for b in fn)
    read = CalibrateConfig(template=template, candidates=candidates, rung_steps=rung_steps, keep=keep, score=score)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, which tells of its build
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it takes a new run's step for an old one that is traced too often
    from augtrain.calibrate import calibrate as run
    from augtrain.calibrate.calibration_progress import RichCalibrateProgress
    from augtrain.calibrate.trial_tables import make_table

    progress = RichCalibrateProgress(Console(stderr=True))
    try:
        result = run(read, progress=progress)
    finally:
        progress.close()
    if as_json:
        click.echo(json.dumps(result.to_dict(), allow_nan=False))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=160)
        console.print(make_table(result.trials, result.best, score))
    if result.best is None:
        click.echo("augtrain: stopped before the best is known; the same command goes on", err=True)
        return _INTERRUPTED
    if not as_json:
        click.echo(f"best: FP weight {result.best.fp:g}, FN weight {result.best.fn:g}; train with it: augtrain fit {result.config}")
    return 0
