"""What a stream delivers, checked before any call; the token that says where it stands.

A stream is the steps [start, stop) of a batch address space, every `stride`-th of them. The space is named by dataset, volumes, recipe,
seed, patch, batch_size and image_dtype: a token is of one space and fits no other. rank, world, stride and the range may change on resume.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from augclient.dataset import Dataset
from augclient.errors import RequestError, StateError
from augclient.recipe import Recipe
from augclient.stream.form import BatchForm
from augclient.wire.v1 import augserver_pb2 as pb

TOKEN_VERSION = 1
PASSES = ("continue", "same")  # of an adapter: what comes after the last batch of `steps`
IMAGE_DTYPES = {"float32": pb.FLOAT32, "float16": pb.FLOAT16, "uint8": pb.UINT8}

_UINT32 = (1 << 32) - 1
_UINT64 = (1 << 64) - 1
_MAX_SECONDS = 1e9  # thirty years stand for ever; gRPC takes an infinite deadline for one that is over


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A checked request for batches; RequestError names the argument, what was got, and what is allowed.

    Attributes:
        patch: (Z, Y, X) voxels of the output.
        batch_size: of the global batch, all ranks together; `world` divides it.
        steps: the stream ends before batch start + steps; None: endless.
        stride: deliver batches start, start + stride, ...
        fingerprint: of the dataset the stream is on.
        volumes: ids to draw from, sorted; None: all.
    """

    recipe: Recipe
    patch: tuple[int, int, int]
    batch_size: int
    seed: int
    start: int
    steps: int | None
    rank: int
    world: int
    stride: int
    image_dtype: str
    fingerprint: str
    volumes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, Recipe):
            raise RequestError(f"recipe: got {type(self.recipe).__name__}; allowed: an augclient.Recipe, such as Recipe.load(path)")
        if len(self.patch) != 3:
            raise RequestError(f"patch: got {len(self.patch)} numbers; allowed: three, Z, Y, X; for 2-D use Z = 1")
        for name, value in zip(("patch Z", "patch Y", "patch X"), self.patch, strict=True):
            check_int(name, value, 1, _UINT32)
        check_int("batch_size", self.batch_size, 1, _UINT32)
        check_int("seed", self.seed, 0, _UINT64)
        check_int("start", self.start, 0, _UINT64)
        if self.steps is not None:
            check_int("steps", self.steps, 0, _UINT64 - self.start)
        check_int("world", self.world, 1, _UINT32)
        check_int("rank", self.rank, 0, self.world - 1)
        check_int("stride", self.stride, 1, _UINT64)
        if self.batch_size % self.world:
            raise RequestError(f"batch_size: got {self.batch_size}; allowed: a multiple of world = {self.world}; it counts all ranks")
        if self.image_dtype not in IMAGE_DTYPES:
            raise RequestError(f"image_dtype: got {self.image_dtype!r}; allowed: {', '.join(IMAGE_DTYPES)}")

    @property
    def samples(self) -> int:
        """N of the batches that this rank receives."""
        return self.batch_size // self.world

    @property
    def stop(self) -> int | None:
        """The step behind the last one; None: endless."""
        return None if self.steps is None else self.start + self.steps

    @property
    def form(self) -> BatchForm:
        """What every batch of the stream looks like."""
        return BatchForm(self.samples, self.patch, self.image_dtype, self.fingerprint)

    def asked(self, step: int, *, alone: bool = False) -> int | None:
        """How many batches request() asks for: all to the end (None: endless), or that of `step` `alone`."""
        return 1 if alone else None if self.stop is None else -((step - self.stop) // self.stride)

    def request(self, step: int, *, alone: bool = False) -> pb.StreamBatchesRequest:
        """The request that continues the stream at `step`, or asks for that batch `alone`."""
        batches = self.asked(step, alone=alone)
        return pb.StreamBatchesRequest(
            recipe=self.recipe.proto,
            patch=self.patch,
            batch_size=self.batch_size,
            seed=self.seed,
            start=step,
            steps=None if batches is None else (batches - 1) * self.stride + 1,  # up to the last batch and no further
            stride=0 if alone or self.stride == 1 else self.stride,
            rank=self.rank,
            world=self.world,
            image_dtype=IMAGE_DTYPES[self.image_dtype],
            fingerprint=self.fingerprint,
            volumes=self.volumes,
        )

    def token(self, step: int) -> dict[str, Any]:
        """The state of a stream whose next undelivered batch is `step`: JSON-able, about 300 bytes."""
        return {"version": TOKEN_VERSION, **self._space(), "step": step}

    def step_of(self, token: Mapping[str, Any]) -> int:
        """The step at which a token continues this stream.

        Raises:
            StateError: no such token, of another version, of another dataset, recipe, seed, patch, batch size or dtype, or of
                a step outside [start, start + steps].
        """
        try:
            version, step = token["version"], operator.index(token["step"])
            theirs = {name: token[name] for name in self._space() if name != "volumes"}
            theirs["volumes"] = token.get("volumes")  # absent from tokens that were written before streams knew of it: all
        except (TypeError, KeyError) as error:
            raise StateError(f"state: {error!s} is missing or wrong; allowed: what state_dict() of a stream returned") from None
        if version != TOKEN_VERSION:
            raise StateError(f"state: version {version!r}; this client reads version {TOKEN_VERSION}: use the one that wrote it")
        for name, ours in self._space().items():
            if theirs[name] != ours:
                raise StateError(
                    f"state: it is of a stream with {name} {theirs[name]!r}, this one has {ours!r};"
                    " ask for the same stream, or leave the state out to start another"
                )
        if not self.start <= step <= (_UINT64 if self.stop is None else self.stop):
            raise StateError(f"state: next step {step} is outside this stream's steps [{self.start}, {self.stop}]; change start or steps")
        return step

    def _space(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "volumes": None if self.volumes is None else hashlib.sha256("\0".join(self.volumes).encode()).hexdigest(),
            "recipe": self.recipe.digest,
            "seed": self.seed,
            "patch": list(self.patch),
            "batch_size": self.batch_size,
            "image_dtype": self.image_dtype,
        }


def select_volumes(volumes: Sequence[str] | None, dataset: Dataset) -> tuple[str, ...] | None:
    """The ids sorted, None for all; RequestError where they are no list of different ids, NotFoundError where one is not in the dataset."""
    if volumes is None:
        return None
    ids = check_ids(volumes)
    for id_ in ids:
        dataset.info(id_)
    return tuple(sorted(ids))


def check_ids(volumes: Sequence[str]) -> list[str]:
    """`volumes` as a list of ids; RequestError where they are anything else."""
    allowed = "allowed: a list of different ids of dataset().volumes, or None for all"
    if isinstance(volumes, Mapping):
        raise RequestError(f"volumes: got {volumes!r:.200}; a weight for each volume is not supported: {allowed}")
    if isinstance(volumes, str) or not isinstance(volumes, Iterable):
        raise RequestError(f"volumes: got {volumes!r:.200}; {allowed}")
    ids = list(volumes)
    if not ids or not all(isinstance(id_, str) for id_ in ids) or len(set(ids)) < len(ids):
        raise RequestError(f"volumes: got {ids!r:.200}; {allowed}")
    return ids


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int in [low, high]; RequestError otherwise."""
    try:
        number = operator.index(value)
    except TypeError:
        raise RequestError(f"{name}: got {value!r}; allowed: a whole number") from None
    if not low <= number <= high:
        raise RequestError(f"{name}: got {number}; allowed: {low} to {high}")
    return number


def check_seconds(name: str, value: Any, *, zero: bool = False) -> float:
    """`value` as seconds above 0, or from 0 if `zero`; infinity becomes thirty years; RequestError otherwise."""
    seconds = float(value) if isinstance(value, Real) else math.nan
    if not (seconds > 0 or (zero and seconds == 0)):
        raise RequestError(f"{name}: got {value!r}; allowed: a number of seconds{', 0 or more' if zero else ' above 0'}")
    return min(seconds, _MAX_SECONDS)
