"""Tables of volumes for people; pipes get them at full width, unwrapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from augserver.volume import VolumeInfo

_PIPE_WIDTH = 200


def volume_table(volumes: Sequence[VolumeInfo]) -> None:
    """Print one line per volume: id, shape, spacing, dtype, intensity of the first channel, classes."""
    table = Table()
    table.add_column("volume", overflow="fold")
    for heading in ("shape C,Z,Y,X", "spacing z,y,x mm", "dtype", "MB", "range", "percentiles 1, 50, 99", "classes"):
        table.add_column(heading, no_wrap=True)
    for info in volumes:
        classes = sum(1 for key in info.class_voxels if key) if info.has_label else None
        table.add_row(
            Text(info.id),
            "x".join(map(str, info.shape)),
            ", ".join(f"{value:.4g}" for value in info.spacing_mm),
            info.dtype,
            f"{info.size_bytes / 1e6:.1f}",
            *_intensity(info),
            "no label" if classes is None else str(classes),
        )
    _console().print(table)


def _intensity(info: VolumeInfo) -> tuple[str, str]:
    """Range and percentiles of the first channel, of which more are marked by dots."""
    if not info.intensity:
        return "not noted", "not noted"
    first, more = info.intensity[0], " ..." if len(info.intensity) > 1 else ""
    return f"{first.low:.5g} .. {first.high:.5g}{more}", f"{first.p1:.4g}, {first.p50:.4g}, {first.p99:.4g}{more}"


def organ_table(volumes: Mapping[str, Mapping[str, str]]) -> None:
    """Print one line per volume, one column per organ: volume id -> organ -> what became of it."""
    table = Table()
    table.add_column("volume", overflow="fold")
    organs = list(next(iter(volumes.values()), {}))
    for organ in organs:
        table.add_column(organ, no_wrap=True)
    for volume_id, cells in volumes.items():
        table.add_row(Text(volume_id), *(cells[organ] for organ in organs))
    _console().print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they are: no markup, no highlighting, no wrapping at the width of a pipe."""
    console = _console()
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_PIPE_WIDTH)
