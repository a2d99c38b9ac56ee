"""The report of an ingest: tables for people, JSON for programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augserver.cli.tables import print_lines, volume_table
from augserver.geometry import axis_letters

if TYPE_CHECKING:
    from augserver.ingest import Outcome
    from augserver.ingest.layouts import Arrangement, FileCount


_SHOWN = 5  # names in a line


def json_report(
    out: Path, layout: str, fingerprint: str, outcomes: Sequence[Outcome], found: Arrangement, notices: Sequence[str]
) -> dict[str, Any]:
    """What `--json` prints; scans in their order, whatever the order in which they were done."""
    return {
        "dataset": str(out),
        "layout": layout,
        "fingerprint": fingerprint,
        "volumes": [
            {
                "id": info.id,
                "shape": list(info.shape),
                "dtype": info.dtype,
                "spacing_mm": list(info.spacing_mm),
                "class_voxels": {str(key): count for key, count in info.class_voxels.items()},
                "intensity": [asdict(each) for each in info.intensity],
                "converted": list(outcome.notes),
                "notices": list(outcome.notices),
                "resumed": outcome.resumed,
            }
            for outcome in outcomes
            if (info := outcome.info) is not None
        ],
        "refused": [{"id": outcome.id, "reason": outcome.reason} for outcome in outcomes if outcome.info is None],
        "skipped_files": dict(found.skipped),
        "files": asdict(_count(found, outcomes)),
        "turned": _turned(outcomes),
        "notices": list(notices),
    }


def print_report(out: Path, layout: str, fingerprint: str, outcomes: Sequence[Outcome], found: Arrangement, notices: Sequence[str]) -> None:
    """The same for people: what is in, how it was converted, what was refused and why."""
    accepted = [outcome for outcome in outcomes if outcome.info is not None]
    refused = [outcome for outcome in outcomes if outcome.info is None]
    resumed = sum(outcome.resumed for outcome in outcomes)
    lines = [f"converted {outcome.id}: {'; '.join(outcome.notes)}" for outcome in accepted if outcome.notes]
    lines += [f"refused {outcome.id}: {outcome.reason}" for outcome in refused]
    if accepted:
        volume_table([outcome.info for outcome in accepted if outcome.info is not None])
        lines.append(f"{out}: {len(accepted)} volumes{f' ({resumed} of them from before)' if resumed else ''}, fingerprint {fingerprint}")
    lines += [f"notice {outcome.id}: {notice}" for outcome in accepted for notice in outcome.notices]
    lines += notices
    if turned := _turned(outcomes):
        shown = ", ".join(f"{count} from {letters}" for letters, count in sorted(turned.items()))
        lines.append(
            f"{sum(turned.values())} of {len(accepted)} scans were turned to LPS ({shown}): a network trained on them must predict on "
            "scans that are turned in the same way; --orientation file keeps the axes of the files"
        )
    files = _count(found, outcomes)
    lines.append(f"{files.found} files: {files.taken} taken, {files.refused} refused, {files.skipped} skipped{hidden_text(found)}")
    lines.append(
        f"{len(accepted)} in, {len(refused)} refused{skipped_text(found.skipped)}{'' if layout == 'plain' else f'; layout {layout}'}"
    )
    print_lines(lines)


def dataset_notices(found: Arrangement, sources: Sequence[Path], *, hide: bool) -> list[str]:
    """What must be told of files that no volume is made of.

    Args:
        sources: the paths that the user named.
        hide: whether names are kept out, because they may be the patient's.
    """
    roots = [Path(os.path.abspath(source)) for source in sources]
    alone = [_shown(file, roots) for file in found.alone]
    notices = []
    if alone:
        names = "" if hide else ": " + ", ".join(alone[:_SHOWN]) + (", ..." if len(alone) > _SHOWN else "")
        notices.append(f"{len(alone)} {'label has' if len(alone) == 1 else 'labels have'} no scan{names}")
    for unread in found.unread:
        name = "" if hide else f" {_shown(unread.path, roots)}"
        notices.append(f"{unread.kind}{name}: {unread.reason}; what may be in it is not in the dataset")
    return [*notices, *found.notices]


def _turned(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Letters of the axes of the file -> how many scans were turned from them."""
    infos = (outcome.info for outcome in outcomes if outcome.info is not None)
    letters = ((axis_letters(info.source_affine), axis_letters(info.affine)) for info in infos if info.source_affine is not None)
    return dict(Counter(before for before, after in letters if before != after))


def hidden_text(found: Arrangement) -> str:
    """How much is hidden, as the end of a sentence."""
    return f"; {found.hidden} hidden files or folders left alone" if found.hidden else ""


def _count(found: Arrangement, outcomes: Sequence[Outcome]) -> FileCount:
    from augserver.ingest.layouts import count_files

    return count_files(found, {outcome.index for outcome in outcomes if outcome.info is not None})


def _shown(path: Path, roots: Sequence[Path]) -> str:
    """A path below one of the roots, without what is above it, and of letters that every terminal can print."""
    inside = [path.relative_to(root) for root in roots if path.is_relative_to(root) and path != root]
    return str(inside[0] if inside else path.name).encode("utf-8", "backslashreplace").decode()


def skipped_text(skipped: Mapping[str, int]) -> str:
    """What was found that is no scan, as the end of a sentence; empty if nothing was."""
    shown = ", ".join(f"{count} x {kind}" for kind, count in sorted(skipped.items()))
    return f"; files that are no scans: {shown}" if shown else ""
