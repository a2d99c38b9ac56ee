"""What an ingest does to every scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from augclient.contract import DEFAULT_FILL

from augserver.augment.recipe import MAX_SPACING_MM, MIN_SPACING_MM
from augserver.errors import ConfigError, GeometryError
from augserver.geometry import check_spacing
from augserver.ingest.labels import LabelRule
from augserver.ingest.masks import OVERLAP
from augserver.ingest.readers.nifti_affine import NIFTI_AFFINES

FOURTH_AXIS = ("refuse", "channels")
IDS = ("auto", "names", "hashed")
ORIENTATIONS = ("lps", "file")
AXES = {"lps": "z to Superior, y to Posterior, x to Left", "file": "as each file has them"}


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """What is done to every scan.

    Attributes:
        modality: "ct" or "mr".
        modality_given: whether the user said so; if not, what a dataset or file says to the contrary refuses a scan.
        orientation: "lps" turns the axes of every scan to Superior, Posterior, Left; "file" keeps those of its file.
        strict: whether a scan that looks wrong is refused, and not only told.
        spacing_mm: zyx to resample to; None keeps each scan's own.
        labels: where labels are; None: none, or the scans bring their own.
        labelled: whether the dataset has labels; with `labels` it has.
        fourth_axis: what a fourth axis of a file is: "refuse" it, or take it as "channels".
        min_label_cover: least share of an image that its label's grid must cover, 0 to 1; what is beyond counts as background.
        labels_by_voxel: the headers of labels are not believed: a label's voxels are its scan's, in the order of the files.
        nifti_affine: which of a NIfTI header's two affines is believed, see nifti_affine.NIFTI_AFFINES.
        overlap: which class has a voxel that several masks or segments claim: see masks.merge_masks.
        ids: what volumes are called: by "names" of files; "hashed", by their content; or "auto": by names unless the DICOM headers
            say that the name is the patient's.
        jobs: volumes in work at the same time.
        memory_bytes: estimated memory that they may take together; one volume is always let in.
    """

    modality: str = "ct"
    modality_given: bool = True
    orientation: str = "lps"
    strict: bool = False
    spacing_mm: tuple[float, float, float] | None = None
    labels: LabelRule | None = None
    labelled: bool = False
    fourth_axis: str = "refuse"
    min_label_cover: float = 0.95  # one slice in twenty may be missing; a label of another body part covers far less
    labels_by_voxel: bool = False
    overlap: str = "order"
    nifti_affine: str = "auto"
    ids: str = "auto"
    jobs: int = 1
    memory_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if self.spacing_mm is not None:
            check_spacing(self.spacing_mm, what="--spacing-mm")
            if not all(MIN_SPACING_MM <= each <= MAX_SPACING_MM for each in self.spacing_mm):
                raise GeometryError(f"--spacing-mm must be {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm, got {self.spacing_mm}")
        for name, value, allowed in (
            ("--fourth-axis", self.fourth_axis, FOURTH_AXIS),
            ("--overlap", self.overlap, OVERLAP),
            ("--nifti-affine", self.nifti_affine, NIFTI_AFFINES),
            ("--ids", self.ids, IDS),
            ("--orientation", self.orientation, ORIENTATIONS),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if not 0 <= self.min_label_cover <= 1:
            raise ConfigError(f"--min-label-cover must be 0 to 1, got {self.min_label_cover}")
        if self.jobs < 1 or self.memory_bytes < 1:
            raise ConfigError(f"--jobs and --memory-gb must be positive, got {self.jobs} and {self.memory_bytes} bytes")

    @property
    def fill(self) -> float:
        """The value of voxels that no scan covers: air in a CT."""
        return DEFAULT_FILL[self.modality]

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What goes on record in the dataset, and must be the same when an ingest is resumed."""
        record: dict[str, Any] = {
            "axes": AXES[self.orientation],
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
            "labels": self.labelled or self.labels is not None,
        }
        # Only where it is asked for: datasets from before the option can be resumed without it.
        later = {"nifti_affine": (self.nifti_affine, "auto"), "overlap": (self.overlap, "order")}
        return record | {key: value for key, (value, default) in later.items() if value != default}
