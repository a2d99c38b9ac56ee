"""A stream as a torch IterableDataset, with or without DataLoader workers.

    loader = DataLoader(BatchDataset("127.0.0.1:50051", recipe, patch=(160, 120, 120), batch_size=4), batch_size=None)

Without workers a background thread receives ahead, and the tensors share the received memory, which a server on this host shares with its
kernel: usually the fastest. With W workers, worker w opens its own connection and takes the steps w, w + W, ... over gRPC; DataLoader asks
its workers in turn, so the order is that of the steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from augclient.client import Server, connect
from augclient.errors import StateError
from augclient.recipe import Recipe
from augclient.stream import Batch, Stream
from augclient.stream.spec import check_int
from augclient.tls_files import TlsConfig


class BatchDataset(IterableDataset[Any]):
    """Batches as tensors: image (N, C, Z, Y, X), label (N, Z, Y, X) uint8; image alone where no volume has a label.

    Give it to a DataLoader with batch_size=None: it yields whole batches. Every pass begins at `start`, or at the loaded state; a
    second pass is the same batches again, so train on one endless pass (steps=None). Nothing is connected before the first
    pass, so it can be pickled and forked.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        recipe: Recipe,
        *,
        patch: Sequence[int],
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        steps: int | None = None,
        rank: int = 0,
        world: int = 1,
        image_dtype: str = "float32",
        transport: str = "auto",
        state: Mapping[str, Any] | None = None,
        prefetch: int = 2,
        reconnect_s: float = 300.0,
        step_timeout_s: float = 60.0,
        hedge_s: float | None = 5.0,
        volumes: Sequence[str] | None = None,
        token: str | None = None,
        tls: TlsConfig | bool | None = None,
        timeout_s: float = 30.0,
        receiver: str = "auto",
    ) -> None:
        """Arguments as for Server.stream() and connect(); they are checked, and errors raised, when a pass begins.

        A server that is not there yet is waited for, as long as for one that is away: reconnect_s.
        """
        super().__init__()
        self._address = address
        self._connect_arguments: dict[str, Any] = {
            "token": token,
            "tls": tls,
            "timeout_s": timeout_s,
            "wait_s": reconnect_s,
            "receiver": receiver,
        }
        self._recipe = recipe
        self._start = start
        self._steps = steps
        self._arguments: dict[str, Any] = {
            "patch": tuple(patch),
            "batch_size": batch_size,
            "seed": seed,
            "rank": rank,
            "world": world,
            "image_dtype": image_dtype,
            "transport": transport,
            "prefetch": prefetch,
            "writable": True,  # a tensor does not know that it must not be written to: in place operations would end the process
            "reconnect_s": reconnect_s,
            "step_timeout_s": step_timeout_s,
            "hedge_s": hedge_s,
            "volumes": volumes,
        }
        self._state = state
        self._reached: dict[str, Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        """One pass, on a connection of its own; in a worker, its share of it."""
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        with connect(self._address, **self._connect_arguments) as server, self._open(server, number, workers) as stream:
            for batch in stream:
                if workers == 1:
                    self._reached = stream.state_dict()
                yield _tensors(batch)

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """A token for load_state_dict(), `state=`, or Server.stream(): go on at the next undelivered batch.

        Args:
            delivered: batches that the loader has returned in this pass. Needed with workers, which run ahead of the loader in
                other processes; without workers the dataset counts for itself.
        Raises:
            StateError: no batch was iterated in this process, and `delivered` is not given.
        """
        if delivered is not None:
            check_int("delivered", delivered, 0, (1 << 63) - 1)
            with connect(self._address, **self._connect_arguments) as server:
                token = self._whole(server).state_dict()
            return {**token, "step": token["step"] + delivered}
        if self._reached is None:
            raise StateError("no batch was iterated in this process; with DataLoader workers pass delivered=, the batches received so far")
        return dict(self._reached)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the passes that follow begin at the token's step; StateError, when one begins, if it is of another stream."""
        self._state = dict(state)
        self._reached = dict(state)

    def _whole(self, server: Server) -> Stream:
        return server.stream(self._recipe, start=self._start, steps=self._steps, state=self._state, **self._arguments)

    def _open(self, server: Server, number: int, workers: int) -> Stream:
        """The stream of worker `number` of `workers`."""
        whole = self._whole(server)
        if workers == 1:
            return whole
        first = whole.next_step + number
        steps = None if whole.stop is None else max(whole.stop - first, 0)
        return server.stream(self._recipe, start=first, steps=steps, stride=workers, **self._arguments)


def _tensors(batch: Batch) -> Any:
    image = torch.from_numpy(batch.image)
    return image if batch.label is None else (image, torch.from_numpy(batch.label))
