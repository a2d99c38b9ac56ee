"""From scans on disk to a dataset: readers, geometry checks, re-orientation, labels, resampling."""

from augserver.ingest.classes import read_classes
from augserver.ingest.config import IngestConfig
from augserver.ingest.intake import Outcome
from augserver.ingest.labels import LabelRule
from augserver.ingest.run import ingest_scans, select_scans
from augserver.ingest.sources import Found, find_sources

__all__ = ["Found", "IngestConfig", "LabelRule", "Outcome", "find_sources", "ingest_scans", "read_classes", "select_scans"]
