"""Layouts of public collections: which files are scans, which their labels, what the classes are called."""

from augserver.ingest.layouts.arrangement import Arrangement, FileCount, count_files
from augserver.ingest.layouts.choice import LAYOUTS, PLAIN, arrange, choose_layout
from augserver.ingest.layouts.plain import arrange_plain

__all__ = ["LAYOUTS", "PLAIN", "Arrangement", "FileCount", "arrange", "arrange_plain", "choose_layout", "count_files"]
