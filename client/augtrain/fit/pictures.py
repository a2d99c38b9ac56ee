"""A run in two pictures: its learning curves, and a volume with the truth and the prediction drawn over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from augtrain.fit.history import History
from augtrain.fit.validation import Segmented

_SMOOTHED = 50  # points along the curve of the training loss, each a mean
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45", "#fabed4", "#469990")
_OPACITY = 0.45


def draw_curves(path: Path, history: History, augmented_from: int | None) -> None:
    """Training and validation loss, and the Dice of each class, over the steps; a line where augmentation begins."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = history.column("loss")
    if len(losses):
        left.plot(np.arange(len(losses)), losses, color="#9db7d5", linewidth=0.6, label="training, each step")
        parts = np.array_split(np.arange(len(losses)), min(_SMOOTHED, len(losses)))
        left.plot([part.mean() for part in parts], [losses[part].mean() for part in parts], color="#1f4e8c", label="training, mean")
    steps = [each.step for each in history.validations]
    if steps:
        left.plot(steps, [each.loss for each in history.validations], "o-", color="#c0392b", markersize=3, label="validation")
        for number, name in enumerate(history.validations[0].dice):
            values = [np.nan if each.dice[name] is None else each.dice[name] for each in history.validations]
            right.plot(steps, values, "o-", markersize=3, color=_COLOURS[number % len(_COLOURS)], label=name)
        right.legend(fontsize=8, loc="lower right")
    else:
        right.text(0.5, 0.5, "no validation volumes", ha="center", va="center", transform=right.transAxes)
    for axes, label in ((left, "loss"), (right, "validation Dice")):
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
        if augmented_from:
            axes.axvline(augmented_from, color="black", linestyle=":", linewidth=1)
    if augmented_from:
        left.plot([], [], ":", color="black", linewidth=1, label="augmentation begins")
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=8)
    right.set_ylim(0, 1)
    figure.savefig(path, dpi=110)


def draw_prediction(path: Path, one: Segmented, classes: dict[int, str], *, title: str) -> None:
    """The planes of each direction with the most of the organs: the image, the truth over it, the prediction over it."""
    figure = Figure(figsize=(10, 10), layout="constrained")
    grid: Any = figure.subplots(3, 3)
    spacing = one.spacing_mm
    for column, (axis, name) in enumerate(((0, "axial"), (1, "coronal"), (2, "sagittal"))):
        others = tuple(each for each in range(3) if each != axis)
        plane = int((one.truth > 0).sum(axis=others).argmax())
        aspect = spacing[others[0]] / spacing[others[1]]
        # z points to the head, so it goes up; y points to the back, so it goes down
        origin = "upper" if axis == 0 else "lower"
        image = np.take(one.image[..., 0], plane, axis=axis)
        for row, labels in enumerate((None, one.truth, one.prediction)):
            axes = grid[row][column]
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, aspect=aspect, origin=origin)
            if labels is not None:
                axes.imshow(_colour(np.take(labels, plane, axis=axis)), aspect=aspect, origin=origin, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        grid[0][column].set_title(f"{name}, plane {plane}", fontsize=10)
    for row, label in enumerate(("image", "truth", "prediction")):
        grid[row][0].set_ylabel(label)
    organs = [(label, name) for label, name in classes.items() if label]
    patches = [Patch(color=_colour_of(label), label=name) for label, name in organs]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 6), fontsize=9)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _colour(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGBA (Y, X, 4); clear where the label is 0."""
    table = np.zeros((256, 4), np.float32)
    for label in range(1, 256):
        table[label] = (*to_rgb(_colour_of(label)), _OPACITY)
    coloured: NDArray[np.float32] = table[labels]
    return coloured


def _colour_of(label: int) -> str:
    return _COLOURS[(label - 1) % len(_COLOURS)]
