"""A pipeline without voxels: volumes that are one number, a plan that draws nothing, a backend that can be held up."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from augserver.augment.sample import SampleParams
from augserver.errors import NotFoundError
from augserver.pipeline.batch_layout import BatchLayout
from augserver.pipeline.batch_slots import SlotPool
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.scheduler import Scheduler, StreamSpec
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache
from augserver.volume import Volume, VolumeInfo

SHAPE = (1, 2, 3, 5)
VOLUME_BYTES = 30 * 2
IDS = ("a", "b", "c", "d")


class FakeStore:
    """Volumes whose voxels all have the value of their place in IDS; `gate` holds up reads while it is clear."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.broken: dict[str, BaseException] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def info(self, id_: str) -> VolumeInfo:
        if id_ not in IDS:
            raise NotFoundError(f"no volume {id_!r}")
        return VolumeInfo(id=id_, shape=SHAPE, dtype="int16", spacing_mm=(1.0, 1.0, 1.0), affine=np.eye(4), has_label=False)

    def read(self, id_: str) -> Volume:
        self.reads.append(id_)
        self.entered.release()
        assert self.gate.wait(30)
        if id_ in self.broken:
            raise self.broken[id_]
        return Volume(info=self.info(id_), image=np.full(SHAPE, IDS.index(id_), np.int16), label=None)


class FakePlan:
    """Sample i is of volume i modulo 4 and has its index for brightness."""

    def address(self, index: int) -> tuple[int, int, str]:
        epoch, place = divmod(index, len(IDS))
        return epoch, place, IDS[place]

    def replacements(self, index: int) -> Iterator[str]:
        _, place, _ = self.address(index)
        return (IDS[(place + step) % len(IDS)] for step in range(1, len(IDS)))

    def params(self, index: int, volume: Volume | None = None, *, replacement: str | None = None) -> SampleParams:
        epoch, _, planned = self.address(index)
        assert volume is not None
        assert volume.info.id == (replacement or planned)
        made = SampleParams(index=index, epoch=epoch, volume=volume.info.id, affine=np.eye(3, 4, dtype=np.float32), brightness=float(index))
        return made if replacement is None else dataclasses.replace(made, replaces=planned)


class FakeBackend:
    """Writes index * 10 + voxel value into all of a sample; `gate` holds up calls while it is clear."""

    name = "fake"
    description = "fake, 1 thread"

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.fail_at: dict[int, BaseException] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def augment(
        self, volumes: Sequence[Volume], params: Sequence[SampleParams], out_image: np.ndarray, out_label: np.ndarray | None
    ) -> None:
        self.calls.append([each.index for each in params])
        self.entered.release()
        assert self.gate.wait(30)
        for k, (volume, each) in enumerate(zip(volumes, params, strict=True)):
            if each.index in self.fail_at:
                raise self.fail_at[each.index]
            out_image[k] = each.index * 10 + volume.image.flat[0]

    def close(self) -> None:
        """Nothing to free."""


def layout(count: int = 2) -> BatchLayout:
    return BatchLayout(image_shape=(count, 1, 1, 1, 4), image_dtype="float32", has_label=False)


@pytest.fixture
def store() -> Iterator[FakeStore]:
    fake = FakeStore()
    yield fake
    fake.gate.set()


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    fake = FakeBackend()
    yield fake
    fake.gate.set()


@pytest.fixture
def make_spec() -> Callable[..., StreamSpec]:
    def make(start: int = 0, stop: int = 10, count: int = 2) -> StreamSpec:
        return StreamSpec(
            plan=FakePlan(),  # type: ignore[arg-type]
            layout=layout(count),
            indices=lambda step: range(step * count, (step + 1) * count),
            start=start,
            stop=stop,
        )

    return make


@pytest.fixture
def make_scheduler(store: FakeStore, backend: FakeBackend) -> Iterator[Callable[..., Scheduler]]:
    made: list[Scheduler] = []

    def make(*, look_ahead: int = 2, workers: int = 2, cache_bytes: int = 1 << 20, slot_bytes: int = 1 << 20, losses: int = 0) -> Scheduler:
        cache = VolumeCache(store.info, store.read, cache_bytes)
        slots = SlotPool(slot_bytes, lambda size: np.zeros(size, np.uint8))
        made.append(Scheduler(backend, cache, Quarantine(losses), slots, StageClock(), look_ahead=look_ahead, workers=workers))
        return made[-1]

    yield make
    store.gate.set()
    backend.gate.set()
    for scheduler in made:
        scheduler.close()
