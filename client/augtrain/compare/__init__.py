"""The papers' comparisons, at the size of one machine: losses with and without augmentation, each with its spread over seeds.

    CompareConfig -> cells (loss x augmentation x seed), each a run of augtrain.fit -> results.jsonl -> summary -> tables

Importing this imports no Keras; `compare` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from augtrain.compare.cells import LOSSES, Cell, CompareConfig
from augtrain.compare.comparison import Comparison
from augtrain.compare.results import CellResult
from augtrain.compare.summary import Row, Spread, summarise

if TYPE_CHECKING:
    from augtrain.compare.comparison_run import compare

__all__ = ["LOSSES", "Cell", "CellResult", "CompareConfig", "Comparison", "Row", "Spread", "compare", "summarise"]


def __getattr__(name: str) -> Any:
    if name == "compare":
        from augtrain.compare import comparison_run

        return comparison_run.compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
