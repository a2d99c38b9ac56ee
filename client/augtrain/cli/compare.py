"""`augtrain compare`: losses with and without augmentation, over several seeds, as a table."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from augtrain.cli.run_options import overrides_of, run_options
from augtrain.cli.sigterm import exit_on_sigterm
from augtrain.cli.value_lists import read_seeds

if TYPE_CHECKING:
    from augtrain.compare import CompareConfig

_INTERRUPTED = 130  # as shells have it after Ctrl-C
_AUGMENTED = {"both": (False, True), "with": (True,), "without": (False,)}
_TORSO_FOLD = "0/3"  # two torsos of six are validated with


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--server", "servers", multiple=True, metavar="ADDRESS", help="host:port; several: a fleet.")
@click.option(
    "--dataset", type=click.Path(path_type=Path), help="Serve this dataset of `augserver ingest` instead, for the time of the comparison."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder; with the same command it goes on where it was stopped."
)
@click.option("--loss", "losses", multiple=True, help="A loss to compare, as for fit; several.  [default: the papers' seven]")
@click.option("--augmentation", type=click.Choice(list(_AUGMENTED)), default="both", show_default=True)
@click.option("--seeds", callback=read_seeds, default="0,1,2", show_default=True, metavar="N,...", help="Runs of each cell.")
@click.option("--steps", type=int, help="Batches to train on, per run.")
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def compare(
    config: Path | None,
    servers: tuple[str, ...],
    dataset: Path | None,
    out: Path,
    losses: tuple[str, ...],
    augmentation: str,
    seeds: list[int],
    steps: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Train with every loss, with and without augmentation, over several seeds, and print Dice on volumes that were not trained on.

    Without --server and --dataset it is the synthetic torsos of `augserver demo`, which are made for it. CONFIG, a TOML file as for fit,
    says everything else of the runs; without one they are small ones of a narrow 3-D U-Net on voxels of 12 mm.

    OUT gets table.md, table.csv, cells.csv, comparison.json, and results.jsonl with a line per run that is done.
    """
    from augclient.errors import ConfigError
    from rich.console import Console

    from augtrain.compare import LOSSES

    if servers and dataset is not None:
        raise ConfigError("--server and --dataset together; give one of them: a server that runs, or a dataset to serve")
    overrides = {**overrides_of(options), "out": str(out)}
    if steps is not None:
        overrides["steps"] = steps
    if config is None and not any(key.startswith("validation.") for key in overrides):
        overrides["validation.fold"] = _TORSO_FOLD
    variation = {"losses": losses or LOSSES, "augmented": _AUGMENTED[augmentation], "seeds": tuple(seeds)}
    _read(config, {**overrides, "server": ["127.0.0.1:0"]}, variation)  # what is wrong is told before anything is made or served

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported, which tells of its build
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it takes a new run's step for an old one that is traced too often
    from augtrain.compare import compare as run
    from augtrain.compare.comparison_progress import RichCompareProgress
    from augtrain.compare.comparison_tables import make_table
    from augtrain.compare.torso_server import serve_for_comparison

    progress = RichCompareProgress(Console(stderr=True))
    with contextlib.ExitStack() as stack:
        stack.enter_context(exit_on_sigterm())
        stack.callback(progress.close)
        if not servers:
            servers = (stack.enter_context(serve_for_comparison(dataset)),)
        comparison = run(_read(config, {**overrides, "server": list(servers)}, variation), progress=progress)
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), allow_nan=False))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=200)
        console.print(make_table(comparison))
        console.print(f"saved in {out}: table.md, table.csv, cells.csv, comparison.json", highlight=False, soft_wrap=True)
    if comparison.missing:
        click.echo(f"augtrain: stopped with {len(comparison.missing)} cells to go; the same command goes on", err=True)
        return _INTERRUPTED
    return 0


def _read(config: Path | None, overrides: dict[str, Any], variation: dict[str, Any]) -> CompareConfig:
    from augtrain.compare import CompareConfig
    from augtrain.compare.cells import TORSOS
    from augtrain.fit import FitConfig

    return CompareConfig(template=FitConfig.load(config or TORSOS, overrides), **variation)
