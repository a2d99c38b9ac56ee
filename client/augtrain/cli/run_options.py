"""Options that say a run: of `fit`, and of `calibrate` and `compare`, which vary one and leave what is not here to a TOML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from augtrain.cli.value_lists import read_ids, read_sizes

F = TypeVar("F", bound=Callable[..., Any])

KEYS = {
    "recipe": "recipe",
    "token_file": "token_file",
    "tls_ca": "tls_ca",
    "model": "network.name",
    "width": "network.width",
    "patch": "batches.patch",
    "batch_size": "batches.size",
    "volumes": "batches.volumes",
    "learning_rate": "optimizer.learning_rate",
    "validation": "validation.volumes",
    "validation_fraction": "validation.fraction",
    "validation_fold": "validation.fold",
}
"""Option -> key of a FitConfig."""


def run_options(command: F) -> F:
    """Add the options to a click command; all are None where they are not given."""
    options = (
        click.option("--recipe", type=click.Path(path_type=Path, dir_okay=False), help="TOML file of the augmentation."),
        click.option("--model", metavar="NETWORK", help="rister_fcn, unet3d, residual_unet3d, unet2d, fcn2d or deeplabv3."),
        click.option("--width", type=float, help="Factor on the network's feature counts."),
        click.option("--patch", callback=read_sizes, metavar="Z,Y,X", help="Voxels of a patch."),
        click.option("--batch-size", type=int, help="Patches per batch."),
        click.option("--volumes", callback=read_ids, metavar="ID,...", help="Use these volumes alone."),
        click.option("--learning-rate", type=float),
        click.option("--validation", callback=read_ids, metavar="ID,...", help="Volumes that are scored and never trained on."),
        click.option("--validation-fraction", type=float, help="Share of the volumes instead, by a hash of their ids."),
        click.option("--validation-fold", metavar="I/K", help="The I-th (from 0) of K folds instead."),
        click.option("--token-file", type=click.Path(path_type=Path), help="File with the server's token."),
        click.option("--tls-ca", metavar="FILE|system", help="Connect by TLS and trust these authorities."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def overrides_of(options: Mapping[str, Any], keys: Mapping[str, str] = KEYS) -> dict[str, Any]:
    """Overrides for FitConfig.load(), of the options that were given; `keys` as KEYS has them.

    Paths become text, from where the command runs: those in a config are relative to its folder.
    """
    given = {keys[name]: value for name, value in options.items() if value is not None}
    return {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in given.items()}
