"""Score many label maps: read all headers first, then read and score one volume after the other.

A volume that cannot be scored is named with the reason, and the others are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from augclient.contract import ignored_label
from augclient.errors import AugError
from numpy.typing import NDArray

from augtrain.evaluate.classes import CommonNames
from augtrain.evaluate.grids import Turn, describe_axes, match_grids
from augtrain.evaluate.pairs import Case
from augtrain.label_map import LabelFile, open_label_file
from augtrain.metrics import Report, Summary, check_tolerance, report, summarize


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was scored.

    Attributes:
        reports: by the volume's name.
        summary: over all volumes that were scored.
        refused: the other volumes' names -> why not.
        notes: a volume's name -> what was done to its voxels before they were scored.
    """

    reports: dict[str, Report]
    summary: Summary
    refused: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without NaN."""
        return {
            "volumes": {name: each.to_dict() for name, each in self.reports.items()},
            "summary": self.summary.to_dict(),
            "refused": self.refused,
            "notes": self.notes,
        }


@dataclass(frozen=True, slots=True)
class _Opened:
    """A case whose headers are read and agree."""

    name: str
    prediction: LabelFile
    truth: LabelFile
    turn: Turn

    @property
    def files(self) -> tuple[LabelFile, LabelFile]:
        return self.prediction, self.truth


def evaluate(
    cases: Sequence[Case],
    *,
    refused: Mapping[str, str] | None = None,
    classes: Mapping[int, str] | None = None,
    ignore: int | None = None,
    boundary_tolerance_mm: float | None = None,
    on_case: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score the cases. A truth whose voxels are those of the prediction in another order of the axes is the same grid.

    Args:
        cases, refused: of find_cases().
        classes: id -> name. None: those that the files' headers name; if none does, the ids that the files hold.
        ignore: as of report(); None: the class named "ignore", where there is one.
        boundary_tolerance_mm: as of report().
        on_case: called with a case's name when it is done.
    Returns:
        see Evaluation. A case is refused if a file cannot be trusted, the grids differ, ids lie outside the classes, or headers call a
        class otherwise than most do.
    Raises:
        RequestError: the tolerance is negative or not finite.
    """
    check_tolerance(boundary_tolerance_mm)
    reports: dict[str, Report] = {}
    reasons = dict(refused or {})
    notes: dict[str, list[str]] = {}
    done = on_case or (lambda name: None)
    opened = []
    for case in cases:
        try:
            opened.append(_open(case))
        except (AugError, OSError) as error:
            reasons[case.name] = str(error)
            done(case.name)
    names = None if classes is not None else CommonNames(file for each in opened for file in each.files)
    known = classes if names is None else names.classes or None
    ignore = ignored_label(known or {}) if ignore is None else ignore
    for each in opened:
        said = []
        if each.turn:
            said.append(f"the prediction's axes are turned from {describe_axes(each.prediction.grid)} to {describe_axes(each.truth.grid)}")
        try:
            if names is not None:
                names.check(each.files)
            labels = each.turn.apply(each.prediction.read(said)), each.truth.read(said)
            reports[each.name] = report(
                *labels,
                each.truth.grid.spacing_mm,
                _ids_of(labels) if known is None else known,
                ignore=ignore,
                boundary_tolerance_mm=boundary_tolerance_mm,
                directions=each.truth.grid.sheared_directions,
            )
        except (AugError, OSError) as error:
            reasons[each.name] = str(error)
        else:
            if said:
                notes[each.name] = said
        done(each.name)
    return Evaluation(reports=reports, summary=summarize(reports), refused=dict(sorted(reasons.items())), notes=notes)


def _open(case: Case) -> _Opened:
    prediction, truth = open_label_file(case.prediction), open_label_file(case.truth)
    return _Opened(case.name, prediction, truth, match_grids(prediction.grid, truth.grid))


def _ids_of(labels: Sequence[NDArray[np.unsignedinteger[Any]]]) -> dict[int, str]:
    seen = np.zeros(65536, np.bool_)
    for each in labels:
        for plane in each:
            seen[plane] = True
    return {class_id: f"class {class_id}" for class_id in np.flatnonzero(seen).tolist() if class_id}
