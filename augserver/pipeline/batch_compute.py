"""Compute one batch: lease its volumes, draw its parameters, run the kernel straight into the caller's memory.

Deterministic: the arrays depend on the plan, the indices and which volumes are damaged alone, not on how the batch was split into kernel
calls. A damaged volume is set aside and the plan's replacement taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from augserver.augment.sample import SampleParams
from augserver.errors import VolumeError
from augserver.kernel import Backend
from augserver.pipeline.batch_layout import Slot
from augserver.pipeline.plan import Plan
from augserver.pipeline.quarantine import Quarantine
from augserver.pipeline.stage_clock import StageClock
from augserver.pipeline.volume_cache import VolumeCache, VolumeLease

# Most voxels of one kernel call (at least one sample): about 0.2 s on two cores, which is how long a cancelled stream may linger.
_CALL_VOXELS = 1 << 26


def compute_batch(
    plan: Plan,
    indices: Sequence[int],
    slot: Slot,
    *,
    cache: VolumeCache,
    quarantine: Quarantine,
    backend: Backend,
    cancelled: Callable[[], bool],
    clock: StageClock,
) -> tuple[SampleParams, ...]:
    """Fill `slot` with the samples of `indices`; blocks.

    A batch whose volumes do not fit the cache together is computed in several kernel calls, each with the volumes it needs, so
    that no lease is held while waiting for another.

    Args:
        plan: what each index means.
        indices: of the samples, for the slot's places 0, 1, ...; not more than it has.
        slot: its first len(indices) places are overwritten.
        quarantine: takes damaged volumes, and says which are.
        cancelled: asked between kernel calls; once it says True the rest is left undone.
        clock: gets the time of the stages "plan" and "kernel".
    Returns:
        The parameters of each sample; fewer than `indices` only if cancelled.
    Raises:
        VolumeError: more volumes are damaged than the quarantine may hold, or all of them.
        AugError: a volume that cannot be read or is larger than the cache, or a sample that cannot be drawn.
    """
    quarantine.require_budget()
    params: list[SampleParams] = []
    held: dict[str, VolumeLease] = {}
    voxels = math.prod(slot.image.shape[2:])
    done = 0  # samples that the kernel has made

    def run_kernel() -> None:
        nonlocal done
        part = params[done:]
        if not part:
            return
        image = slot.image[done : len(params)]
        label = None if slot.label is None else slot.label[done : len(params)]
        with clock.timed("kernel", image.nbytes + (0 if label is None else label.nbytes)):
            backend.augment([held[each.volume].volume for each in part], part, image, label)
        done = len(params)
        _release_all(held)

    def hold_volume(volume_id: str) -> bool:
        """Lease a volume; False: it is damaged."""
        if volume_id in quarantine:
            return False
        if volume_id in held:
            return True
        try:
            lease = cache.try_lease(volume_id)
            if lease is None:
                run_kernel()  # with what is held, so that waiting holds nothing
                lease = cache.lease(volume_id)
        except VolumeError as error:
            quarantine.set_aside(volume_id, error)
            return False
        held[volume_id] = lease
        return True

    try:
        for index in indices:
            if cancelled():
                break
            _, _, planned = plan.address(index)
            if (len(params) - done + 1) * voxels > _CALL_VOXELS:
                run_kernel()
            candidates = itertools.chain((planned,), plan.replacements(index))
            volume_id = next(filter(hold_volume, candidates), None)
            if volume_id is None:
                raise VolumeError(
                    "every volume of the dataset is damaged; restore it from a copy, or ingest again, and start the server again"
                )
            with clock.timed("plan"):
                params.append(plan.params(index, held[volume_id].volume, replacement=None if volume_id == planned else volume_id))
        if not cancelled():
            run_kernel()
    finally:
        _release_all(held)
    quarantine.count_replaced(sum(bool(each.replaces) for each in params))
    return tuple(params)


def _release_all(held: dict[str, VolumeLease]) -> None:
    for lease in held.values():
        lease.release()
    held.clear()
