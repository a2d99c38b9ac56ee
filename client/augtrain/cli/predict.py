"""`augtrain predict`: scans or a server's volumes in, label maps on the scans' own grids out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from augtrain.cli.sigterm import exit_on_sigterm

if TYPE_CHECKING:
    from augtrain.predict import PredictConfig, Prediction, Refusal
    from augtrain.predict.prediction import OnVolume


@click.command()
@click.argument("sources", nargs=-1, metavar="SRC...")
@click.option("--model", required=True, type=click.Path(path_type=Path), help="Folder of a model: RUN/model of `augtrain fit`.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the results; files of the same name are replaced.")
@click.option("--server", help="Segment volumes of this running server instead, HOST:PORT; SRC are their ids, none means all.")
@click.option("--token-file", type=click.Path(path_type=Path), help="With --server: file with its token.")
@click.option("--tls-ca", help='With --server: encrypt, and trust the certificates in this PEM file, or "system" the system\'s.')
@click.option("--patch", help="Size of a tile, Z,Y,X.  [default: that of the training]")
@click.option("--overlap", type=float, default=0.5, show_default=True, help="Share of a tile's side in common with the next.")
@click.option("--weighting", default="flat", show_default=True, help="Of overlapping tiles: flat, or gaussian about each one's centre.")
@click.option("--batch-size", type=int, default=1, show_default=True, help="Tiles per call of the network.")
@click.option("--tta", type=int, default=0, show_default=True, metavar="N", help="Average over N turned and scaled copies, too.")
@click.option("--tta-recipe", type=click.Path(path_type=Path), help="Draw them from the [affine] of this recipe.")
@click.option("--classes", help="Write these classes only, separated by commas.")
@click.option("--largest-component", is_flag=True, help="Of each class, keep the largest connected piece.")
@click.option("--probabilities", is_flag=True, help="Write the probability of each class, too, in steps of 1/255.")
@click.option("--pictures", type=click.Path(path_type=Path), help="Save a picture of each result in this folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def predict(
    sources: tuple[str, ...],
    model: Path,
    out: Path,
    server: str | None,
    token_file: Path | None,
    tls_ca: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Segment the scans in SRC (files, or folders with all below them) with a trained network.

    What `augserver ingest` reads is read: NIfTI, NRRD, MetaImage, DICOM series; augserver must be installed here, or serve elsewhere
    (--server). Each result is OUT/<id>.nii.gz: class ids on the scan's own grid and orientation, with the names of the classes inside.

    Exit code 0: all are segmented; 3: some were refused, and the report says why.
    """
    from augclient.contract import EXIT_SOME_REFUSED
    from augclient.errors import ConfigError

    config = _config(**options)
    if server is None and not sources:
        raise ConfigError("nothing to segment; name scans or folders of them, or give --server ADDR")
    if server is None and (token_file or tls_ca):
        raise ConfigError("--token-file and --tls-ca belong to a running server; give --server ADDR, or leave them out")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on its own build
    outcomes = []
    with exit_on_sigterm(), _progress() as on_volume:
        if server is None:
            results = _scans(sources, model, out, config, on_volume)
        else:
            results = _volumes(server, token_file, tls_ca, sources, model, out, config, on_volume)
        for outcome in results:
            outcomes.append(outcome)
            if not as_json:
                click.echo(_line(outcome))
    if as_json:
        click.echo(json.dumps(_report(outcomes), indent=1))
    return EXIT_SOME_REFUSED if _report(outcomes)["refused"] else 0


def _config(patch: str | None, tta: int, tta_recipe: Path | None, classes: str | None, **others: Any) -> PredictConfig:
    from augclient import Recipe
    from augclient.errors import ConfigError

    from augtrain.predict import PredictConfig

    if tta_recipe is not None:
        others["recipe"] = Recipe.load(tta_recipe)
        tta = tta or 1
    sides = None
    if patch is not None:
        try:
            z, y, x = (int(side) for side in patch.split(","))
        except ValueError:
            raise ConfigError(f"--patch must be three whole numbers Z,Y,X, got {patch!r}") from None
        sides = z, y, x
    names = None if classes is None else tuple(name.strip() for name in classes.split(","))
    return PredictConfig(patch=sides, transforms=tta, classes=names, **others)


def _scans(sources: Sequence[str], model: Path, out: Path, config: PredictConfig, on_volume: OnVolume) -> Iterator[Prediction | Refusal]:
    from augtrain.predict import predict

    return predict(sources, model, out, config, on_volume=on_volume)


def _volumes(
    address: str,
    token_file: Path | None,
    tls_ca: str | None,
    ids: Sequence[str],
    model: Path,
    out: Path,
    config: PredictConfig,
    on_volume: OnVolume,
) -> Iterator[Prediction | Refusal]:
    """Connect before anything is loaded: a wrong address is told at once."""
    from augclient import TlsConfig, connect

    from augtrain.predict import NetworkSegmenter, predict_volumes

    token = None if token_file is None else _read_token(token_file)
    tls = None if tls_ca is None else TlsConfig(ca=None if tls_ca == "system" else tls_ca)
    with connect(address, token=token, tls=tls) as server:
        yield from predict_volumes(server, ids or None, NetworkSegmenter.load(model, config), out, config, on_volume=on_volume)


def _read_token(path: Path) -> str:
    from augclient.errors import NotFoundError

    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"token file {path} cannot be read: {error}") from error


@contextmanager
def _progress() -> Iterator[OnVolume]:
    """Two bars on stderr, of the scans and of the tiles of the one in hand, where stderr is a terminal.

    They begin with the first scan: before that `augserver ingest` draws its own.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # A redirected stdout gets its lines itself; one on the terminal would write into the bars.
    progress = Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty())
    scans, tiles = progress.add_task("scans", total=None), progress.add_task("tiles", total=None)

    def on_volume(id: str, number: int, count: int) -> Callable[[int, int], None]:
        progress.start()  # no-op once it has
        progress.update(scans, completed=number, total=count)
        progress.reset(tiles, description=id, total=None)

        def on_tile(done: int, total: int) -> None:
            progress.update(tiles, completed=done, total=total)
            progress.update(scans, completed=number + done // total)

        return on_tile

    try:
        yield on_volume
    finally:
        progress.stop()


def _line(outcome: Prediction | Refusal) -> str:
    from augtrain.predict import Refusal

    if isinstance(outcome, Refusal):
        return f"refused {outcome.id}: {outcome.reason}"
    found = ", ".join(f"{name} {ml:.4g} ml" for name, ml in outcome.volume_ml.items() if ml) or "nothing found"
    removed = ", ".join(f"{name} {ml:.3g} ml" for name, ml in outcome.removed_ml.items())
    notes = f"; smaller pieces removed: {removed}" if removed else ""
    if not outcome.on_scan_grid:
        notes += "; on the grid of the server's volume, as it does not know that of the scan: ingest the scan again"
    return f"{outcome.path}: {found}{notes} ({outcome.seconds:.1f} s)"


def _report(outcomes: Sequence[Prediction | Refusal]) -> dict[str, Any]:
    from augtrain.predict import Prediction, Refusal

    return {
        "predictions": [
            {
                "id": each.id,
                "file": str(each.path),
                "shape": list(each.shape),
                "spacing_mm": list(each.spacing_mm),
                "on_scan_grid": each.on_scan_grid,
                "volume_ml": each.volume_ml,
                "removed_ml": each.removed_ml,
                "seconds": round(each.seconds, 3),
            }
            for each in outcomes
            if isinstance(each, Prediction)
        ],
        "refused": [{"id": each.id, "reason": each.reason} for each in outcomes if isinstance(each, Refusal)],
    }
