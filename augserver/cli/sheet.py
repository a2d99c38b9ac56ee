"""A sheet of patches as a picture: one column per patch, its three middle views, labels overlaid, a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which colour-blind readers can tell apart; bright ones first, for dark images
PALETTE = ((230, 159, 0), (240, 228, 66), (86, 180, 233), (204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 114, 178))
VIEWS = ("axial", "coronal", "sagittal")

_INK, _PAPER, _FAINT = (232, 232, 236), (18, 18, 22), (150, 150, 160)
_GAP = 10
_ZOOM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One patch of the sheet.

    Attributes:
        title, captions: text above the views; captions are short lines.
        image: float (Z, Y, X) in [0, 1].
        label: uint8 (Z, Y, X), or None: nothing is overlaid.
    """

    title: str
    captions: tuple[str, ...]
    image: NDArray[Any]
    label: NDArray[np.uint8] | None


def colour_of(label: int) -> tuple[int, int, int]:
    """The colour of a label id above 0; repeats after the palette's length."""
    return PALETTE[(label - 1) % len(PALETTE)]


def draw_sheet(columns: Sequence[Column], classes: Mapping[int, str], heading: str, planes: Sequence[int] | None = None) -> Image.Image:
    """Draw the patches side by side, cut at the same planes.

    Args:
        columns: at least one; patches of one shape, with cubic voxels.
        classes: label id -> name, for the legend.
        heading: one line above all.
        planes: one along each axis; None: those that show most of the first patch's classes.
    Returns:
        an RGB image; the head is up, the patient's right on the left, as radiologists have it.
    """
    if planes is None:
        planes = choose_planes(columns[0].image.shape, columns[0].label)
    z, y, x = (n * _ZOOM for n in columns[0].image.shape)
    sizes = ((x, y), (x, z), (y, z))  # width, height of each view
    top, left, lines = 44, 26, max(len(column.captions) for column in columns)
    text_height = 26 + 18 * lines
    height = top + text_height + sum(h + _GAP for _, h in sizes) + 44
    sheet = Image.new("RGB", (left + len(columns) * (x + _GAP), height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((left, 12), heading, fill=_INK, font=_font(19))
    for number, column in enumerate(columns):
        at_x = left + number * (x + _GAP)
        pen.text((at_x, top), column.title, fill=_INK, font=_font(16))
        for line, caption in enumerate(column.captions):
            pen.text((at_x, top + 24 + 18 * line), caption, fill=_FAINT, font=_font(13))
        at_y = top + text_height
        for axis, (width, size) in enumerate(sizes):
            view = _view(column, axis, planes[axis])
            sheet.paste(view, (at_x + (x - width) // 2, at_y))
            if number == 0:
                _write_upwards(sheet, VIEWS[axis], (4, at_y + size // 2))
            at_y += size + _GAP
    _draw_legend(pen, {label: name for label, name in sorted(classes.items()) if label}, (left, height - 34))
    return sheet


def choose_planes(shape: Sequence[int], label: NDArray[np.uint8] | None) -> list[int]:
    """One plane along each axis, that together show the classes well.

    Args:
        shape: (Z, Y, X) of the patch.
        label: uint8 of that shape; None: the middle planes.
    Returns:
        for each axis the plane with most classes that no plane before shows; among equals the one with most classes, then the one
        where the rarest of them is largest.
    """
    if label is None:
        return [n // 2 for n in shape]
    chosen, shown = [], np.zeros(256, bool)
    for axis in range(3):
        counts = np.array([np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(label, axis, 0)])
        counts[:, 0] = 0
        present = counts > 0
        rarest = np.where(present, counts, label.size).min(axis=1)
        worth = list(zip((present & ~shown).sum(axis=1), present.sum(axis=1), rarest, strict=True))
        chosen.append(max(range(len(worth)), key=lambda plane: worth[plane]))
        shown |= present[chosen[-1]]
    return chosen


def _view(column: Column, axis: int, index: int) -> Image.Image:
    grey = np.take(column.image, index, axis=axis)
    label = np.zeros(grey.shape, np.uint8) if column.label is None else np.take(column.label, index, axis=axis)
    if axis > 0:  # rows run along z, which grows towards the head
        grey, label = grey[::-1], label[::-1]
    size = (grey.shape[1] * _ZOOM, grey.shape[0] * _ZOOM)
    pixels = Image.fromarray((np.clip(grey, 0.0, 1.0) * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    rgb = np.repeat(np.asarray(pixels, np.float32)[..., None], 3, axis=2)
    ids = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    inside = ids > 0
    edge = np.zeros_like(inside)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    colours = np.array([(0, 0, 0), *(colour_of(k) for k in range(1, 256))], np.float32)[ids]
    strength = np.where(edge & inside, 0.9, np.where(inside, 0.33, 0.0))[..., None]
    return Image.fromarray((rgb * (1 - strength) + colours * strength).astype(np.uint8))


def _draw_legend(pen: ImageDraw.ImageDraw, classes: Mapping[int, str], corner: tuple[int, int]) -> None:
    x, y = corner
    for label, name in classes.items():
        pen.rectangle((x, y + 3, x + 14, y + 17), fill=colour_of(label))
        pen.text((x + 22, y), name, fill=_INK, font=_font(15))
        x += 22 + int(pen.textlength(name, font=_font(15))) + 26


def _write_upwards(sheet: Image.Image, text: str, middle_left: tuple[int, int]) -> None:
    font = _font(14)
    width = int(font.getlength(text)) + 2
    strip = Image.new("RGB", (width, 18), _PAPER)
    ImageDraw.Draw(strip).text((0, 0), text, fill=_FAINT, font=font)
    x, y = middle_left
    sheet.paste(strip.rotate(90, expand=True), (x, y - width // 2))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
