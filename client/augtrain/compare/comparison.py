"""What a comparison came to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from augtrain.compare.cells import Cell
from augtrain.compare.results import CellResult
from augtrain.compare.summary import Row, summarise


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The results of the cells that were asked for, and which of them are not done.

    Attributes:
        settings: what all cells have in common.
        results: of the cells that are asked for and done, in the order of CompareConfig.cells().
        missing: cells that are not done.
    """

    settings: dict[str, Any]
    results: tuple[CellResult, ...]
    missing: tuple[Cell, ...]

    @property
    def rows(self) -> list[Row]:
        return summarise(self.results)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "settings": self.settings,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "cells": [dataclasses.asdict(each) for each in self.results],
            "missing": [dataclasses.asdict(each) for each in self.missing],
        }
