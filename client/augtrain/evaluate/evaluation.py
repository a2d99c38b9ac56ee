"""Score many label maps: check all headers first, then read and score one volume after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from augclient.errors import RequestError
from numpy.typing import NDArray

from augtrain.evaluate.classes import classes_of
from augtrain.evaluate.grids import check_same_grid
from augtrain.evaluate.pairs import Case
from augtrain.label_map import open_label_file
from augtrain.metrics import Report, Summary, report, summarize


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was scored.

    Attributes:
        reports: by the volume's name.
        summary: over all volumes.
    """

    reports: dict[str, Report]
    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without NaN."""
        return {"volumes": {name: each.to_dict() for name, each in self.reports.items()}, "summary": self.summary.to_dict()}


def evaluate(
    cases: Sequence[Case],
    *,
    classes: Mapping[int, str] | None = None,
    ignore: int | None = None,
    boundary_tolerance_mm: float | None = None,
    on_case: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score the cases.

    Args:
        cases: of find_cases().
        classes: id -> name. None: those that the files' headers name; where none does, the ids that the files hold.
        ignore, boundary_tolerance_mm: as of report().
        on_case: called with a case's name when it is done.
    Raises:
        GeometryError: two grids differ, or one has no meaning; found for all cases before the first is scored.
        VolumeError, NotFoundError: a file that cannot be trusted or is not there.
        RequestError: ids outside the classes, or headers that contradict each other.
    """
    files = [(case, open_label_file(case.prediction), open_label_file(case.truth)) for case in cases]
    for case, prediction, truth in files:
        check_same_grid(prediction.grid, truth.grid, case.name)
    if classes is None:
        classes = classes_of(file for _, prediction, truth in files for file in (prediction, truth))
    reports: dict[str, Report] = {}
    for case, prediction, truth in files:
        labels = prediction.read(), truth.read()
        try:
            reports[case.name] = report(
                *labels,
                truth.grid.spacing_mm,
                _ids_of(labels) if classes is None else classes,
                ignore=ignore,
                boundary_tolerance_mm=boundary_tolerance_mm,
                directions=truth.grid.sheared_directions,
            )
        except RequestError as error:
            raise type(error)(f"{case.name}: {error}") from error
        if on_case is not None:
            on_case(case.name)
    return Evaluation(reports=reports, summary=summarize(reports))


def _ids_of(labels: Sequence[NDArray[np.unsignedinteger[Any]]]) -> dict[int, str]:
    seen = np.zeros(65536, np.bool_)
    for each in labels:
        for plane in each:
            seen[plane] = True
    return {class_id: f"class {class_id}" for class_id in np.flatnonzero(seen).tolist() if class_id}
