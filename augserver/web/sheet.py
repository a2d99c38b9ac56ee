"""A sheet of patches as a picture: one column per patch, its three middle views, labels overlaid, a legend."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which colour-blind readers can tell apart; bright ones first, for dark images
PALETTE = ((230, 159, 0), (240, 228, 66), (86, 180, 233), (204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 114, 178))
VIEWS = ("axial", "coronal", "sagittal")
ZOOM = (2.0, 2.0, 2.0)

Box = tuple[int, int, int, int]
"""(left, top, width, height) in pixels of the sheet."""

_INK, _PAPER, _FAINT = (232, 232, 236), (18, 18, 22), (150, 150, 160)
_GAP = 10
_LEFT, _TOP = 26, 44
_ROW = 24  # of the legend
_FILL, _EDGE = 84, 230  # of 255: how strongly a class covers the grey inside and on its outline


@dataclass(frozen=True, slots=True)
class Plane:
    """One cut through a patch.

    Attributes:
        grey: float (rows, columns) in [0, 1].
        label: uint8 of that shape, or None: nothing is overlaid.
    """

    grey: NDArray[Any]
    label: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One patch of the sheet.

    Attributes:
        title, captions: text above the views; captions are short lines.
        planes: across z, y and x.
    """

    title: str
    captions: tuple[str, ...]
    planes: tuple[Plane, Plane, Plane]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A drawn sheet: an RGB picture, and where it shows each view (axial, coronal, sagittal) of each column."""

    picture: Image.Image
    views: tuple[tuple[Box, Box, Box], ...]


def colour_of(label: int) -> tuple[int, int, int]:
    """The colour of a label id above 0; repeats after the palette's length."""
    return PALETTE[(label - 1) % len(PALETTE)]


def cut_planes(image: NDArray[Any], label: NDArray[np.uint8] | None, planes: Sequence[int]) -> tuple[Plane, Plane, Plane]:
    """Copies of three planes of a patch, so that the patch itself can go.

    Args:
        image: float (Z, Y, X) in [0, 1].
        label: uint8 of that shape, or None.
        planes: one along each axis.
    """

    def cut(axis: int) -> Plane:
        ids = None if label is None else np.take(label, planes[axis], axis=axis)
        return Plane(np.take(image, planes[axis], axis=axis), ids)

    return cut(0), cut(1), cut(2)


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


def draw_sheet(columns: Sequence[Column], classes: Mapping[int, str], heading: str, *, zoom: Sequence[float] = ZOOM) -> Sheet:
    """Draw patches side by side.

    Args:
        columns: at least one; planes of patches of one shape.
        classes: label id -> name, for the legend.
        heading: one line above all.
        zoom: pixels per voxel along z, y, x.
    Returns:
        the head is up, the patient's right on the left, as radiologists have it.
    """
    (rows, across), (high, _) = columns[0].planes[0].grey.shape, columns[0].planes[1].grey.shape
    z, y, x = (max(1, round(n * pixels)) for n, pixels in zip((high, rows, across), zoom, strict=True))
    sizes = ((x, y), (x, z), (y, z))  # width, height of each view
    lines = max(len(column.captions) for column in columns)
    text_height = 26 + 18 * lines
    pitch = max(x, y, *map(_text_width, columns)) + _GAP
    width = max(_LEFT + len(columns) * pitch, _LEFT + round(_font(19).getlength(heading)) + _GAP)
    bottom = _TOP + text_height + sum(h + _GAP for _, h in sizes)
    legend = _lay_out_legend({label: name for label, name in sorted(classes.items()) if label}, width)
    height = bottom + 20 + _ROW * max((row + 1 for _, _, _, row in legend), default=1)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_LEFT, 12), heading, fill=_INK, font=_font(19))
    views = []
    for number, column in enumerate(columns):
        at_x = _LEFT + number * pitch
        pen.text((at_x, _TOP), column.title, fill=_INK, font=_font(16))
        for line, caption in enumerate(column.captions):
            pen.text((at_x, _TOP + 24 + 18 * line), caption, fill=_FAINT, font=_font(13))
        at_y = _TOP + text_height
        boxes: list[Box] = []
        for axis, (wide, size) in enumerate(sizes):
            boxes.append((at_x + max(0, x - wide) // 2, at_y, wide, size))
            sheet.paste(_view(column.planes[axis], (wide, size), upside_down=axis > 0), boxes[-1][:2])
            if number == 0:
                _write_upwards(sheet, VIEWS[axis], (4, at_y + size // 2))
            at_y += size + _GAP
        views.append((boxes[0], boxes[1], boxes[2]))
    for label, name, x, row in legend:
        y = bottom + 10 + _ROW * row
        pen.rectangle((x, y + 3, x + 14, y + 17), fill=colour_of(label))
        pen.text((x + 22, y), name, fill=_INK, font=_font(15))
    return Sheet(picture=sheet, views=tuple(views))


def draw_plane(plane: Plane, size: tuple[int, int], *, axis: int) -> Image.Image:
    """One view alone: the plane across `axis`, in `size` (width, height) pixels, turned as on a sheet."""
    return _view(plane, size, upside_down=axis > 0)


def _view(plane: Plane, size: tuple[int, int], *, upside_down: bool) -> Image.Image:
    """`upside_down`: the rows run along z, which grows towards the head."""
    step = -1 if upside_down else 1
    grey = (np.clip(plane.grey[::step], 0.0, 1.0) * 255).astype(np.uint8)
    pixels = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    if plane.label is None:
        return pixels
    shown = Image.fromarray(np.ascontiguousarray(plane.label[::step])).resize(size, Image.Resampling.NEAREST)
    ids = np.asarray(shown)
    edge = np.zeros(ids.shape, bool)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    strength = np.where(ids > 0, np.where(edge, _EDGE, _FILL), 0).astype(np.uint8)
    return Image.composite(Image.fromarray(_COLOURS[ids]), pixels, Image.fromarray(strength))


def _text_width(column: Column) -> int:
    lengths = [_font(13).getlength(caption) for caption in column.captions]
    return round(max([_font(16).getlength(column.title), *lengths]))


def _lay_out_legend(classes: Mapping[int, str], width: int) -> list[tuple[int, str, int, int]]:
    """(label, name, left edge, row) of each class; rows as wide as the sheet."""
    places = []
    x, row = _LEFT, 0
    for label, name in classes.items():
        wide = 22 + int(_font(15).getlength(name)) + 26
        if x > _LEFT and x + wide > width:
            x, row = _LEFT, row + 1
        places.append((label, name, x, row))
        x += wide
    return places


def _write_upwards(sheet: Image.Image, text: str, middle_left: tuple[int, int]) -> None:
    font = _font(14)
    width = int(font.getlength(text)) + 2
    strip = Image.new("RGB", (width, 18), _PAPER)
    ImageDraw.Draw(strip).text((0, 0), text, fill=_FAINT, font=font)
    x, y = middle_left
    sheet.paste(strip.rotate(90, expand=True), (x, y - width // 2))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


_COLOURS = np.array([(0, 0, 0), *(colour_of(k) for k in range(1, 256))], np.uint8)
