"""Read requests: every field is checked here, wholly, before any work is done or memory taken.

What comes out (StreamSpec and how to cut it into messages) can be computed without a further look at the request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from augclient.wire.parts import Stretch, split_payload, split_samples
from augclient.wire.rendezvous import Router
from augclient.wire.v1 import augserver_pb2 as pb

from augserver.augment import compile_recipe
from augserver.augment.recipe import makes_unit_range
from augserver.config import MIB, LimitConfig
from augserver.errors import BudgetError, PatchError, RecipeError, RequestError, StateError
from augserver.pipeline.batch_layout import BatchLayout
from augserver.pipeline.plan import Plan, batch_indices
from augserver.pipeline.scheduler import StreamSpec
from augserver.store import Dataset
from augserver.volume import VolumeInfo

_DTYPES: dict[int, str] = {pb.FLOAT32: "float32", pb.FLOAT16: "float16", pb.UINT8: "uint8"}
_MAX_INDEX = (1 << 63) - 1  # an index stays a signed 64-bit integer in every client's language
_MAX_ID = 256  # twice what the store allows
_MAX_MEMBERS = 1024  # of the contract
_MAX_NAME = 256  # a host name has at most 253 characters
_HEADER_BYTES = MIB  # room for a batch's header beside its payload in one message; limits.max_batch_size keeps it below


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """A checked request.

    Attributes:
        spec: what to compute.
        split: number of samples of a batch -> how it is cut into messages.
    """

    spec: StreamSpec
    split: Callable[[int], Iterator[Stretch]]


class RequestReader:
    """Checks requests against one dataset, the server's limits, and the samplers that its backend has."""

    def __init__(self, dataset: Dataset, limits: LimitConfig, samplers: Sequence[str]) -> None:
        self._dataset = dataset
        self._samplers = samplers
        self._limits = limits
        self._infos = {id_: dataset.info(id_) for id_ in dataset.volumes}

    def read_stream(self, request: pb.StreamBatchesRequest) -> BatchRequest:
        """Check a StreamBatchesRequest.

        Raises:
            RequestError (or RecipeError, PatchError): a field is not allowed.
            NotFoundError: it names a volume that is not there.
            BudgetError: it asks for more than a limit of this server.
            StateError: it names another dataset's fingerprint.
        """
        self._check_fingerprint(request.fingerprint)
        size, world, rank = request.batch_size, request.world or 1, request.rank
        batch_indices(request.start, size, rank, world)  # checks all four
        if size > self._limits.max_batch_size:
            raise BudgetError(
                f"batch_size {size} exceeds limits.max_batch_size = {self._limits.max_batch_size}; "
                "ask for smaller batches, or raise the limit"
            )
        infos = self._select(request.volumes)
        plan = self._plan(infos, request.recipe, request.patch, request.seed)
        layout = self._layout(infos, request.recipe, plan.patch, request.image_dtype, size // world)
        start, stop = self._steps(request, size)
        router = _read_share(request.share) if request.HasField("share") else None

        def indices(step: int) -> Sequence[int]:
            whole = batch_indices(step, size, rank, world)
            return whole if router is None else [index for index in whole if router.takes(plan.address(index)[2])]

        spec = StreamSpec(plan=plan, layout=layout, indices=indices, start=start, stop=stop, stride=request.stride or 1)
        return BatchRequest(spec=spec, split=self._split(request, layout))

    def read_sample(self, request: pb.GetSampleRequest) -> BatchRequest:
        """Check a GetSampleRequest; errors as for read_stream."""
        self._check_fingerprint(request.fingerprint)
        if request.index > _MAX_INDEX:
            raise RequestError(f"index must be 0 to {_MAX_INDEX}, got {request.index}")
        infos = self._select(request.volumes)
        plan = self._plan(infos, request.recipe, request.patch, request.seed)
        layout = self._layout(infos, request.recipe, plan.patch, request.image_dtype, 1)
        self._check_message(layout, "use StreamBatches with delivery PARTS")
        index = request.index
        spec = StreamSpec(plan=plan, layout=layout, indices=lambda step: range(index, index + 1), start=0, stop=1)
        return BatchRequest(spec=spec, split=lambda samples: split_samples(samples, layout.image_bytes, layout.label_bytes))

    def read_volume(self, request: pb.GetVolumeRequest) -> tuple[VolumeInfo, int]:
        """The volume asked for, and the payload of one message.

        Raises:
            NotFoundError: no such volume; the message names the nearest id.
            RequestError: part_bytes outside the limits, or an id longer than any.
        """
        return self._info("id", request.id), self._part_bytes(request.part_bytes)

    def _info(self, field: str, id_: str) -> VolumeInfo:
        if len(id_) > _MAX_ID:  # looking for ids like it would take minutes
            raise RequestError(f"{field} must have at most {_MAX_ID} characters, got {len(id_)}; GetDataset lists the ids")
        return self._dataset.info(id_)

    def _select(self, volumes: Sequence[str]) -> dict[str, VolumeInfo]:
        """The volumes that a request draws from."""
        if not volumes:
            return self._infos
        selected = {id_: self._info("volumes", id_) for id_ in volumes}
        if len(selected) < len(volumes):
            raise RequestError(f"volumes must be different ids, got {len(volumes)}, {len(selected)} of them different")
        return selected

    def _part_bytes(self, part_bytes: int) -> int:
        """The payload of one message; 0 is the server's choice."""
        low, high = self._limits.min_part_bytes, self._limits.max_part_bytes
        if part_bytes and not low <= part_bytes <= high:
            raise RequestError(f"part_bytes must be {low} to {high}, or 0 for the server's choice, got {part_bytes}")
        return part_bytes or self._limits.part_bytes

    def _check_fingerprint(self, fingerprint: str) -> None:
        if fingerprint and fingerprint != self._dataset.fingerprint:
            raise StateError(
                f"the request is for a dataset of fingerprint {fingerprint[:80]!r}, this server holds {self._dataset.fingerprint!r}; "
                "connect to a server of that dataset, or start anew without the saved state"
            )

    def _plan(self, infos: Mapping[str, VolumeInfo], recipe: pb.Recipe, patch: Sequence[int], seed: int) -> Plan:
        limit = self._limits.max_patch_voxels
        if len(patch) != 3:  # before its numbers are multiplied or shown: there may be very many
            raise PatchError(f"patch must be three sizes (Z, Y, X) in voxels, got {len(patch)} numbers; for 2-D use Z = 1")
        if math.prod(patch) > limit:
            raise BudgetError(
                f"patch {tuple(patch)} has {math.prod(patch)} voxels, more than limits.max_patch_voxels = {limit}; "
                "ask for a smaller patch, or raise the limit"
            )
        compiled = compile_recipe(recipe, modality=self._dataset.modality, classes=self._dataset.classes)
        if compiled.sampler not in self._samplers:
            raise RecipeError(
                f"output.sampler: got {compiled.sampler!r}, and this server's backend has {', '.join(map(repr, self._samplers))}; "
                "leave it out, or serve with --backend cuda"
            )
        return Plan(infos, compiled, patch, seed, max_patch_voxels=limit)

    def _layout(
        self, infos: Mapping[str, VolumeInfo], recipe: pb.Recipe, patch: tuple[int, int, int], image_dtype: int, count: int
    ) -> BatchLayout:
        dtype = _DTYPES.get(image_dtype)
        if dtype is None:
            raise RequestError(f"image_dtype must be one of {', '.join(pb.ImageDtype.keys())}, got number {image_dtype}")
        if dtype == "uint8" and not (recipe.HasField("window") or makes_unit_range(recipe)):
            raise RecipeError(
                "image_dtype UINT8 is the windowed [0, 1] image times 255, and the recipe has no [window], nor ends in a window step that "
                "always applies and clamps; add window.low and window.high, or ask for FLOAT32 or FLOAT16"
            )
        channels = {info.shape[0] for info in infos.values()}
        if len(channels) != 1:
            raise StateError(
                f"the volumes have {sorted(channels)} channels and cannot share a batch; "
                "name those of one kind in `volumes`, or ingest them into datasets of their own"
            )
        layout = BatchLayout(
            image_shape=(count, channels.pop(), *patch),
            image_dtype=dtype,
            has_label=any(info.has_label for info in infos.values()),
        )
        if layout.slot_bytes > self._limits.max_batch_bytes:
            raise BudgetError(
                f"a batch of {count} x {patch} as {dtype} takes {layout.slot_bytes} bytes, more than "
                f"limits.max_batch_bytes = {self._limits.max_batch_bytes}; ask for a smaller batch or patch, or raise the limit"
            )
        return layout

    def _steps(self, request: pb.StreamBatchesRequest, size: int) -> tuple[int, int]:
        most = _MAX_INDEX // size  # steps whose samples all have an index that fits
        steps = request.steps if request.HasField("steps") else max(most - request.start, 0)
        if request.start > most or steps > most - request.start:
            raise RequestError(
                f"start + steps must be at most {most} for batch_size {size}, so that every index fits 63 bits; "
                f"got start {request.start}, steps {steps}"
            )
        return request.start, request.start + steps

    def _split(self, request: pb.StreamBatchesRequest, layout: BatchLayout) -> Callable[[int], Iterator[Stretch]]:
        count = layout.image_shape[0]
        image_bytes, label_bytes = layout.image_bytes // count, layout.label_bytes // count  # of one sample
        if request.delivery == pb.PARTS:
            part_bytes = self._part_bytes(request.part_bytes)
            return lambda samples: split_payload(samples * image_bytes, samples * label_bytes, part_bytes)
        if request.delivery == pb.SAMPLES:
            if request.part_bytes:
                raise RequestError(f"part_bytes goes with delivery PARTS only, got {request.part_bytes} with SAMPLES; leave it 0")
            self._check_message(layout, "use delivery PARTS")
            return lambda samples: split_samples(samples, samples * image_bytes, samples * label_bytes)
        raise RequestError(f"delivery must be one of {', '.join(pb.Delivery.keys())}, got number {request.delivery}")

    def _check_message(self, layout: BatchLayout, way_out: str) -> None:
        sample = (layout.image_bytes + layout.label_bytes) // layout.image_shape[0]
        if sample + _HEADER_BYTES > self._limits.max_message_bytes:
            raise BudgetError(
                f"one sample takes {sample} bytes, and a message with its header at most "
                f"limits.max_message_bytes = {self._limits.max_message_bytes}; {way_out}, or ask for a smaller patch"
            )


def _read_share(share: pb.Share) -> Router:
    """The samples that a Share names; RequestError where it has no meaning."""
    members, late = set(share.members), set(share.instead_of)
    if not 1 <= len(share.members) <= _MAX_MEMBERS or len(members) < len(share.members):
        raise RequestError(
            f"share.members must be 1 to {_MAX_MEMBERS} different names, got {len(share.members)}, {len(members)} of them different"
        )
    if not all(1 <= len(each) <= _MAX_NAME for each in members):
        raise RequestError(f"share.members must be names of 1 to {_MAX_NAME} characters; got one of {max(map(len, members))}")
    if share.member not in members:
        raise RequestError(f"share.member must be one of the {len(members)} share.members, got {share.member[:_MAX_NAME]!r}")
    if not late <= members - {share.member}:
        raise RequestError(f"share.instead_of must name share.members other than share.member {share.member!r}, got {len(late)} names")
    return Router(share.members, share.member, tuple(late))
