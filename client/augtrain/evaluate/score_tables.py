"""Scores as tables for people; pipes get them at full width, unwrapped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from augtrain.evaluate.evaluation import Evaluation
from augtrain.metrics import OVERLAP_SCORES, SURFACE_SCORES, ClassSummary, Report, Spread, Summary, Undefined

_PIPE_WIDTH = 200
_MAX_COLUMNS = 12  # classes; with more, the table of volumes has their mean alone
_HEADINGS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "voe": "VOE",
    "rvd": "RVD",
    "sensitivity": "sens.",
    "specificity": "spec.",
    "precision": "prec.",
    "assd": "ASSD",
    "mssd": "MSSD",
    "rmsd": "RMSD",
    "hd95": "HD95",
    "bf_score": "boundary F",
}
_OVERALL = {
    "mean_dice": "mean Dice of the organs",
    "accuracy": "accuracy",
    "mean_iou": "mean IoU, background included",
    "weighted_iou": "weighted IoU, background included",
    "mean_sensitivity": "mean sensitivity, background included",
    "mean_bf_score": "mean boundary F-score of the organs",
}


def print_evaluation(evaluation: Evaluation) -> None:
    """Print a table of volumes, two of classes, the totals, why scores are undefined, and which volumes were not scored, and why."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    if evaluation.reports:
        _print_scores(console, evaluation)
    for name, said in evaluation.notes.items():
        console.print(Text(f"note {name}: {'; '.join(said)}"), soft_wrap=True)
    for name, reason in evaluation.refused.items():
        console.print(Text(f"refused {name}: {reason}"), soft_wrap=True)
    if evaluation.refused:
        scored = f"{len(evaluation.reports)} of {len(evaluation.reports) + len(evaluation.refused)} volumes are scored"
        console.print(Text(f"{scored}; the scores are of these alone"), soft_wrap=True)


def _print_scores(console: Console, evaluation: Evaluation) -> None:
    summary = evaluation.summary
    present = {key: each for key, each in summary.per_class.items() if each.counts.truth or each.counts.prediction}
    organs = {key: each for key, each in present.items() if key}
    if summary.volumes > 1:
        console.print(_volumes_table(evaluation, organs))
    over = f", mean over {summary.volumes} volumes" if summary.volumes > 1 else ""
    console.print(_classes_table(f"Overlap{over}", OVERLAP_SCORES, ("dice",), present.values(), summary.volumes))
    console.print(_classes_table(f"Surfaces, mm{over}", SURFACE_SCORES, SURFACE_SCORES, organs.values(), summary.volumes))
    for line in _totals(summary, [each.boundary_tolerance_mm for each in evaluation.reports.values()]):
        console.print(Text(line), soft_wrap=True)
    for line in _notes(present, absent=len(summary.per_class) - len(present)):
        console.print(Text(line), soft_wrap=True)


def _volumes_table(evaluation: Evaluation, organs: dict[int, ClassSummary]) -> Table:
    table = Table(title="Dice per volume", title_justify="left")
    table.add_column("volume", overflow="fold")
    shown = organs if len(organs) <= _MAX_COLUMNS else {}
    for each in shown.values():
        table.add_column(Text(each.name), justify="right")
    for heading in ("mean", "accuracy", "mean IoU"):
        table.add_column(heading, justify="right")
    for name, report in evaluation.reports.items():
        cells = [_dice_of(report, class_id) for class_id in shown]
        overall = report.overall
        totals = [_number(overall.value(score)) for score in ("mean_dice", "accuracy", "mean_iou")]
        table.add_row(Text(name), *cells, *totals)
    return table


def _dice_of(report: Report, class_id: int) -> str:
    return _number(report.per_class[class_id].value("dice") if class_id in report.per_class else Undefined.ABSENT_IN_BOTH)


def _classes_table(title: str, scores: Sequence[str], with_std: Collection[str], classes: Iterable[ClassSummary], volumes: int) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    pooled = volumes > 1 and "dice" in scores
    for score in scores:
        table.add_column(_HEADINGS[score], justify="right")
    if pooled:
        table.add_column("global Dice", justify="right")
    for each in classes:
        cells = [_spread(each.per_case[score], with_std=score in with_std) for score in scores]
        table.add_row(Text(each.name), *cells, *([_number(each.global_dice)] if pooled else []))
    return table


def _totals(summary: Summary, tolerances_mm: list[float]) -> list[str]:
    low, high = min(tolerances_mm), max(tolerances_mm)
    tolerance = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    volumes = f"{summary.volumes} volume{'s' * (summary.volumes > 1)}"
    lines = [f"global Dice of the organs, {volumes} pooled: {_number(summary.overall.dice)}"]
    for score, words in _OVERALL.items():
        suffix = f", tolerance {tolerance} mm" if score == "mean_bf_score" else ""
        lines.append(f"{words}{suffix}: {_spread(summary.per_case[score])}")
    return lines


def _notes(present: dict[int, ClassSummary], absent: int) -> list[str]:
    """Why cells are empty, scores of one reason together."""
    lines = []
    for each in present.values():
        scores_of: dict[tuple[str, int], list[str]] = {}
        for score, spread in each.per_case.items():
            for reason, count in spread.undefined.items():
                if reason != Undefined.NOT_MEASURED:  # the background's surface: of every table, and the cells are empty
                    scores_of.setdefault((reason, count), []).append(score)
        for (reason, count), scores in scores_of.items():
            words = f"{reason} in {count} volume{'s' * (count > 1)}"
            lines.append(f"{each.name}: {words}, without a value there: {', '.join(scores)}")
    if absent:
        lines.append(f"{absent} named class{'es are' if absent > 1 else ' is'} in no volume")
    return lines


def _spread(spread: Spread, *, with_std: bool = True) -> str:
    if spread.mean is None:
        return "-"
    return f"{spread.mean:.3f} ± {spread.std:.3f}" if with_std and spread.std is not None else f"{spread.mean:.3f}"


def _number(value: float | Undefined | None) -> str:
    return "-" if value is None or isinstance(value, Undefined) else f"{value:.3f}"
