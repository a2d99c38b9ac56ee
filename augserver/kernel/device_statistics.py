"""What a device with a queue and memory of its own says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatistics:
    """One device's queue and memory at this moment.

    Attributes:
        name: such as "cuda:0".
        waiting, in_flight: batches before the device, and on it.
        uploaded_bytes: of volumes since the start.
        volume_bytes, max_volume_bytes: of volumes that stay on the device, textures with them.
    """

    name: str
    waiting: int
    in_flight: int
    uploaded_bytes: int
    volume_bytes: int
    max_volume_bytes: int
