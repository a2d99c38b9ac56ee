"""Layouts of public collections: which files are scans, which their labels, what the classes are called."""

from augserver.ingest.layouts.arrangement import Arrangement
from augserver.ingest.layouts.choice import LAYOUTS, arrange, choose_layout

__all__ = ["LAYOUTS", "Arrangement", "arrange", "choose_layout"]
