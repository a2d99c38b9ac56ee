"""Run the cells that are not done, one after another in this process, and keep each as it is done."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import keras
from augclient.contract import ignored_label
from augclient.errors import DivergedError

from augtrain.compare.cells import Cell, CompareConfig
from augtrain.compare.comparison import Comparison
from augtrain.compare.comparison_progress import CompareProgress
from augtrain.compare.comparison_tables import write_tables
from augtrain.compare.results import CellResult, open_results
from augtrain.fit import fit
from augtrain.fit.connection import ask_dataset
from augtrain.fit.learner import find_network
from augtrain.losses import parse_loss


def compare(config: CompareConfig, *, progress: CompareProgress | None = None) -> Comparison:
    """Train every cell that has no result yet, and write the tables.

    The folder gets results.jsonl, table.md, table.csv, cells.csv, comparison.json and the runs. Stopped by SIGINT or SIGTERM it returns
    with cells `missing`; killed or not, the same call goes on in the middle of the cell that it was in.

    Raises:
        What augtrain.fit.fit() raises, before the first cell where it can be known then, but for DivergedError: such a cell has an
            undefined result. StateError: the folder is another comparison's.
    """
    progress = progress or CompareProgress()
    template = config.template
    find_network(template)
    dataset, volumes = ask_dataset(template)
    for loss in config.losses:
        parse_loss(loss, class_voxels=volumes.class_voxels, ignore=ignored_label(volumes.classes))
    identity = config.identity(dataset.fingerprint, keras.backend.backend())
    cells = config.cells()
    with open_results(template.out, identity) as kept:
        for number, cell in enumerate(cells):
            if cell in kept.results:
                continue
            done = sum(each in kept.results for each in cells)
            with progress.cell(cell, done, len(cells), template.steps):
                result = _train(config, cell, progress)
            if result is None:
                break
            kept.add(result)
            progress.finished(result, number + 1, len(cells))
        results = tuple(kept.results[cell] for cell in cells if cell in kept.results)
        missing = tuple(cell for cell in cells if cell not in kept.results)
        comparison = Comparison(settings=identity, results=results, missing=missing)
        write_tables(template.out, comparison)
    return comparison


def _train(config: CompareConfig, cell: Cell, progress: CompareProgress) -> CellResult | None:
    """A cell's result; None where a signal stopped it."""
    begin = time.perf_counter()
    found: dict[str, Any]
    try:
        result = fit(config.run_of(cell), progress=progress, pictures=False)
    except DivergedError as error:  # it would do so again, and says something of the loss
        found = {"undefined": str(error)}
    else:
        if not result.finished or result.best is None:
            return None
        best = result.best
        found = {"steps": result.steps, "best_step": best.step, "training_loss": result.loss}
        found |= {"mean_dice": best.mean_dice, "dice": best.dice}
    finally:
        # what the last network left behind in this process would add up over the cells
        keras.utils.clear_session()
    return CellResult(**dataclasses.asdict(cell), **found, seconds=round(time.perf_counter() - begin, 3))
