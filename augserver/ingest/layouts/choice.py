"""Choose a layout by its name, or by looking where only one fits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from augserver.errors import ConfigError, NotFoundError
from augserver.ingest.layouts.arrangement import Arrangement
from augserver.ingest.layouts.chaos import arrange_chaos, is_chaos
from augserver.ingest.layouts.image_sets import arrange_decathlon, arrange_nnunet, is_decathlon, is_nnunet
from augserver.ingest.layouts.mask_folders import arrange_mask_folders, is_mask_folders
from augserver.ingest.layouts.numbered import arrange_ct_org, arrange_lits, is_ct_org, is_lits
from augserver.ingest.layouts.pairs_csv import arrange_pairs_csv, is_pairs_csv

PLAIN = "plain"
_DETECTORS: dict[str, Callable[[Path], bool]] = {
    "ct-org": is_ct_org,
    "lits": is_lits,
    "decathlon": is_decathlon,
    "nnunet": is_nnunet,
    "csv": is_pairs_csv,
    "totalsegmentator": is_mask_folders,
    "chaos": is_chaos,
}
LAYOUTS = ("auto", PLAIN, *_DETECTORS)


def choose_layout(name: str, roots: Sequence[Path]) -> str:
    """The layout that `--layout NAME` means for these paths: "auto" is the only one that fits, or "plain" if none or several do.

    Raises:
        ConfigError: a layout for several paths at once, or an unknown one.
        NotFoundError: the path does not exist.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"--layout must be one of {', '.join(LAYOUTS)}, got {name!r}")
    if name == PLAIN or (name == "auto" and len(roots) != 1):
        return PLAIN
    if len(roots) != 1:
        raise ConfigError(f"--layout {name} takes one folder or file, got {len(roots)}; ingest them one after the other")
    if not roots[0].exists():
        raise NotFoundError(f"there is nothing at {roots[0]}; check the path")
    if name != "auto":
        return name
    fitting = [layout for layout, fits in _DETECTORS.items() if fits(roots[0])]
    return fitting[0] if len(fitting) == 1 else PLAIN


def arrange(layout: str, root: Path, *, modality: str, classes: Mapping[int, str]) -> Arrangement:
    """The scans of a folder (or a CSV) in a layout other than "plain".

    Args:
        classes: names by id that the user gave; empty: the layout's own.
    Raises:
        ConfigError: nothing in the folder is of this layout, or a file of it (CSV, dataset.json) cannot be understood.
    """
    root = Path(os.path.abspath(root))
    if layout == "chaos":
        return arrange_chaos(root, modality)
    if layout == "totalsegmentator":
        return arrange_mask_folders(root, classes)
    arrangers = {
        "ct-org": arrange_ct_org,
        "lits": arrange_lits,
        "decathlon": arrange_decathlon,
        "nnunet": arrange_nnunet,
        "csv": arrange_pairs_csv,
    }
    return arrangers[layout](root)
