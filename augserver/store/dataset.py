"""Read a dataset. Damage is told, never papered over with zeros.

What is checked, and what it costs (2 cores):
    open         metadata against its digests, the fingerprint recomputed, presence and size of every voxel file: one small JSON
                 and one or two stats per volume
    every read   sizes before and after, zstd's checksum of every chunk and the CRC of the shard's index: part of decoding
    first read of a volume by this object, and `verify`
                 sha256 of the decoded voxels against the one in the fingerprint: 0.7 ms per MB
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from augclient.contract import ignored_label
from augclient.nearest import nearest
from numpy.typing import DTypeLike, NDArray
from zarr.buffer.cpu import NDBuffer

from augserver.errors import NotFoundError, StoreError, UnavailableError, VolumeError
from augserver.geometry import common_spacing
from augserver.store import layout
from augserver.store.content import content_hash, dataset_fingerprint
from augserver.store.machine_fault import is_machine_fault
from augserver.store.records import check_files, info_of, read_record
from augserver.store.statistics import Distribution, VolumeStatistics, merged_foreground, read_statistics, statistics_of, write_statistics
from augserver.volume import Volume, VolumeInfo

Allocate = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]


class Dataset:
    """A finished dataset, opened for reading; made by `Dataset.open`. Safe to share between threads.

    Attributes:
        path: its folder.
        fingerprint: sha256 (hex) of ids, voxels, geometry, classes and modality.
        modality: "ct" or "mr".
        classes: label id -> name; 0 is there always.
        class_voxels: label id -> voxels in the whole dataset.
        volumes: ids, sorted.
        spacing_mm: zyx where all volumes share it, to 1e-4 mm, else None.
        preprocessing: the settings of the ingest.
    """

    def __init__(self, path: Path, root: dict[str, Any], records: dict[str, dict[str, Any]]) -> None:
        self.path = path
        self.fingerprint: str = root["fingerprint"]
        self.modality: str = root["settings"]["modality"]
        self.preprocessing: dict[str, Any] = root["settings"]["preprocessing"]
        self.classes: dict[int, str] = {int(key): name for key, name in root["classes"].items()}
        self.volumes: tuple[str, ...] = tuple(sorted(records))
        self._records = records
        self._infos = {name: info_of(name, records[name]) for name in self.volumes}
        self.spacing_mm = common_spacing(info.spacing_mm for info in self._infos.values())
        self.class_voxels: dict[int, int] = dict.fromkeys(self.classes, 0)
        for info in self._infos.values():
            for key, count in info.class_voxels.items():
                self.class_voxels[key] += count
        self._verified: set[str] = set()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the dataset in folder `path`.

        Raises:
            NotFoundError: there is nothing at `path`.
            StoreError: not a dataset, not finished, of another version, or damaged; the message names the volume.
            UnavailableError: this machine has no thread or descriptor for reading.
        """
        path = Path(path)
        if not path.exists():
            raise NotFoundError(f"there is no dataset at {path}; check the path, or make one with `augserver ingest`")
        root = layout.read_attributes(path).get(layout.NAMESPACE)
        if not isinstance(root, dict):
            raise StoreError(f"{path} is a Zarr group but not a dataset of augserver; `augserver ingest` makes datasets")
        if root.get("format") != layout.FORMAT:
            raise StoreError(f"{path} has format {root.get('format')!r}, this version reads {layout.FORMAT}; ingest again")
        if "fingerprint" not in root:
            raise StoreError(f"{path} is not finished: its ingest was interrupted; run the same `augserver ingest` again to resume it")
        digest = layout.canonical_digest({key: value for key, value in root.items() if key != "root_sha256"})
        if digest != root.get("root_sha256"):
            raise StoreError(f"{path / layout.METADATA} was altered or damaged: its digest does not match; restore it or ingest again")
        records = {}
        for name, expected in root["record_sha256"].items():
            records[name] = read_record(path / name)
            if layout.canonical_digest(records[name]) != expected:
                raise StoreError(
                    f"volume {name!r} of {path} is not the one that was ingested: its metadata was altered; restore it or ingest again"
                )
            check_files(path / name, records[name])
        classes = {int(key): name for key, name in root["classes"].items()}
        if dataset_fingerprint(root["settings"]["modality"], classes, records) != root["fingerprint"]:
            raise StoreError(f"{path} does not hold what its fingerprint names; restore it or ingest again")
        if records:
            _start_zarr(path / min(records))
        return cls(path, root, records)

    @property
    def size_bytes(self) -> int:
        """Bytes that all decoded volumes take in memory."""
        return sum(info.size_bytes for info in self._infos.values())

    def info(self, volume_id: str) -> VolumeInfo:
        """What is known of a volume without reading a voxel.

        Raises:
            NotFoundError: no such volume; the message names the nearest id.
        """
        try:
            return self._infos[volume_id]
        except KeyError:
            near = nearest(volume_id, self.volumes, least=0)
            raise NotFoundError(
                f"no volume {volume_id!r} among the {len(self.volumes)} of {self.path.name}; the nearest id is {near!r}"
            ) from None

    def provenance(self, volume_id: str) -> dict[str, Any]:
        """What the ingest noted about the source of a volume.

        Raises:
            NotFoundError: as `info`.
        """
        self.info(volume_id)
        return dict(self._records[volume_id]["provenance"])

    def statistics(self, volume_id: str) -> VolumeStatistics:
        """The statistics of a volume's voxels, which its ingest or `compute_statistics` kept.

        They are not computed here: that reads every voxel, and a dataset may lie where nobody can write.

        Raises:
            NotFoundError: as `info`.
            StoreError: there are none, or of other voxels (its label was replaced), or their file is damaged.
        """
        self.info(volume_id)
        found = read_statistics(self.path, volume_id, self._records[volume_id], ignored_label(self.classes))
        if found is None:
            raise StoreError(
                f"volume {volume_id!r} of {self.path} has no statistics, or those of other voxels; "
                f"run `augserver info {self.path} --statistics --write`"
            )
        return found

    def compute_statistics(self, volume_id: str, *, write: bool) -> VolumeStatistics:
        """Compute the statistics of a volume from its voxels, and keep them beside it if `write`.

        Raises:
            NotFoundError, VolumeError, UnavailableError: as `read`.
            StoreError: they cannot be written.
        """
        volume = self.read(volume_id)
        ignored = ignored_label(self.classes)
        found = statistics_of(volume.image, volume.label, ignored)
        if write:
            try:
                write_statistics(self.path, volume_id, self._records[volume_id], ignored, found)
            except OSError as error:
                raise StoreError(
                    f"the statistics of volume {volume_id!r} cannot be written to {self.path} ({error}); "
                    "make it writable, or leave out --write to see them alone"
                ) from error
        return found

    def foreground_statistics(self) -> tuple[Distribution | None, ...]:
        """Of each channel, the foreground of all volumes together (statistics.py says how exact); None where no volume has any.

        Raises:
            StoreError: as `statistics`, of any volume.
        """
        return merged_foreground(self.statistics(name) for name in self.volumes)

    def read(self, volume_id: str, *, allocate: Allocate = np.empty) -> Volume:
        """Decode a volume; its chunks are decoded on asyncio's pool of threads (cores + 4, at most 32), without the GIL.

        830 MB/s of voxels on 2 cores (161 MB of CT and label, 53 MB on disk), 470 MB/s at the first read, which hashes them.

        Args:
            volume_id: one of `volumes`.
            allocate: (shape, dtype) -> C-contiguous array of any content, which the voxels are decoded into and which is read-only then.
        Raises:
            NotFoundError: as `info`.
            VolumeError: its files are damaged, as whoever reads them will find; the message names it.
            UnavailableError: this machine could not read them now (machine_fault.py), which says nothing about them.
            Exception: of `allocate`, as it is.
        """
        return self._read(volume_id, allocate, verify=volume_id not in self._verified)

    def verify(self, volume_id: str) -> None:
        """Decode a volume and compare its voxels with their sha256, even if this was done before.

        Raises:
            NotFoundError, VolumeError, UnavailableError: as `read`.
        """
        self._read(volume_id, np.empty, verify=True)

    def _read(self, volume_id: str, allocate: Allocate, *, verify: bool) -> Volume:
        info, record, folder = self.info(volume_id), self._records[volume_id], self.path / volume_id
        self._check_files(volume_id)
        voxels = allocate(info.shape, info.dtype)
        image = _decode_into(voxels, folder, layout.IMAGE, record["image_sha256"] if verify else None)
        label = None
        if info.has_label:
            voxels = allocate(info.shape[1:], "uint8")
            label = _decode_into(voxels, folder, layout.LABEL, record["label_sha256"] if verify else None)
        self._check_files(volume_id)  # again: for a file that vanished while it was read, zarr answers zeros
        self._verified.add(volume_id)
        return Volume(info=info, image=image, label=label)

    def _check_files(self, volume_id: str) -> None:
        try:
            check_files(self.path / volume_id, self._records[volume_id])
            return
        except (StoreError, OSError) as error:
            if is_machine_fault(error):
                raise _unreadable(volume_id, "its files", error) from error
            damage = VolumeError(str(error))
        if not (self.path / layout.METADATA).is_file():  # an unmounted disk is no damage of the volume that was asked for first
            raise UnavailableError(f"volume {volume_id!r}: dataset {self.path.name!r} is gone as a whole; mount or restore its folder")
        raise damage


def _unreadable(volume_id: str, what: str, error: BaseException) -> UnavailableError:
    reason = error.strerror if isinstance(error, OSError) else error or type(error).__name__
    return UnavailableError(
        f"volume {volume_id!r}: {what} cannot be read now ({reason}); that is this machine's trouble, not the volume's: "
        "see to its disks, limits and memory; another server may do"
    )


def _start_zarr(folder: Path) -> None:
    """Have zarr start the thread of its event loop now: started when none can be had, it would wait for that thread at every read since."""
    try:
        zarr.open_array(folder / layout.IMAGE, mode="r", zarr_format=3)
    except Exception as error:
        if is_machine_fault(error):
            raise _unreadable(folder.name, layout.IMAGE, error) from error
        # damage is told when the volume is read


def _decode_into(voxels: NDArray[Any], folder: Path, name: str, sha256: str | None) -> NDArray[Any]:
    """Fill `voxels` and make it read-only; `sha256` None trusts the checksums of the chunks."""
    shape, dtype = voxels.shape, voxels.dtype
    way_out = f"restore it from a copy, or remove {folder} and ingest again"
    try:
        array = zarr.open_array(folder / name, mode="r", zarr_format=3)
        if array.shape != shape or array.dtype != dtype:
            raise VolumeError(f"volume {folder.name!r}: {name} is {array.dtype} {array.shape}, its record says {dtype} {shape}; {way_out}")
        array.get_basic_selection(out=NDBuffer.from_numpy_array(voxels))
    except (VolumeError, MemoryError):
        raise
    except Exception as error:  # zarr and its codecs raise whatever their libraries do
        if is_machine_fault(error):
            raise _unreadable(folder.name, name, error) from error
        raise VolumeError(f"volume {folder.name!r}: {name} cannot be decoded ({error}); {way_out}") from error
    if sha256 is not None and content_hash(voxels) != sha256:
        raise VolumeError(f"volume {folder.name!r}: the voxels of {name} are not those that were ingested (sha256 differs); {way_out}")
    voxels.setflags(write=False)
    return voxels
