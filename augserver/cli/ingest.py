"""`augserver ingest`: scans into a dataset, with a report of what was converted, refused and why."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from augclient.contract import EXIT_NOTHING_USABLE, EXIT_SOME_REFUSED

from augserver.cli.ingest_progress import ingest_with_progress
from augserver.cli.ingest_report import dataset_notices, json_report, print_report, skipped_text
from augserver.cli.tables import print_lines
from augserver.cores import count_cores
from augserver.errors import ConfigError

if TYPE_CHECKING:
    from augserver.ingest import IngestConfig, LabelRule
    from augserver.ingest.layouts import Arrangement

DEFAULT_MODALITY = "ct"
_LAYOUTS = "auto|plain|ct-org|lits|decathlon|nnunet|kits|brats|amos|btcv|flare|acdc|csv|totalsegmentator|chaos"


@dataclass(frozen=True, slots=True)
class _Options:
    """What is asked of one volume's way into the dataset; see the options of the command."""

    spacing_mm: str | None
    modality: str | None
    orientation: str
    strict: bool
    fourth_axis: str | None
    min_label_cover: float
    labels_by_voxel: bool
    overlap: str
    nifti_affine: str
    ids: str
    jobs: int | None
    memory_gb: float | None


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SRC...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the dataset (DS.zarr); an interrupted one is resumed."
)
@click.option("--spacing-mm", help="Resample to this voxel size: one number, or z,y,x.  [default: each scan's own]")
@click.option("--modality", type=click.Choice(["ct", "mr"]), help="What the scans are.  [default: ct]")
@click.option(
    "--orientation",
    type=click.Choice(["lps", "file"]),
    default="lps",
    show_default=True,
    help="Turn the axes of every scan to Superior, Posterior, Left, or keep those of its file. A network must predict as it was trained.",
)
@click.option("--strict", is_flag=True, help="Refuse what the report otherwise only tells: scans that look wrong, labels without a scan.")
@click.option("--layout", default="auto", show_default=True, metavar=_LAYOUTS, help="How scans and labels lie in SRC; auto: if one fits.")
@click.option(
    "--labels",
    help="Where labels are: a folder with files of the same stem, a file name that is in each case's folder, such as segmentation.nii.gz, "
    "or a pattern such as '{id}_seg.nii.gz'.",
)
@click.option("--classes", "classes_path", type=click.Path(path_type=Path), help="Names of the classes, id -> name: TOML, JSON or CSV.")
@click.option("--min-label-cover", type=float, default=0.95, show_default=True, help="Least share of an image that its label must cover.")
@click.option(
    "--labels-by-voxel", is_flag=True, help="Do not believe the headers of labels: take them voxel for voxel, in the order of the files."
)
@click.option(
    "--overlap",
    type=click.Choice(["order", "smallest", "refuse"]),
    default="order",
    show_default=True,
    help="Which class has a voxel that several masks or segments claim: the one with the highest id, the smallest, or refuse the case.",
)
@click.option(
    "--nifti-affine",
    type=click.Choice(["auto", "sform", "qform"]),
    default="auto",
    show_default=True,
    help="Which affine of a NIfTI header places its voxels where its two differ; auto: the sform where other programs agree, else refuse.",
)
@click.option("--fourth-axis", type=click.Choice(["refuse", "channels"]), help="What a fourth axis is.  [default: by layout, else refuse]")
@click.option(
    "--ids",
    type=click.Choice(["auto", "names", "hashed"]),
    default="auto",
    show_default=True,
    help="Call volumes by their files' names, or by a hash of their content; auto: by name, unless DICOM headers show it is the patient's.",
)
@click.option("--organs", help="Label these organs as `augserver label` does: lungs, bone, or lungs,bone.")
@click.option("--pictures", type=click.Path(path_type=Path), help="With --organs: save one picture per volume in this folder.")
@click.option("--jobs", type=int, help="Volumes in work at once.  [default: one per CPU]")
@click.option("--memory-gb", type=float, help="Memory for the volumes in work.  [default: half of this machine's]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def ingest(
    sources: tuple[Path, ...],
    out: Path,
    layout: str,
    labels: str | None,
    classes_path: Path | None,
    as_json: bool,
    spacing_mm: str | None,
    modality: str | None,
    orientation: str,
    strict: bool,
    fourth_axis: str | None,
    min_label_cover: float,
    labels_by_voxel: bool,
    overlap: str,
    nifti_affine: str,
    ids: str,
    organs: str | None,
    pictures: Path | None,
    jobs: int | None,
    memory_gb: float | None,
) -> int:
    """Read the scans in SRC (files, or folders with all below them) into a dataset.

    NIfTI, NRRD, MetaImage and DICOM series are read. Each becomes a volume with axes to Superior, Posterior, Left (see --orientation);
    none is taken whose voxels or geometry cannot be trusted, and what looks wrong is told (see --strict). Volume ids are the names of
    files unless --ids hashed: name files without patient identifiers.

    Exit code 0: all scans are in, and labelled if --organs asks for it; 3: some are not, or a file or folder could not be looked at;
    2: there is nothing usable.
    """
    from augserver.cli.label import json_organs, label_dataset, print_organs
    from augserver.ingest import LabelRule, read_classes
    from augserver.store import DatasetWriter

    wanted = _parse_organs(organs, pictures, modality or DEFAULT_MODALITY, orientation)
    options = _Options(
        spacing_mm,
        modality,
        orientation,
        strict,
        fourth_axis,
        min_label_cover,
        labels_by_voxel,
        overlap,
        nifti_affine,
        ids,
        jobs,
        memory_gb,
    )
    rule = None if labels is None else LabelRule.parse(labels, sources)
    classes = {} if classes_path is None else read_classes(classes_path)
    asked_layout = layout
    layout, found = _find(sources, layout, rule, modality or DEFAULT_MODALITY, classes)
    names = classes or found.classes or (found.collection_classes if layout == asked_layout else {})
    config = _config(options, rule, found)
    unnamed = f"looks like {layout}: pass --layout {layout} for its class names" if found.collection_classes and not names else ""
    notices = dataset_notices(found, sources, hide=ids == "hashed" or any(scan.names_patient for scan in found.scans))
    if not found.scans:
        where = ", ".join(map(str, sources))
        click.echo(f"augserver: no scan in {where}{skipped_text(found.skipped)}; NIfTI, NRRD, MetaImage and DICOM are read", err=True)
        if as_json:
            click.echo(json.dumps(json_report(out, layout, "", [], found, notices), indent=1))
        else:
            print_lines(notices)
        return EXIT_NOTHING_USABLE
    with DatasetWriter(out, modality=config.modality, classes=names, preprocessing=config.preprocessing) as writer:
        outcomes, stopped = ingest_with_progress(found.scans, writer, config)
        if stopped:
            kept = sum(outcome.info is not None for outcome in outcomes)
            click.echo(
                f"augserver: stopped; {kept} of {len(found.scans)} volumes stay in {out}: run the same command again to go on", err=True
            )
            return 128 + stopped
        usable = any(outcome.info is not None for outcome in outcomes)
        fingerprint = writer.finish() if usable else ""
    labelled = label_dataset(out, wanted, pictures) if usable and wanted else None
    if as_json:
        report = json_report(out, layout, fingerprint if labelled is None else labelled.fingerprint, outcomes, found, notices)
        report["unnamed_classes"] = unnamed
        click.echo(json.dumps(report if labelled is None else report | {"organs": json_organs(labelled)}, indent=1))
    else:
        print_report(out, layout, fingerprint, outcomes, found, notices)
        if unnamed:
            click.echo(unnamed)
        if labelled is not None:
            print_organs(out, labelled)
    if not usable:
        return EXIT_NOTHING_USABLE
    if labelled is not None and labelled.stopped:
        return labelled.exit_code
    missing = bool(found.unread) or (strict and bool(found.alone)) or any(outcome.info is None for outcome in outcomes)
    return EXIT_SOME_REFUSED if missing or (labelled and labelled.exit_code) else 0


def _find(sources: Sequence[Path], layout: str, rule: LabelRule | None, modality: str, classes: dict[int, str]) -> tuple[str, Arrangement]:
    """The layout's name and the scans; --labels means the plain one."""
    from augserver.ingest.layouts import PLAIN, arrange, arrange_plain, choose_layout

    if rule is not None and layout not in ("auto", PLAIN):
        raise ConfigError(f"--labels and --layout {layout} both say where labels are; give one")
    chosen, fitting = choose_layout(PLAIN if rule is not None else layout, sources)
    if chosen == PLAIN:
        found = arrange_plain(sources, rule)
        if fitting:
            unclear = f"looks like {' and like '.join(fitting)}, so it was read as plain files: pass --layout for the one that it is"
            found = replace(found, notices=(*found.notices, unclear))
        return chosen, found
    return chosen, arrange(chosen, sources[0], modality=modality, classes=classes, named=chosen == layout)


def _config(options: _Options, rule: LabelRule | None, found: Arrangement) -> IngestConfig:
    from augserver.ingest import IngestConfig

    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return IngestConfig(
        modality=options.modality or DEFAULT_MODALITY,
        modality_given=options.modality is not None,
        orientation=options.orientation,
        strict=options.strict,
        spacing_mm=_parse_spacing(options.spacing_mm),
        labels=rule,
        labelled=any(scan.label is not None for scan in found.scans),
        fourth_axis=options.fourth_axis or found.fourth_axis,
        min_label_cover=options.min_label_cover,
        labels_by_voxel=options.labels_by_voxel,
        overlap=options.overlap,
        nifti_affine=options.nifti_affine,
        ids=options.ids,
        jobs=options.jobs if options.jobs is not None else count_cores(),
        memory_bytes=half if options.memory_gb is None else int(options.memory_gb * 1e9),
    )


def _parse_organs(organs: str | None, pictures: Path | None, modality: str, orientation: str) -> tuple[str, ...]:
    from augserver.ingest.organ_labels import parse_organs

    if organs is None:
        if pictures is not None:
            raise ConfigError("--pictures shows the organs that --organs labels; give both")
        return ()
    if modality != "ct":
        raise ConfigError(f"--organs finds organs by their HU, so that --modality must be ct, got {modality}")
    if orientation != "lps":
        raise ConfigError(f"--organs finds organs in turned axes, so that --orientation must be lps, got {orientation}")
    return parse_organs(organs)


def _parse_spacing(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ConfigError(f"--spacing-mm must be one number or three as z,y,x, got {text!r}")
    return values[0], values[1], values[2]
