"""Medical Segmentation Decathlon and nnU-Net: imagesTr, labelsTr and dataset.json.

The Decathlon keeps channels in a fourth axis, nnU-Net in files of their own: case_0000.nii.gz, case_0001.nii.gz.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from augserver.errors import ConfigError
from augserver.ingest.layouts.arrangement import Arrangement, require_scans, with_label_file
from augserver.ingest.readers.formats import split_suffix
from augserver.ingest.sources import Source, file_source

_CHANNEL = re.compile(r"(.+)_(\d{4})")


def is_decathlon(root: Path) -> bool:
    return _is_image_set(root) and not _has_channel_files(root)


def is_nnunet(root: Path) -> bool:
    return _is_image_set(root) and _has_channel_files(root)


def arrange_decathlon(root: Path) -> Arrangement:
    """Cases imagesTr/NAME with labelsTr/NAME; a fourth axis is channels."""
    scans = tuple(with_label_file(source, root / "labelsTr", source.stem) for source in _images(root))
    return Arrangement(scans=require_scans(scans, "decathlon", "imagesTr with NIfTI files"), classes=_classes(root), fourth_axis="channels")


def arrange_nnunet(root: Path) -> Arrangement:
    """Cases imagesTr/NAME_0000, NAME_0001 ... with labelsTr/NAME."""
    cases: dict[str, dict[int, Source]] = defaultdict(dict)
    for source in _images(root):
        match = _CHANNEL.fullmatch(source.stem)
        if match:
            cases[match[1]][int(match[2])] = source
    scans = []
    for name, channels in sorted(cases.items()):
        first = channels[min(channels)]
        source = replace(
            first,
            stem=name,
            name=(*first.name[:-1], name),
            channels=tuple(channels[key].path for key in sorted(channels) if key != min(channels)),
        )
        if sorted(channels) != list(range(len(channels))):
            source = replace(
                source, problem=f"{name}: has the channels {sorted(channels)}, must be 0 to {len(channels) - 1}; add the missing ones"
            )
        scans.append(source if source.problem else with_label_file(source, root / "labelsTr", name))
    return Arrangement(scans=require_scans(tuple(scans), "nnunet", "imagesTr with files NAME_0000"), classes=_classes(root))


def _is_image_set(root: Path) -> bool:
    return (root / "dataset.json").is_file() and (root / "imagesTr").is_dir()


def _has_channel_files(root: Path) -> bool:
    return all(_CHANNEL.fullmatch(source.stem) for source in _images(root))


def _images(root: Path) -> list[Source]:
    files = sorted((root / "imagesTr").iterdir()) if (root / "imagesTr").is_dir() else []
    return [file_source(file, root) for file in files if split_suffix(file)[1] and not file.name.startswith(".")]


def _classes(root: Path) -> dict[int, str]:
    """Class names of dataset.json: id -> name in the Decathlon and the older nnU-Net, name -> id in the newer one.

    Raises:
        ConfigError: the file cannot be read, or regions overlap (a name with several ids).
    """
    try:
        labels = json.loads((root / "dataset.json").read_text(encoding="utf-8-sig"))["labels"]
        pairs = [_pair(key, value) for key, value in labels.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"dataset.json: its 'labels' cannot be read ({error!r}); wanted is id -> name or name -> id; "
            "or choose --layout plain with --labels"
        ) from error
    return {key: name for key, name in pairs if 0 <= key <= 255}


def _pair(key: str, value: Any) -> tuple[int, str]:
    if isinstance(value, int):
        return value, key
    if isinstance(value, list):
        raise ValueError(f"{key} is the region {value}: overlapping regions are not taken; give each id a name by --classes")
    return int(key), str(value)
