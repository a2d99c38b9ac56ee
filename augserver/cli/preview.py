"""`augserver preview`: what a recipe does to a patch, as a picture."""

from __future__ import annotations

import re
from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="DS.zarr")
@click.option("--recipe", "recipe_path", type=click.Path(path_type=Path), required=True, help="TOML file.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="PNG file to write.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The first seed.")
@click.option("--seeds", "count", type=click.IntRange(1, 8), default=5, show_default=True, help="How many seeds, one column each.")
@click.option("--patch", metavar="Z,Y,X", help="Size in voxels.  [default: what every volume can give, at most 96,96,96]")
@click.option("--volume", metavar="ID", help="Which volume.  [default: the first one]")
def preview(path: Path, recipe_path: Path, out: Path, seed: int, count: int, patch: str | None, volume: str | None) -> None:
    """Draw one patch of DS.zarr under several seeds of a recipe, labels overlaid: the samples that a trainer gets, bit for bit.

    The first column is the same place untouched. Titles name seed and sample: server.sample(recipe, index=..., seed=...) gives its voxels.
    """
    from augclient import Recipe

    from augserver.errors import StoreError
    from augserver.store import Dataset
    from augserver.web.patches import PatchMaker
    from augserver.web.studio import SheetRequest, draw_seeds

    recipe = Recipe.load(recipe_path)
    with PatchMaker(Dataset.open(path)) as maker:
        size = maker.usual_patch if patch is None else _read_patch(patch)
        request = SheetRequest(recipe=recipe, volume=volume or maker.dataset.volumes[0], patch=size, seed=seed, count=count)
        png = draw_seeds(maker, request).png
    try:
        out.write_bytes(png)
    except OSError as error:
        raise StoreError(f"{out} cannot be written ({error.strerror}); choose another file for --out") from error
    click.echo(f"{out}: volume {request.volume}, patch {','.join(map(str, size))}, seeds {seed} to {seed + count - 1}")


def _read_patch(text: str) -> tuple[int, ...]:
    from augserver.errors import PatchError

    if not re.fullmatch(r"\d{1,6},\d{1,6},\d{1,6}", text, re.ASCII):
        raise PatchError(f"--patch must be three whole numbers Z,Y,X such as 96,96,96, got {text!r}")
    return tuple(map(int, text.split(",")))
