"""How much of a device's memory goes to what, from the settings and what the device has."""

from __future__ import annotations

from dataclasses import dataclass

from augserver.config import CudaConfig
from augserver.errors import BudgetError

MIB = 1 << 20
MAX_AUTO_SLOT_BYTES = 1 << 30  # limits.max_batch_bytes: no larger batch is asked for unless that is raised too


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSizes:
    """Settings of one device's queue with nothing left open; see CudaConfig for what each is."""

    slots: int
    queue: int
    slot_bytes: int
    volume_bytes: int
    texture_bytes: int
    stage_bytes: int
    program_bytes: int
    staging_bytes: int

    def describe(self) -> str:
        """For errors: what is taken at start-up."""
        return f"{self.slots} slots of {self.slot_bytes} bytes and {self.volume_bytes} bytes of volumes"


def resolve_sizes(config: CudaConfig, *, free_bytes: int, total_bytes: int) -> DeviceSizes:
    """Fill in what the settings leave to the device.

    A slot takes a sixteenth of the device's memory, at most 1 GiB; volumes half of what the slots leave free, as host memory does
    for its cache; textures a quarter of it, and what steps hand on as much as a slot, both taken when they are used.

    Raises:
        BudgetError: the slots and volumes asked for exceed what is free.
    """
    share = max(min(MAX_AUTO_SLOT_BYTES, total_bytes // 16), MIB)
    slot_bytes = config.slot_bytes or share
    left = max(free_bytes - config.slots * slot_bytes, 0)
    sizes = DeviceSizes(
        slots=config.slots,
        queue=config.queue,
        slot_bytes=slot_bytes,
        volume_bytes=config.volume_bytes or left // 2,
        texture_bytes=config.texture_bytes or left // 4,
        stage_bytes=config.stage_bytes or share,
        program_bytes=config.program_bytes,
        staging_bytes=config.staging_bytes,
    )
    need = sizes.slots * sizes.slot_bytes + sizes.volume_bytes
    if need > free_bytes:
        raise BudgetError(
            f"{sizes.describe()} need {need} bytes of device memory, and {free_bytes} of {total_bytes} are free; lower cuda.slots, "
            f"cuda.slot_bytes or cuda.volume_bytes, or end other processes that use the device"
        )
    return sizes
