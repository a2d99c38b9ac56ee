"""What one device holds and how a batch runs through it: kernels, slots, three streams. No threads, no queue.

    H2D stream     [volumes][params][programs] . uploaded
    compute stream                               -> wait -> [kernel][stages of programs] . computed
    D2H stream                                                                             -> wait -> [image][label] . done

Everything is allocated by the constructor: slots, the arena of the volumes, the staging ring; but the memory between stages by the
first batch with programs. All slots share that one, as the compute stream is one queue. All methods belong to the owner thread, where
the device's context is current.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pycuda.driver as cuda

from augserver.errors import BackendError, BudgetError
from augserver.kernel.batch import PackedBatch
from augserver.kernel.cuda.arena import aligned
from augserver.kernel.cuda.memory import DeviceMemory
from augserver.kernel.cuda.pinned import PinnedArrays
from augserver.kernel.cuda.programs import Launch, plan_programs
from augserver.kernel.cuda.residency import Resident
from augserver.kernel.cuda.sizes import DeviceSizes
from augserver.kernel.cuda.staging import EVENT_FLAGS
from augserver.kernel.cuda.ticket import Ticket
from augserver.kernel.params import INPUT_TYPES, PARAMS_DTYPE

THREADS = 256  # of a block: the most that kernel.cu's launch bounds allow; its comment says what bounds the occupancy
VOXELS_PER_THREAD = 4  # voxel.h: BLOCK
MAX_SAMPLES = 4096  # of a batch on one device; its parameters take 4 MB of a slot
PARAMS_BYTES = 2 * MAX_SAMPLES * PARAMS_DTYPE.itemsize  # samples with programs have two: for the sampling, and for their stages
SAMPLING_KERNELS = ("augment_int16", "augment_float32", "augment_texture")
PROGRAM_KERNELS = ("run_stage", "measure_lanes", "measure_strips", "measure_patch")
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_INPUT_NAMES = {code: name for name, code in INPUT_TYPES.items()}


class Slot:
    """What one batch in flight uses on the device."""

    def __init__(self, out_bytes: int, program_bytes: int) -> None:
        self.host_params = cuda.pagelocked_empty(PARAMS_BYTES, np.uint8)
        try:
            self.host_programs = cuda.pagelocked_empty(program_bytes, np.uint8)
            self.device_programs = cuda.mem_alloc(program_bytes)
            self.device_params = cuda.mem_alloc(PARAMS_BYTES)
            self.device_out = cuda.mem_alloc(out_bytes)
            self.uploaded, self.computed, self.done = (cuda.Event(EVENT_FLAGS) for _ in range(3))
        except BaseException:
            self.free()
            raise
        self.ticket: Ticket | None = None
        self.residents: list[Resident] = []

    def free(self) -> None:
        """Give everything back; nothing may be in flight. Events are named too: an error's traceback may keep the slot alive."""
        self.host_params.base.free()
        if hasattr(self, "host_programs"):
            self.host_programs.base.free()
        for name in ("device_programs", "device_params", "device_out"):
            if hasattr(self, name):
                getattr(self, name).free()
        self.uploaded = self.computed = self.done = None


class Device:
    """Kernels, streams and memory of one device.

    Args:
        name: for errors, such as "cuda:0".
        fatbin: the compiled kernels.
        sizes: of slots and memory.
        pinned: knows which host memory is pinned.
    Raises:
        BackendError: the kernels do not run on this device.
        BudgetError: it has not as much memory.
        pycuda.driver.Error: another refusal of the driver.
    """

    def __init__(self, name: str, fatbin: bytes, sizes: DeviceSizes, pinned: PinnedArrays) -> None:
        self.slots: list[Slot] = []
        self.memory: DeviceMemory
        self._stage_bytes = sizes.stage_bytes
        self._stage_memory: Any = None
        self._kernels: dict[str, Any] = {}
        self._module: Any = None
        self.h2d: Any = None
        self.compute: Any = None
        self.d2h: Any = None
        try:
            self._load(name, fatbin)
            self.h2d, self.compute, self.d2h = (cuda.Stream(NON_BLOCKING) for _ in range(3))
            for _ in range(sizes.slots):
                self.slots.append(Slot(sizes.slot_bytes, sizes.program_bytes))
            self.memory = DeviceMemory(sizes, self.h2d, pinned)
        except cuda.MemoryError as error:
            self.close()
            raise BudgetError(
                f"{name}: {sizes.describe()} do not fit its memory ({error}); lower cuda.slots, cuda.slot_bytes or cuda.volume_bytes, "
                f"or end other processes that use the device"
            ) from error
        except BaseException:
            self.close()
            raise

    def enqueue(self, slot: Slot, batch: PackedBatch) -> None:
        """Enqueue all of a batch: upload what is not resident, compute, copy out. Returns before the work is done: `slot.done`."""
        try:
            slot.residents = self.memory.residency(batch.sampler).acquire(batch.volumes)
        except BaseException:
            self.h2d.synchronize()  # pinned volumes that are on their way up may die with the batch
            raise
        image_at = int(slot.device_out)
        label_at = image_at + aligned(batch.out_image.nbytes)
        rows = self.place(slot, batch, image_at, label_at)
        plain = int((rows["ops"] == 0).sum())
        launches = self._place_programs(slot, batch, rows[plain:]) if plain < len(rows) else []
        params_bytes = (2 * len(rows) - plain) * PARAMS_DTYPE.itemsize
        cuda.memcpy_htod_async(slot.device_params, slot.host_params[:params_bytes], self.h2d)
        slot.uploaded.record(self.h2d)  # the H2D stream is one queue: volumes that earlier batches brought are up as well
        self.compute.wait_for_event(slot.uploaded)
        if plain:
            self.launch(slot, rows[:plain], batch.sampler)
        for launch in launches:
            self._launch_program(slot, plain, launch, batch.sampler)
        slot.computed.record(self.compute)
        self.d2h.wait_for_event(slot.computed)
        cuda.memcpy_dtoh_async(batch.out_image, image_at, self.d2h)
        if batch.out_label is not None:
            cuda.memcpy_dtoh_async(batch.out_label, label_at, self.d2h)
        slot.done.record(self.d2h)

    def close(self) -> None:
        """Free everything; nothing may be in flight."""
        if hasattr(self, "memory"):  # else the constructor has failed before it
            self.memory.close()
        for slot in self.slots:
            slot.free()
        if self._stage_memory is not None:
            self._stage_memory.free()
            self._stage_memory = None
        self._kernels.clear()
        self._module = self.h2d = self.compute = self.d2h = None

    def _load(self, name: str, fatbin: bytes) -> None:
        try:
            self._module = cuda.module_from_buffer(fatbin)
        except cuda.Error as error:
            major, minor = cuda.Context.get_device().compute_capability()
            raise BackendError(
                f"{name}: the compiled kernels do not load on this device of compute capability {major}.{minor} ({error}); "
                f"7.5 is the oldest that CUDA 13 compiles for; `augserver build-kernels` compiles them again"
            ) from error
        for kernel in (*SAMPLING_KERNELS, *PROGRAM_KERNELS):
            self._kernels[kernel] = self._module.get_function(kernel).prepare("P")

    def place(self, slot: Slot, batch: PackedBatch, image_at: int, label_at: int) -> Any:
        """Write the batch's parameters, with device addresses, into the slot; samples with programs come last, and volumes of one type
        follow each other. Programs still have the host's addresses."""
        count = len(batch.rows)
        rows = slot.host_params[: count * PARAMS_DTYPE.itemsize].view(PARAMS_DTYPE)
        order = np.lexsort((batch.rows["in_type"], batch.rows["ops"] != 0))
        rows[:] = batch.rows[order]
        rows["image"] = [slot.residents[k].place.image for k in order]
        rows["out_image"] = image_at + order * (batch.out_image.nbytes // count)
        if batch.out_label is not None:
            rows["label"] = [slot.residents[k].place.label for k in order]
            rows["out_label"] = np.where(rows["label"] != 0, label_at + order * (batch.out_label.nbytes // count), 0)
        return rows

    def launch(self, slot: Slot, rows: Any, sampler: str, threads: int = THREADS) -> None:
        """One launch of blocks of `threads`; two where int16 and float32 volumes are in one batch."""
        blocks = -(-int(np.prod(rows[0]["out_shape"], dtype=np.int64)) // (threads * VOXELS_PER_THREAD))
        if sampler == "texture":
            groups = [("augment_texture", 0, len(rows))]
        else:
            starts = np.searchsorted(rows["in_type"], list(INPUT_TYPES.values()), side="left")
            stops = np.searchsorted(rows["in_type"], list(INPUT_TYPES.values()), side="right")
            groups = [(f"augment_{name}", int(a), int(b)) for name, a, b in zip(INPUT_TYPES, starts, stops, strict=True) if b > a]
        for name, start, stop in groups:
            first = int(slot.device_params) + start * PARAMS_DTYPE.itemsize
            self._kernels[name].prepared_async_call((blocks, stop - start), (threads, 1, 1), self.compute, first)

    def _place_programs(self, slot: Slot, batch: PackedBatch, sampled: Any) -> list[Launch]:
        """Enqueue the upload of a batch's programs. Copies of `sampled`, the rows that have some, go behind the rows, for the stages."""
        if self._stage_memory is None:
            self._stage_memory = cuda.mem_alloc(self._stage_bytes)
        end = len(batch.rows) * PARAMS_DTYPE.itemsize
        samples = slot.host_params[end : end + sampled.nbytes].view(PARAMS_DTYPE)
        samples[:] = sampled
        used, launches = plan_programs(
            batch,
            sampled,
            samples,
            slot.host_programs,
            samples_at=int(slot.device_params) + end,
            table_at=int(slot.device_programs),
            memory=(int(self._stage_memory), self._stage_bytes),
        )
        cuda.memcpy_htod_async(slot.device_programs, slot.host_programs[:used], self.h2d)
        return launches

    def _launch_program(self, slot: Slot, plain: int, launch: Launch, sampler: str) -> None:
        """One launch of the programs of a batch whose first `plain` samples have none."""
        name, first = launch.kernel, launch.first
        if name == "augment":
            name = "augment_texture" if sampler == "texture" else f"augment_{_INPUT_NAMES[launch.in_type]}"
            first = int(slot.device_params) + (plain + first) * PARAMS_DTYPE.itemsize
        self._kernels[name].prepared_async_call((-(-launch.threads // THREADS), launch.rows), (THREADS, 1, 1), self.compute, first)
