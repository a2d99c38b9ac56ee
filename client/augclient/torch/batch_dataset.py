"""BatchDataset, with or without DataLoader workers.

    loader = DataLoader(BatchDataset("127.0.0.1:50051", recipe, patch=(160, 120, 120), batch_size=4), batch_size=None)

Without workers a background thread receives ahead, and the tensors share the received memory, which a server on this host shares with its
kernel: usually the fastest. With W workers, worker w opens its own connection and takes the steps w, w + W, ...; DataLoader asks its
workers in turn, so the order is that of the steps.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from augclient.client import Server, connect
from augclient.errors import RequestError, StateError
from augclient.recipe import Recipe
from augclient.stream import Batch
from augclient.stream.spec import PASSES, check_int
from augclient.stream.stream import Progress
from augclient.tls_files import TlsConfig
from augclient.torch.pass_record import Pass, PassRecord

_MAX_STEP = (1 << 63) - 1

_log = logging.getLogger("augclient")


class BatchDataset(IterableDataset[Any]):
    """Batches as tensors: image (N, C, Z, Y, X), label (N, Z, Y, X) uint8; image alone where no volume has a label.

    Give it to a DataLoader with batch_size=None: it yields whole batches. `steps` is the length of a pass (an epoch) and len() of this.

        passes="continue"   a pass goes on with the batches behind those of the last one: start, start + steps, start + 2 steps, ...
        passes="same"       every pass is the same batches, start to start + steps: for validation

    A pass that is broken off (`break`) is followed by a whole one, from the very next batch on. With DataLoader workers, which run ahead of
    the loader, nobody knows that batch: the next pass begins behind the last one's `steps` (or, where those are endless, behind what
    the workers had made), and a warning says so. A loaded state begins in the middle of its pass, and the passes after it are whole.
    Of two passes at once, the older one raises StateError when it goes on, unless they are the same batches.

    Nothing is connected before the first pass, so it can be pickled and forked.
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
        passes: str = "continue",
    ) -> None:
        """Arguments as for Server.stream() and connect(); all but `passes` are checked, and errors raised, when a pass begins.

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
        if passes not in PASSES:
            raise RequestError(f"passes: got {passes!r}; allowed: {', '.join(PASSES)}")
        self._goes_on = passes == "continue"
        self._record = PassRecord()
        self._space: dict[str, Any] | None = None  # a token of any step; None: not asked for yet
        # of this process alone
        self._pass: Pass | None = None
        self._progress: Progress | None = None
        self._own: dict[str, Any] | None = None  # the state that this worker was given
        if state is not None:
            self.load_state_dict(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pass": None, "_progress": None, "_own": None}

    def __len__(self) -> int:
        """Batches of a whole pass; TypeError where it is endless."""
        if self._steps is None:
            raise TypeError("a BatchDataset without `steps` is endless and has no len()")
        return self._steps

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass, on a connection of its own; in a worker, its share of it."""
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        own, self._own, self._progress = self._own, None, None
        server = connect(self._address, **self._connect_arguments)
        try:
            if number:
                assert worker is not None
                this = self._record.join(number, worker.seed - number)
            else:
                command, loaded = self._record.pending
                self._check(server, own or loaded)
                span = self._next_pass(loaded)
                if own is not None:
                    span = own["pass_begin"], own["pass_stop"], _named(loaded, own["pass_number"])
                this = self._record.begin(
                    *span, command=command, workers=0 if worker is None else workers, seed=worker.seed if worker else 0
                )
            first = this.begin + number if own is None else own["step"]
            steps = None if this.stop is None else max(this.stop - first, 0)
            stream = server.stream(self._recipe, start=first, steps=steps, stride=workers, **self._arguments)
        except BaseException:
            server.close()
            raise
        stream.deliver_as(_into_tensors(self._record, this, number, workers, only=self._goes_on), server.close)
        self._pass, self._space, self._progress = this, stream.state_dict(), stream.progress
        return stream

    def state_dict(self, *, delivered: int | None = None) -> dict[str, Any]:
        """A token for load_state_dict(), `state=`, or Server.stream(): go on at the next undelivered batch.

        torchdata's StatefulDataLoader asks every worker for its own and needs no `delivered`.

        Args:
            delivered: batches that the loader has returned in this pass. Needed with workers, and with whatever else fetches ahead of the
                loop, as Accelerate does by one batch; without them the dataset counts for itself.
        Raises:
            StateError: a pass with workers has begun in other processes, and `delivered` is not given.
            RequestError: `delivered` is more than a pass has.
        """
        worker = get_worker_info()
        if worker is not None:
            return self._worker_state(worker.id, worker.num_workers)
        _, command = self._record.pending
        last = self._record.last
        begins = command is not None or not last.serial  # whether it is before the pass that is spoken of
        begin, stop, _ = self._next_pass(command) if begins else (last.begin, last.stop, 0)
        if delivered is not None:
            check_int("delivered", delivered, 0, _MAX_STEP if stop is None else stop - begin)
            return self._token(begin + delivered, stop)
        if begins:
            return self._token(begin, stop) if command is None or "step" not in command else _without_number(command)
        if last.workers:
            raise StateError(
                "the batches of this pass come from DataLoader workers, and how many the loader has returned is not known here; pass"
                " delivered=, the batches received in this pass, or use torchdata's StatefulDataLoader"
            )
        return self._token(self._reached(last), stop)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass begin at the token's step; StateError, when it begins, if it is of another stream.

        It reaches DataLoader workers that live on (persistent_workers), too, with their next pass.
        """
        worker = get_worker_info()
        if worker is None and "worker" in state:
            raise StateError("state: it is that of one DataLoader worker; allowed: what state_dict() returned in the main process")
        if worker is None:
            _, command = self._record.pending
            number = _named(command, None)
            self._record.command(_without_number(state) if number is None else {**state, "number": number})
            return
        if (state.get("worker"), state.get("workers")) != (worker.id, worker.num_workers):
            raise StateError(
                f"state: it is of worker {state.get('worker')} of {state.get('workers')}, this is {worker.id} of {worker.num_workers};"
                " load it with as many workers"
            )
        self._own = dict(state)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of this number: the batches from start + epoch * steps on.

        Passes advance by themselves, so a number that says where the dataset stands anyway changes nothing: that of the pass to come, or
        of one that was broken off. Just before or after load_state_dict() it says what number the loaded pass has, as frameworks call
        it that count from 0 again. Without `steps` there are no epochs, and nothing happens.
        """
        check_int("epoch", epoch, 0, _MAX_STEP)
        if self._steps is None:
            return
        _, command = self._record.pending
        last = self._record.last
        at_hand = last.number + 1, last.number + self._ended(last)  # the pass to come, and one that was broken off
        if command is not None and ("step" in command or command == {"number": epoch}):
            self._record.command({**command, "number": epoch})
        elif self._goes_on and command is None and last.serial and epoch in at_hand:
            self._record.command({"number": epoch})
        else:
            self._record.command({"epoch": epoch})

    def _next_pass(self, command: Mapping[str, Any] | None) -> tuple[int, int | None, int]:
        """Begin, stop and number of the pass to come."""
        last = self._record.last
        number = 0 if not last.serial else last.number + self._goes_on
        if command is not None and "step" in command:
            return self._loaded_pass(command)
        if command is not None:
            number = command.get("number", command.get("epoch"))
        jump = not last.serial or not self._goes_on or (command is not None and "epoch" in command)
        begin = self._start + number * (self._steps or 0) if jump else self._reached(last)
        return begin, None if self._steps is None else begin + self._steps, number

    def _loaded_pass(self, token: Mapping[str, Any]) -> tuple[int, int | None, int]:
        try:
            step = operator.index(token["step"])
            stop = None if token.get("pass_stop") is None else operator.index(token["pass_stop"])
        except TypeError:
            raise StateError(f"state: got step {token['step']!r}; allowed: what state_dict() returned") from None
        if self._steps is None:
            return (step if self._goes_on or stop != step else self._start), None, 0
        if not self._steps:
            return step, step, token.get("number", 0)
        if stop is None or stop < step:  # of a plain Stream: passes lie side by side from `start` on
            stop = self._start + -((self._start - step) // self._steps) * self._steps
        if step == stop and self._goes_on:
            stop += self._steps
        elif step == stop:
            step = max(stop - self._steps, self._start)
            stop = step + self._steps
        return step, stop, token.get("number", max(stop - self._start, 1) // self._steps - 1)

    def _reached(self, last: Pass) -> int:
        """The batch behind those of the pass that began last."""
        made = self._record.next_made
        if not last.workers:
            return self._progress.next_step if self._progress is not None and get_worker_info() is None else made[0]
        if last.stop is not None:
            if min(made) < last.stop:
                _log.warning("a pass with DataLoader workers was broken off: the next one begins behind its last batch, at %d", last.stop)
            return last.stop
        behind = max(last.begin, max(made) - last.workers + 1)
        _log.warning("a pass with DataLoader workers was broken off: the next one begins behind what they had made, at %d", behind)
        return behind

    def _ended(self, last: Pass) -> bool:
        made = (self._progress.next_step,) if not last.workers and self._progress is not None else self._record.next_made
        return last.stop is not None and min(made) >= last.stop

    def _check(self, server: Server, token: Mapping[str, Any] | None) -> None:
        """StateError where a state is of another stream; other commands are none."""
        if token is not None and "step" in token:
            server.stream(self._recipe, start=self._start, state=token, **self._arguments)

    def _token(self, step: int, stop: int | None) -> dict[str, Any]:
        if self._space is None:
            with connect(self._address, **self._connect_arguments) as server:
                self._space = server.stream(self._recipe, start=self._start, **self._arguments).state_dict()
        return {**self._space, "step": step} if stop is None else {**self._space, "step": step, "pass_stop": stop}

    def _worker_state(self, number: int, workers: int) -> dict[str, Any]:
        if self._pass is None or self._progress is None:
            raise StateError("this worker has begun no pass yet; ask after iter()")
        this = {"pass_begin": self._pass.begin, "pass_stop": self._pass.stop, "pass_number": self._pass.number}
        return {**(self._space or {}), "step": self._progress.next_step, **this, "worker": number, "workers": workers}


def _into_tensors(record: PassRecord, this: Pass, number: int, workers: int, *, only: bool) -> Callable[[Batch], Any]:
    """What makes a batch of this pass tensors; `only`: as long as no other pass has begun."""

    def convert(batch: Batch) -> Any:
        if only and record.last.serial != this.serial:
            raise StateError(
                f"batch {batch.step}: another pass over this dataset has begun meanwhile, and goes on with the same batches; iterate one at"
                ' a time, make a dataset for each, or take passes="same"'
            )
        record.made(number, batch.step + workers)
        image = torch.from_numpy(batch.image)
        return image if batch.label is None else (image, torch.from_numpy(batch.label))

    return convert


def _named(command: Mapping[str, Any] | None, number: Any) -> Any:
    """The number that set_epoch() gave to the pass to come, else `number`."""
    return number if command is None else command.get("number", command.get("epoch", number))


def _without_number(command: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in command.items() if name != "number"}
