"""Compute one batch: lease its volumes, draw its parameters, run the kernel straight into the caller's memory.

Deterministic: the arrays depend on the plan and the indices alone, not on how the batch was split into kernel calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from augserver.augment.sample import SampleParams
from augserver.kernel import Backend
from augserver.pipeline.batch_layout import Slot
from augserver.pipeline.plan import Plan
from augserver.pipeline.volume_cache import VolumeCache, VolumeLease

# Most voxels of one kernel call (at least one sample): about 0.2 s on two cores, which is how long a cancelled stream may linger.
_CALL_VOXELS = 1 << 26


def compute_batch(
    plan: Plan, indices: Sequence[int], slot: Slot, *, cache: VolumeCache, backend: Backend, cancelled: Callable[[], bool]
) -> tuple[SampleParams, ...]:
    """Fill `slot` with the samples of `indices`; blocks.

    A batch whose volumes do not fit the cache together is computed in several kernel calls, each with the volumes it needs, so
    that no lease is held while waiting for another.

    Args:
        plan: what each index means.
        indices: of the samples, for the slot's places 0, 1, ...; not more than it has.
        slot: its first len(indices) places are overwritten.
        cancelled: asked between kernel calls; once it says True the rest is left undone.
    Returns:
        The parameters of each sample; fewer than `indices` only if cancelled.
    Raises:
        AugError: a volume that cannot be read or is larger than the cache, or a sample that cannot be drawn.
    """
    params: list[SampleParams] = []
    held: dict[str, VolumeLease] = {}
    voxels = math.prod(slot.image.shape[2:])
    done = 0  # samples that the kernel has made

    def run_kernel() -> None:
        nonlocal done
        part = params[done:]
        if not part:
            return
        backend.augment(
            [held[each.volume].volume for each in part],
            part,
            slot.image[done : len(params)],
            None if slot.label is None else slot.label[done : len(params)],
        )
        done = len(params)
        _release_all(held)

    try:
        for index in indices:
            if cancelled():
                break
            _, _, volume_id = plan.address(index)
            if (len(params) - done + 1) * voxels > _CALL_VOXELS:
                run_kernel()
            if volume_id not in held:
                lease = cache.try_lease(volume_id)
                if lease is None:
                    run_kernel()  # with what is held, so that waiting holds nothing
                    lease = cache.lease(volume_id)
                held[volume_id] = lease
            params.append(plan.params(index, held[volume_id].volume))
        if not cancelled():
            run_kernel()
    finally:
        _release_all(held)
    return tuple(params)


def _release_all(held: dict[str, VolumeLease]) -> None:
    for lease in held.values():
        lease.release()
    held.clear()
