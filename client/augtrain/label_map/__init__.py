"""Label maps in NIfTI files: ids on a grid, with the names of their classes in the header."""

from augtrain.label_map.class_names import class_names_extension, class_names_of
from augtrain.label_map.label_file import SUFFIXES, Grid, LabelFile, open_label_file

__all__ = ["SUFFIXES", "Grid", "LabelFile", "class_names_extension", "class_names_of", "open_label_file"]
