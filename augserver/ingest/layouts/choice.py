"""Choose a layout by its name, or by looking where only one fits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from augserver.errors import ConfigError
from augserver.ingest.layouts.arrangement import Arrangement, counted, told_modality
from augserver.ingest.layouts.case_folders import arrange_acdc, arrange_brats, arrange_kits, is_acdc, is_brats, is_kits
from augserver.ingest.layouts.chaos import arrange_chaos, is_chaos
from augserver.ingest.layouts.image_sets import arrange_amos, arrange_decathlon, arrange_nnunet, is_decathlon, is_nnunet
from augserver.ingest.layouts.mask_folders import arrange_mask_folders, is_mask_folders
from augserver.ingest.layouts.numbered import arrange_ct_org, arrange_lits, is_ct_org, is_lits
from augserver.ingest.layouts.paired_folders import arrange_btcv, arrange_flare, is_btcv, is_flare
from augserver.ingest.layouts.pairs_csv import arrange_pairs_csv, is_pairs_csv, listing_of
from augserver.ingest.listing import Listing
from augserver.ingest.sources import list_path, mark_patients

PLAIN = "plain"
_ARRANGERS: dict[str, Callable[[Listing, Mapping[int, str]], Arrangement]] = {
    "ct-org": arrange_ct_org,
    "lits": arrange_lits,
    "decathlon": arrange_decathlon,
    "nnunet": arrange_nnunet,
    "kits": arrange_kits,
    "brats": arrange_brats,
    "amos": arrange_amos,
    "btcv": arrange_btcv,
    "flare": arrange_flare,
    "acdc": arrange_acdc,
    "totalsegmentator": arrange_mask_folders,
}
LAYOUTS = ("auto", PLAIN, *_ARRANGERS, "csv", "chaos")
# AMOS lies as the Decathlon does, and auto names no classes after a collection: there is nothing to tell them apart for.
_DETECTORS: dict[str, Callable[[Listing], bool]] = {
    "ct-org": is_ct_org,
    "lits": is_lits,
    "decathlon": is_decathlon,
    "nnunet": is_nnunet,
    "kits": is_kits,
    "brats": is_brats,
    "btcv": is_btcv,
    "flare": is_flare,
    "acdc": is_acdc,
    "csv": is_pairs_csv,
    "totalsegmentator": is_mask_folders,
    "chaos": is_chaos,
}


def choose_layout(name: str, roots: Sequence[Path]) -> tuple[str, tuple[str, ...]]:
    """The layout that `--layout NAME` means for these paths: "auto" is the only one that fits, or "plain" if none or several do.

    Returns:
        its name, and those that fit where they are several.
    Raises:
        ConfigError: a layout for several paths at once, or an unknown one.
        NotFoundError: the path does not exist.
    """
    if name not in LAYOUTS:
        raise ConfigError(f"--layout must be one of {', '.join(LAYOUTS)}, got {name!r}")
    if name == PLAIN or (name == "auto" and len(roots) != 1):
        return PLAIN, ()
    if len(roots) != 1:
        raise ConfigError(f"--layout {name} takes one folder or file, got {len(roots)}; ingest them one after the other")
    listing = list_path(roots[0])
    if name != "auto":
        return name, ()
    fitting = [layout for layout, fits in _DETECTORS.items() if fits(listing)]
    return (fitting[0], ()) if len(fitting) == 1 else (PLAIN, tuple(fitting))


def arrange(layout: str, root: Path, *, modality: str, classes: Mapping[int, str], named: bool) -> Arrangement:
    """The scans of a folder (or a CSV) in a layout other than "plain", with every file counted.

    Args:
        classes: names by id that the user gave; empty: the layout's own.
        named: whether the user named the layout, so that the scans are of the collection that it is called after.
    Raises:
        ConfigError: nothing in the folder is of this layout, or a file of it (CSV, dataset.json) cannot be understood.
        NotFoundError: the path does not exist.
    """
    root = Path(os.path.abspath(root))
    if layout == "csv":
        found = arrange_pairs_csv(root)
        listing = listing_of(root, found)
    else:
        listing = list_path(root)
        try:
            found = arrange_chaos(listing, modality) if layout == "chaos" else _ARRANGERS[layout](listing, classes)
        except ConfigError as error:
            if not listing.unread:
                raise
            unread = ", ".join(sorted({f"{each.kind}: {each.reason}" for each in listing.unread}))
            raise ConfigError(f"{error}; {len(listing.unread)} could not be looked at ({unread}): check the permissions") from error
    scans = tuple(mark_patients(found.scans))
    if named:
        scans = told_modality(scans, found.collection_modality, f"--layout {layout} holds {found.collection_modality.upper()}")
    return counted(replace(found, scans=scans), listing)
