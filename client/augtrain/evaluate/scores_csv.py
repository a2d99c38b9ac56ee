"""Scores as a CSV: one row per volume and class, for spreadsheets and statistics."""

from __future__ import annotations

import csv
from pathlib import Path

from augclient.errors import ConfigError

from augtrain.evaluate.evaluation import Evaluation
from augtrain.metrics import CLASS_SCORES

_COLUMNS = ("volume", "class_id", "class", "voxels_truth", "voxels_prediction", *CLASS_SCORES, "undefined")


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write the scores of every volume and class; an undefined score is an empty cell, and the last column says why.

    A volume that was not scored has one row, without a class, and the reason.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for volume, report in evaluation.reports.items():
                for class_id, scores in report.per_class.items():
                    reasons = "; ".join(f"{score}: {reason}" for score, reason in scores.undefined.items())
                    values = [getattr(scores, score) for score in CLASS_SCORES]
                    writer.writerow([volume, class_id, scores.name, scores.counts.truth, scores.counts.prediction, *values, reasons])
            nothing = [""] * (len(_COLUMNS) - 2)
            writer.writerows([volume, *nothing, f"refused: {reason}"] for volume, reason in evaluation.refused.items())
    except OSError as error:
        raise ConfigError(f"--csv {path}: cannot be written: {error.strerror or error}") from error
