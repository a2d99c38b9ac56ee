"""Prediction and truth as dense class numbers, and how often each pair of classes meets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.errors import GeometryError, RequestError
from numpy.typing import ArrayLike, NDArray

_SHOWN = 8

Indices = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class LabelPair:
    """Two label maps whose ids are replaced by their places in `ids`.

    Attributes:
        ids: ascending; the first is 0, the background.
        prediction: uint8 or uint16, any number of axes longer than 1; `ignored` where the truth has no say.
        truth: as prediction.
    """

    ids: tuple[int, ...]
    prediction: Indices
    truth: Indices

    @property
    def ignored(self) -> int:
        """The number that stands for a voxel without a say."""
        return len(self.ids)

    def confusion(self) -> NDArray[np.int64]:
        """int64 (K, K): voxels by class of the truth (rows) and of the prediction (columns); ignored voxels are in none."""
        size = len(self.ids) + 1
        counts = np.zeros(size * size, np.int64)
        for truth, prediction in zip(self.truth, self.prediction, strict=True):  # by plane: bincount wants 8 bytes per voxel
            counts += np.bincount((truth.astype(np.intp) * size + prediction).ravel(), minlength=size * size)
        return counts.reshape(size, size)[:-1, :-1]


def pair_labels(prediction: ArrayLike, truth: ArrayLike, classes: Iterable[int], ignore: int | None) -> LabelPair:
    """Check two label maps and number their classes.

    Args:
        prediction: integers or booleans; not modified.
        truth: of the same shape.
        classes: the ids that may occur, beside 0.
        ignore: id in the truth that takes a voxel out of every score, whatever the prediction has there.
    Raises:
        GeometryError: the shapes differ, or there is no voxel.
        RequestError: values that are no integers, or ids outside the classes.
    """
    arrays = {"prediction": np.asarray(prediction), "truth": np.asarray(truth)}
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes["prediction"] != shapes["truth"] or 0 in shapes["truth"]:
        raise GeometryError(f"prediction has shape {shapes['prediction']}, truth {shapes['truth']}; they must be equal and hold voxels")
    for name, array in arrays.items():
        if array.dtype.kind not in "iub":
            raise RequestError(f"{name} must hold integer class ids, got {array.dtype}; take the argmax, or cast whole numbers")
    ids = tuple(sorted({0, *(int(class_id) for class_id in classes)}))
    if ids[0] < 0:
        raise RequestError(f"class ids must be >= 0, got {ids[0]}")
    kind: type[np.uint8 | np.uint16] = np.uint8 if len(ids) < 255 else np.uint16
    unknown = int(np.iinfo(kind).max)
    numbers = {class_id: index for index, class_id in enumerate(ids)}
    numbered = {
        "truth": _number(arrays["truth"], numbers if ignore is None else numbers | {ignore: len(ids)}, kind),
        "prediction": _number(arrays["prediction"], numbers, kind),
    }
    if ignore is not None:
        numbered["prediction"][numbered["truth"] == len(ids)] = len(ids)
    for name, indices in numbered.items():
        if indices.max() == unknown:
            found = np.unique(arrays[name][indices == unknown]).tolist()
            more = ", ..." if len(found) > _SHOWN else ""
            raise RequestError(
                f"the {name} has ids outside the classes: {', '.join(map(str, found[:_SHOWN]))}{more}; "
                f"allowed: {', '.join(map(str, ids[:20]))}{', ...' if len(ids) > 20 else ''}; name them as classes"
                f"{', or ignore one' if name == 'truth' else ''}"
            )
    return LabelPair(ids=ids, prediction=numbered["prediction"], truth=numbered["truth"])


def _number(labels: NDArray[Any], numbers: dict[int, int], kind: type[np.uint8 | np.uint16]) -> Indices:
    """Each id's number, the highest of `kind` where it has none; without axes of length 1, which have no neighbours to compare."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 65535:
        raise RequestError(f"class ids must lie in 0 to 65535, got {low} to {high}")
    table = np.full(max(high, 1) + 1, np.iinfo(kind).max, kind)
    for class_id, number in numbers.items():
        if class_id < table.size:
            table[class_id] = number
    squeezed = labels.squeeze() if labels.size > 1 else labels.reshape(1)
    return np.take(table, squeezed)
