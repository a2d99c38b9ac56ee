"""Datasets on disk: Zarr v3 groups of OME-Zarr 0.5 images, written atomically, opened read-only, named by their content."""

from augserver.store.dataset import Dataset
from augserver.store.writer import DatasetWriter

__all__ = ["Dataset", "DatasetWriter"]
