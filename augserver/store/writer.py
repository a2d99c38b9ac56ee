"""Write a dataset, one volume at a time, so that a kill at any moment loses at most the volume in hand.

A volume is written into a hidden folder, flushed to disk and renamed: it is there whole or not at all. What a killed writer left
over is removed by the next one. `finish` writes the root's metadata with the fingerprint; until then readers refuse the dataset
(or keep seeing the last finished state). Nothing is ever changed in place: a volume that gets another label is written beside the
old one, with its image linked, and takes its place in `finish`.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from augclient.contract import MAX_CHANNELS, ignored_label
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from augserver.errors import ConfigError, GeometryError, StoreError
from augserver.geometry import Affine, check_affine, check_spacing, common_spacing, spacing_of
from augserver.store import layout, ome
from augserver.store.content import check_finite, content_hash, count_classes, dataset_fingerprint, storage_dtype
from augserver.store.intensity import intensity_of
from augserver.store.records import check_files, info_of, read_record
from augserver.store.statistics import statistics_of, write_statistics
from augserver.store.writer_lock import WriterLock
from augserver.volume import VolumeInfo

MODALITIES = ("ct", "mr")
ZSTD_LEVEL = 3
CHUNK = (32, 256, 256)  # 4 MB of int16: enough chunks to decode on all cores, few enough that zarr's cost per chunk vanishes


class DatasetWriter:
    """Create a dataset, or go on with one that was written with the same settings.

    Args:
        path: folder of the dataset; made if absent, parents too.
        modality: "ct" or "mr".
        classes: label id (0..255) -> name. Ids that occur in labels without a name here are called "class_<id>"; 0 is "background".
        preprocessing: JSON-able settings under which the volumes were made; kept for the record and compared on resuming.
    Raises:
        ConfigError: modality, classes or preprocessing not allowed.
        StoreError: another writer is at work; the folder holds something else, other settings, or a damaged volume.

    A context manager; leaving it releases the lock and removes a half-written volume, and does not call `finish`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        modality: str,
        classes: Mapping[int, str] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._settings = _check_settings(modality, classes or {}, preprocessing or {})
        self._created = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(self.path / layout.LOCK)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be made or written ({error}); choose another folder") from error
        # What of all volumes each new one is compared with is kept by _keep(), as it is asked for at each of them.
        self._records: dict[str, dict[str, Any]] = {}
        self._taken: dict[str, str] = {}  # id without case -> id
        self._added: dict[int, str] = {}  # class id -> the name that a label gave it
        self._volumes_with: Counter[int] = Counter()  # class id -> in how many labels it occurs
        try:
            for name, record in self._resume().items():
                self._keep(name, record)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def reopen(cls, path: str | Path) -> Self:
        """Go on with a dataset whatever its settings are; labels that a killed writer left unfinished are finished first.

        Raises:
            StoreError: there is no dataset, or as the constructor.
        """
        root = layout.read_attributes(Path(path)).get(layout.NAMESPACE)
        if not isinstance(root, dict) or not isinstance(settings := root.get("settings"), dict):
            raise StoreError(f"{path} is a Zarr group but not a dataset of augserver; `augserver ingest` makes datasets")
        classes = {int(key): name for key, name in settings["classes"].items()}
        writer = cls(path, modality=settings["modality"], classes=classes, preprocessing=settings["preprocessing"])
        if "fingerprint" in root and any([*writer.path.glob(f"{layout.RELABELLED}*"), *writer.path.glob(f"{layout.REPLACED}*")]):
            writer.finish()
        return writer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def classes(self) -> dict[int, str]:
        """Id -> name: background, those of the settings and those that labels added."""
        return {0: "background"} | self._added | self.given_classes

    @property
    def given_classes(self) -> dict[int, str]:
        """Id -> name of the settings alone."""
        return {int(key): name for key, name in self._settings["classes"].items()}

    @property
    def class_ids(self) -> set[int]:
        """The ids in labels of volumes, whether they have names or not."""
        return set(+self._volumes_with)

    def has(self, volume_id: str) -> bool:
        """Whether a whole volume of this id is in the dataset."""
        return volume_id in self._records

    def info(self, volume_id: str) -> VolumeInfo:
        """What was written under this id, which `has` must know."""
        return info_of(volume_id, self._records[volume_id])

    def provenance(self, volume_id: str) -> dict[str, Any]:
        """The provenance given with this volume, which `has` must know."""
        return dict(self._records[volume_id]["provenance"])

    def write(
        self,
        volume_id: str,
        image: NDArray[Any],
        label: NDArray[np.uint8] | None,
        spacing_mm: tuple[float, float, float],
        affine: Affine,
        provenance: Mapping[str, Any] | None = None,
        added_classes: Mapping[int, str] | None = None,
    ) -> VolumeInfo:
        """Add one volume; when this returns it is on disk.

        Args:
            volume_id: a safe file name without patient identifiers, new to the dataset.
            image: (C, Z, Y, X) of any real dtype, C 1 to 8; stored as int16 where that is exact, else as float32.
            label: uint8 (Z, Y, X), or None.
            spacing_mm: zyx; must agree with the affine.
            affine: (4, 4), zyx voxel -> xyz LPS mm.
            provenance: JSON-able facts about the source; no paths, names or patient identifiers: it is stored as given.
            added_classes: names of ids that the settings do not name, as for `write_label`.
        Raises:
            RequestError: the id is not a safe name.
            GeometryError: shapes, spacing or affine without meaning.
            VolumeError: NaN or infinite voxels, or no real numbers.
            StoreError: the id is taken.
        """
        layout.check_id(volume_id)
        taken = self._taken.get(volume_id.casefold())
        if taken is not None:
            raise StoreError(f"{self.path} already has volume {taken!r}; ids must differ in more than case, and volumes are never replaced")
        spacing_mm, affine = _check_geometry(volume_id, image, label, spacing_mm, affine)
        check_finite(image, name=volume_id)
        image = np.asarray(image, storage_dtype(image))
        viewed = ome.image_metadata(volume_id, spacing_mm, affine)
        record = {
            "shape": list(image.shape),
            "dtype": image.dtype.name,
            "spacing_mm": list(spacing_mm),
            "affine": affine.tolist(),
            "has_label": label is not None,
            "class_voxels": {} if label is None else {str(key): count for key, count in count_classes(label).items()},
            "image_sha256": "",  # this, the next and the intensity are found while the voxels are packed and written
            "label_sha256": None,
            "ome_sha256": layout.canonical_digest(viewed),
            "intensity": [],
            "provenance": dict(provenance or {}),
        }
        if added_classes:
            record["added_classes"] = {str(key): name for key, name in sorted(added_classes.items())}
        partial = self.path / (layout.PARTIAL + volume_id)
        ignored = ignored_label(self.classes | dict(added_classes or {}))
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="content") as helper:
                content = helper.submit(_content_of, image, label)
                statistics = helper.submit(statistics_of, image, label, ignored)
                _write_array(partial / layout.IMAGE, image, axes="czyx")
                if label is not None:
                    _write_label(partial, label, info_of(volume_id, record))
                record.update(content.result())
                record["file_bytes"] = layout.shard_sizes(partial)
                layout.write_attributes(partial, {"ome": viewed, layout.NAMESPACE: record}, flush=False)
                layout.flush_tree(partial)
            write_statistics(self.path, volume_id, record, ignored, statistics.result())
            partial.rename(self.path / volume_id)
            layout.flush_to_disk(self.path)
        except OSError as error:
            raise StoreError(
                f"volume {volume_id!r} cannot be written to {self.path} ({error}); free some space and run again: what is whole stays"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # gone already unless something failed
        self._keep(volume_id, record)
        return info_of(volume_id, record)

    def added_classes(self, volume_id: str) -> dict[int, str]:
        """The classes that this volume's label named, which `has` must know."""
        return {int(key): name for key, name in self._records[volume_id].get("added_classes", {}).items()}

    def write_label(self, volume_id: str, label: NDArray[np.uint8], added_classes: Mapping[int, str]) -> VolumeInfo:
        """Give a volume of the dataset another label; when this returns it is on disk, and readers see it after `finish`.

        Args:
            volume_id: which `has` must know.
            label: uint8 (Z, Y, X), of the image's grid; replaces the whole label.
            added_classes: names of the ids in it that the settings do not name; kept with the volume, so that none is lost if the
                writer is killed.
        Raises:
            GeometryError: the label is of another grid or dtype.
            ConfigError: an id has another name already.
            StoreError: it cannot be written.

        The image is linked, not copied, where the file system can.
        """
        before = self.info(volume_id)
        if label.shape != before.shape[1:] or label.dtype != np.uint8:
            raise GeometryError(f"{volume_id}: label must be uint8 {before.shape[1:]} (Z, Y, X), got {label.dtype} {label.shape}")
        named = self.classes
        for key, name in added_classes.items():
            if named.get(key, name) != name or not 0 < key <= 255:
                raise ConfigError(f"class {key} cannot be {name!r}: it is {named.get(key, 'not in 1..255')!r}; take a free id")
        record = self._records[volume_id] | {
            "has_label": True,
            "class_voxels": {str(key): count for key, count in count_classes(label).items()},
            "label_sha256": content_hash(label),
            "added_classes": {str(key): name for key, name in sorted((self.added_classes(volume_id) | dict(added_classes)).items())},
        }
        partial = self.path / (layout.PARTIAL + volume_id)
        staged = self.path / (layout.RELABELLED + volume_id)
        try:
            viewed = layout.read_attributes(self._folder(volume_id))["ome"]
            shutil.copytree(self._folder(volume_id) / layout.IMAGE, partial / layout.IMAGE, copy_function=_link_or_copy)
            _write_label(partial, label, info_of(volume_id, record))
            record["file_bytes"] = layout.shard_sizes(partial)
            layout.write_attributes(partial, {"ome": viewed, layout.NAMESPACE: record}, flush=False)
            layout.flush_tree(partial)
            shutil.rmtree(staged, ignore_errors=True)  # a label given before in this run
            partial.rename(staged)
            layout.flush_to_disk(self.path)
        except OSError as error:
            raise StoreError(
                f"the label of {volume_id!r} cannot be written to {self.path} ({error}); free some space and run again"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._keep(volume_id, record)
        return info_of(volume_id, record)

    def finish(self) -> str:
        """Write the root's metadata and return the fingerprint; may be called again after more volumes.

        New labels take their place here, by renaming: for these milliseconds readers that open the dataset are refused, and a server
        that has it open must be started again.

        Raises:
            StoreError: there is no volume.
        """
        if not self._records:
            raise StoreError(f"{self.path} has no volume yet: a dataset needs at least one; write one before finish()")
        self._place_labels()
        records = dict(sorted(self._records.items()))
        named = self.classes
        found = sorted(self.class_ids | named.keys())
        classes = {key: named.get(key, f"class_{key}") for key in found}
        spacing_mm = common_spacing(tuple(record["spacing_mm"]) for record in records.values())
        fingerprint = dataset_fingerprint(self._settings["modality"], classes, records)
        root = {
            "format": layout.FORMAT,
            "settings": self._settings,
            "fingerprint": fingerprint,
            "classes": {str(key): name for key, name in classes.items()},
            "class_voxels": {name: record["class_voxels"] for name, record in records.items()},
            "spacing_mm": None if spacing_mm is None else list(spacing_mm),
            "record_sha256": {name: layout.canonical_digest(record) for name, record in records.items()},
        }
        layout.write_attributes(self.path, {layout.NAMESPACE: root | {"root_sha256": layout.canonical_digest(root)}})
        for folder in self.path.glob(f"{layout.REPLACED}*"):
            shutil.rmtree(folder)
        return fingerprint

    def close(self) -> None:
        """Remove a half-written volume, and the whole folder if this writer made it and wrote nothing; release the lock."""
        self._remove_partial()
        if self._created and not self._records:
            (self.path / layout.METADATA).unlink(missing_ok=True)
        self._lock.release()
        if self._created and not self._records and not any(self.path.iterdir()):
            self.path.rmdir()

    def _resume(self) -> dict[str, dict[str, Any]]:
        """Check what is there, remove the leftovers of a killed writer, and return the records of the whole volumes."""
        if not (self.path / layout.METADATA).exists():
            strangers = sorted(item.name for item in self.path.iterdir() if item.name != layout.LOCK)
            if strangers:
                raise StoreError(f"{self.path} is not empty and not a dataset (it holds {strangers[0]!r}); choose another folder")
            layout.write_attributes(self.path, {layout.NAMESPACE: {"format": layout.FORMAT, "settings": self._settings}})
            return {}
        root = layout.read_attributes(self.path).get(layout.NAMESPACE)
        if not isinstance(root, dict) or root.get("format") != layout.FORMAT:
            raise StoreError(f"{self.path} is a Zarr group but no dataset of this version of augserver; choose another folder")
        for key, wanted in self._settings.items():
            present = root.get("settings", {}).get(key)
            if present != wanted:
                raise StoreError(
                    f"{self.path} was written with {key} {present}, now asked for {wanted}; "
                    "use the same settings to resume, or another folder"
                )
        self._remove_partial()
        records = {}
        staged = {folder.name.removeprefix(layout.RELABELLED): folder for folder in self.path.glob(f"{layout.RELABELLED}*")}
        whole = {folder.name: folder for folder in self.path.iterdir() if folder.is_dir() and not folder.name.startswith(layout.HIDDEN)}
        for name, folder in sorted((whole | staged).items()):
            records[name] = read_record(folder)
            check_files(folder, records[name])
        return records

    def _keep(self, volume_id: str, record: dict[str, Any]) -> None:
        """A volume that is whole on disk, new or with another label."""
        self._volumes_with.subtract(_class_ids(self._records.get(volume_id)))
        self._volumes_with.update(_class_ids(record))
        self._records[volume_id] = record
        self._taken[volume_id.casefold()] = volume_id
        self._added |= self.added_classes(volume_id)

    def _folder(self, volume_id: str) -> Path:
        """Where a volume is, with the last label that it was given."""
        staged = self.path / (layout.RELABELLED + volume_id)
        return staged if staged.is_dir() else self.path / volume_id

    def _place_labels(self) -> None:
        """Put volumes with another label in the place of the old ones; a kill between two renames is mended by the next `finish`."""
        for staged in self.path.glob(f"{layout.RELABELLED}*"):
            volume_id = staged.name.removeprefix(layout.RELABELLED)
            place, old = self.path / volume_id, self.path / (layout.REPLACED + volume_id)
            if place.exists():
                shutil.rmtree(old, ignore_errors=True)  # of a writer killed before it could
                place.rename(old)
            staged.rename(place)
        layout.flush_to_disk(self.path)

    def _remove_partial(self) -> None:
        for folder in self.path.glob(f"{layout.PARTIAL}*"):
            shutil.rmtree(folder)


def _class_ids(record: Mapping[str, Any] | None) -> list[int]:
    return [] if record is None else [int(key) for key in record["class_voxels"]]


def _check_settings(modality: str, classes: Mapping[int, str], preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    if modality not in MODALITIES:
        raise ConfigError(f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}")
    for key, name in classes.items():
        if not isinstance(key, int) or not 0 <= key <= 255 or not isinstance(name, str) or not name:
            raise ConfigError(f"classes map ids 0..255 to names, got {key!r}: {name!r}")
        if name.startswith("class_") and name != f"class_{key}" and name.removeprefix("class_").isdecimal():
            raise ConfigError(f"class {key} cannot be called {name!r}: so is an id that has no name; choose another name")
    names = list(classes.values())
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or (0 not in classes and "background" in names):
        raise ConfigError(f"class names must differ, and 'background' is id 0's unless you name it; repeated: {repeated or ['background']}")
    return {
        "modality": modality,
        "classes": {str(key): name for key, name in sorted(classes.items())},
        "preprocessing": dict(preprocessing),
    }


def _check_geometry(
    name: str, image: NDArray[Any], label: NDArray[np.uint8] | None, spacing_mm: tuple[float, float, float], affine: Affine
) -> tuple[tuple[float, float, float], Affine]:
    if image.ndim != 4 or 0 in image.shape or image.shape[0] > MAX_CHANNELS:
        raise GeometryError(f"{name}: image must be (C, Z, Y, X) with 1 to {MAX_CHANNELS} channels and no empty axis, got {image.shape}")
    if label is not None and (label.shape != image.shape[1:] or label.dtype != np.uint8):
        raise GeometryError(f"{name}: label must be uint8 {image.shape[1:]} (Z, Y, X) like the image, got {label.dtype} {label.shape}")
    affine = check_affine(affine)
    spacing_mm = check_spacing(spacing_mm, what=f"{name}: spacing")
    if not np.allclose(spacing_mm, spacing_of(affine), rtol=1e-4, atol=0):
        raise GeometryError(f"{name}: spacing {spacing_mm} mm disagrees with the affine's {spacing_of(affine)} mm (z, y, x)")
    return spacing_mm, affine


def _write_label(folder: Path, label: NDArray[np.uint8], info: VolumeInfo) -> None:
    layout.write_attributes(folder / "labels", {"ome": ome.labels_metadata()})
    layout.write_attributes(folder / "labels/classes", {"ome": ome.label_metadata(info.spacing_mm, info.affine, info.class_voxels)})
    _write_array(folder / layout.LABEL, label, axes="zyx")


def _link_or_copy(source: str, target: str) -> None:
    """One more name for the same bytes, which are never changed; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _content_of(image: NDArray[Any], label: NDArray[np.uint8] | None) -> dict[str, Any]:
    """The attributes of a volume that take a pass over its voxels."""
    return {
        "image_sha256": content_hash(image),
        "label_sha256": None if label is None else content_hash(label),
        "intensity": [asdict(each) for each in intensity_of(image)],
    }


def _write_array(path: Path, array: NDArray[Any], *, axes: str) -> None:
    """Write one array as one shard of zstd chunks with checksums.

    Chunks are cut evenly (303 rows become 2 x 152, not 256 + 47), because the last chunk is stored padded to full size.
    """
    grid = array.shape[-3:]
    chunk = tuple(_even_part(size, limit) for size, limit in zip(grid, CHUNK, strict=True))
    lead = array.shape[:-3]
    stored = zarr.create_array(
        path,
        shape=array.shape,
        dtype=array.dtype,
        chunks=(1,) * len(lead) + chunk,
        shards=lead + tuple(-(-size // part) * part for size, part in zip(grid, chunk, strict=True)),
        compressors=ZstdCodec(level=ZSTD_LEVEL, checksum=True),
        fill_value=0,
        dimension_names=tuple(axes),
        config={"write_empty_chunks": True},  # so that an absent chunk always means damage, never zeros
    )
    stored[...] = array


def _even_part(size: int, limit: int) -> int:
    parts = -(-size // limit)
    return -(-size // parts)
