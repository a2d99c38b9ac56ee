"""Segment the volumes of a server, or scans from disk, and write each result on its scan's own grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from augclient import Server, Volume, connect
from augclient.errors import BudgetError, StateError, VolumeError, WireError
from numpy.typing import NDArray

from augtrain.label_map import Grid
from augtrain.predict.components import keep_largest_components
from augtrain.predict.picture import save_picture
from augtrain.predict.predict_config import PredictConfig
from augtrain.predict.result_file import write_label, write_probabilities
from augtrain.predict.scan_grid import blocks_on_grid, grid_of, label_on_grid
from augtrain.predict.scan_server import Refusal, serve_scans
from augtrain.predict.segmenter import NetworkSegmenter, OnTile, Segmenter, check_dataset, check_volume, class_ids
from augtrain.sliding_window import Probabilities

PROBABILITIES = "probabilities"  # folder in that of the results: not among the label maps, which are evaluated by folder

OnVolume = Callable[[str, int, int], OnTile]
"""(id, its number from 0, how many there are) at the begin of each volume -> what is told of its tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A scan that was segmented.

    Attributes:
        id: of the volume.
        path: of the label map.
        shape: (Z, Y, X) of the scan's grid.
        spacing_mm: zyx, of that grid.
        on_scan_grid: whether that is the grid of the scan's file; False: the server does not know it, and the result is on the volume's.
        volume_ml: name of each class written -> millilitres of it.
        removed_ml: name -> millilitres that the clean-up made background, where it did.
        seconds: for reading it from the server, segmenting and writing it.
    """

    id: str
    path: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    on_scan_grid: bool
    volume_ml: dict[str, float]
    removed_ml: dict[str, float]
    seconds: float


def predict(
    scans: Sequence[str | Path],
    model_folder: str | Path,
    out: str | Path,
    config: PredictConfig | None = None,
    *,
    on_volume: OnVolume | None = None,
) -> Iterator[Prediction | Refusal]:
    """Segment scans from disk, of any format that `augserver ingest` reads; yields after each scan, when its files are written.

    Args:
        scans: files, or folders with all below them.
        model_folder: as `augtrain fit` left it.
        out: folder of the results, <id>.nii.gz; made if absent, files of these names are replaced.
        config: see PredictConfig.
        on_volume: is told when a scan is begun, and what it returns of the scan's tiles.
    Raises:
        NotFoundError, StateError, PatchError: the model cannot be used (see NetworkSegmenter.load), or a source is not there.
        BackendError: augserver is not installed here. AugError: it failed. All of these before the first scan is segmented.
    """
    config = config or PredictConfig()
    segmenter = NetworkSegmenter.load(model_folder, config)
    _make_folder(Path(out))
    card, sources = segmenter.card, [Path(scan) for scan in scans]
    with serve_scans(
        sources, modality=card.modality, spacing_mm=card.spacing_mm, channels=card.channels, orientation=card.orientation
    ) as served:
        yield from served.refused
        if served.address is None:
            return
        with connect(served.address, token=served.token) as server:
            yield from predict_volumes(server, None, segmenter, out, config, on_volume=on_volume)


def predict_volumes(
    server: Server,
    ids: Sequence[str] | None,
    segmenter: Segmenter,
    out: str | Path,
    config: PredictConfig,
    *,
    on_volume: OnVolume | None = None,
) -> Iterator[Prediction | Refusal]:
    """Segment volumes of a running server; yields after each.

    Args:
        server: of the modality that the network was trained on.
        ids: of the volumes; None: all.
        segmenter: a NetworkSegmenter.
        out, config, on_volume: as for predict.
    Yields:
        A Prediction, or the Refusal of a volume of other channels or spacing, or that the server found damaged.
    Raises:
        NotFoundError: no such volume or class. ConfigError: the server is of another modality. StateError: `out` cannot be written.
        WireError: the server names a volume such that its file would lie elsewhere.

    Memory, with K classes: of each voxel of the volume 4 K + 10 bytes (probabilities, the image as stored and windowed), twice 4 K with
    transforms; of each voxel of the scan's grid 1 byte, K more with probabilities, 5 more where a class's pieces are looked for.
    """
    out = Path(out)
    dataset = server.dataset()
    card = segmenter.card
    check_dataset(dataset, card)
    class_ids(card, config.classes)
    infos = [dataset.info(id) for id in dict.fromkeys(dataset.volumes if ids is None else ids)]
    for info in infos:
        if Path(info.id).name != info.id or info.id.startswith("."):
            raise WireError(f"the server names a volume {info.id!r}, which is no plain name: no file is written under it")
    _make_folder(out / PROBABILITIES if config.probabilities else out)
    for number, info in enumerate(infos):
        on_tile = on_volume(info.id, number, len(infos)) if on_volume else _ignore
        try:
            check_volume(info, card)
            begin = time.monotonic()
            volume = server.volume(info.id)
            done = _write(volume, segmenter(server, volume, on_tile), segmenter, out, config)
        except VolumeError as error:
            yield Refusal(id=info.id, reason=str(error))
        except MemoryError:
            raise BudgetError(f"{info.id}: no memory for the probabilities of its {info.shape[1:]} voxels; use a coarser model") from None
        else:
            yield Prediction(seconds=time.monotonic() - begin, **done)


def _write(volume: Volume, probabilities: Probabilities, segmenter: Segmenter, out: Path, config: PredictConfig) -> dict[str, Any]:
    """The files of one scan; the fields of its Prediction but for the time."""
    card, grid, id = segmenter.card, grid_of(volume.info), volume.info.id
    wanted = class_ids(card, config.classes)
    names = {number: name for number, name in card.classes.items() if number in (0, *wanted)}
    if config.probabilities:
        label, shares = _label_and_shares(probabilities, volume, grid)
        write_probabilities(out / PROBABILITIES / f"{id}.nii.gz", shares, grid, card.classes)
        del shares
    else:
        label = label_on_grid(probabilities, volume.affine, grid)
    removed = _clean_up(label, wanted, config)
    path = out / f"{id}.nii.gz"
    write_label(path, label, grid, names)
    if config.pictures is not None:
        seen = label_on_grid(probabilities, volume.affine, Grid(shape=volume.info.shape[1:], affine=volume.affine))
        _clean_up(seen, wanted, config)
        save_picture(config.pictures / f"{id}.png", volume.image[0], seen, volume.spacing_mm, names, title=id, window=card.window)
    counts = np.bincount(label.ravel(), minlength=card.outputs)
    ml = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
    return {
        "id": id,
        "path": path,
        "shape": grid.shape,
        "spacing_mm": grid.spacing_mm,
        "on_scan_grid": volume.info.source_shape is not None,
        "volume_ml": {names[number]: float(counts[number]) * ml for number in wanted},
        "removed_ml": {names[number]: count * ml for number, count in removed.items()},
    }


def _clean_up(label: NDArray[np.uint8], wanted: Sequence[int], config: PredictConfig) -> dict[int, int]:
    """Leave the wanted classes and, if asked for, their largest pieces; id -> voxels of pieces that went."""
    kept = np.zeros(256, np.uint8)
    kept[list(wanted)] = wanted
    for plane in label:
        plane[...] = kept[plane]
    return keep_largest_components(label, wanted) if config.largest_component else {}


def _label_and_shares(probabilities: Probabilities, volume: Volume, grid: Grid) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The label (Z, Y, X), and 255 times each class's probability (K, Z, Y, X), on the scan's grid."""
    label = np.empty(grid.shape, np.uint8)
    shares = np.empty((probabilities.shape[3], *grid.shape), np.uint8)
    for z, rows, block in blocks_on_grid(probabilities, volume.affine, grid):
        label[z, rows] = block.argmax(axis=-1)
        shares[:, z, rows] = np.moveaxis(np.rint(block * 255), -1, 0)
    return label, shares


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{out} cannot be made ({error}); choose another folder for the results") from error


def _ignore(done: int, total: int) -> None:
    """Nobody asked about tiles."""
