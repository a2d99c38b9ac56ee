"""The report of an ingest: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augserver.cli.tables import print_lines, volume_table

if TYPE_CHECKING:
    from augserver.ingest import Outcome


def json_report(out: Path, layout: str, fingerprint: str, outcomes: Sequence[Outcome], skipped: Mapping[str, int]) -> dict[str, Any]:
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
                "converted": list(outcome.notes),
                "resumed": outcome.resumed,
            }
            for outcome in outcomes
            if (info := outcome.info) is not None
        ],
        "refused": [{"id": outcome.id, "reason": outcome.reason} for outcome in outcomes if outcome.info is None],
        "skipped_files": dict(skipped),
    }


def print_report(out: Path, layout: str, fingerprint: str, outcomes: Sequence[Outcome], skipped: Mapping[str, int]) -> None:
    """The same for people: what is in, how it was converted, what was refused and why."""
    accepted = [outcome for outcome in outcomes if outcome.info is not None]
    refused = [outcome for outcome in outcomes if outcome.info is None]
    resumed = sum(outcome.resumed for outcome in outcomes)
    lines = [f"converted {outcome.id}: {'; '.join(outcome.notes)}" for outcome in accepted if outcome.notes]
    lines += [f"refused {outcome.id}: {outcome.reason}" for outcome in refused]
    if accepted:
        volume_table([outcome.info for outcome in accepted if outcome.info is not None])
        lines.append(f"{out}: {len(accepted)} volumes{f' ({resumed} of them from before)' if resumed else ''}, fingerprint {fingerprint}")
    lines.append(f"{len(accepted)} in, {len(refused)} refused{skipped_text(skipped)}{'' if layout == 'plain' else f'; layout {layout}'}")
    print_lines(lines)


def skipped_text(skipped: Mapping[str, int]) -> str:
    """What was found that is no scan, as the end of a sentence; empty if nothing was."""
    shown = ", ".join(f"{count} x {kind}" for kind, count in sorted(skipped.items()))
    return f"; files that are no scans: {shown}" if shown else ""
