"""Where the passes over a dataset stand, in memory that its process shares with its DataLoader workers.

    main process     command: "begin the next pass here"         load_state_dict(), set_epoch()
    worker 0         pass: serial, begin, stop, number           when a pass begins; the other workers wait for it and join
    worker w         made[w]: the step that it makes next

A DataLoader tells its workers nothing: they are copies of the dataset, made anew for every pass or kept over all of them. Every cell has
one writer, so there is no lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from augclient.errors import RequestError, StateError

MAX_WORKERS = 1024
_COMMAND_BYTES = 16 << 10
_JOIN_S = 120.0  # a worker may have to import its modules before it can begin the pass that others wait for

# int64 cells
_COMMAND, _COMMAND_SIZE, _PASS, _SEED, _BEGIN, _STOP, _NUMBER, _APPLIED, _WORKERS = range(9)
_MADE, _JOINED = 16, 16 + MAX_WORKERS
_TEXT = 16 + 2 * MAX_WORKERS
_CELLS = _TEXT + _COMMAND_BYTES // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass.

    Attributes:
        serial: 1, 2, ...; 0: none has begun.
        begin, stop: its steps, half open; stop None: endless.
        number: of the epoch.
        command: the last one that it follows.
        workers: that make it; 0: the main process.
    """

    serial: int
    begin: int
    stop: int | None
    number: int
    command: int
    workers: int


class PassRecord:
    """The memory; a copy by pickle is shared if a process is started with it, else a copy."""

    def __init__(self) -> None:
        self._cells = torch.zeros(_CELLS, dtype=torch.int64).share_memory_()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self._cells.is_shared():
            self._cells.share_memory_()

    def __deepcopy__(self, memo: dict[int, Any]) -> PassRecord:
        other = PassRecord()
        other._cells.copy_(self._cells)
        return other

    def command(self, content: Mapping[str, Any]) -> None:
        """Say how the next pass begins. StateError where that is no JSON, or is too long."""
        try:
            text = json.dumps(content).encode()
        except (TypeError, ValueError) as error:
            raise StateError(f"state: {error}; allowed: what state_dict() returned") from None
        if len(text) > _COMMAND_BYTES:
            raise StateError(f"state: {len(text)} bytes as JSON; allowed: what state_dict() returned, at most {_COMMAND_BYTES}")
        cells = self._cells.numpy()
        cells[_TEXT:].view("u1")[: len(text)] = bytearray(text)
        cells[_COMMAND_SIZE] = len(text)
        cells[_COMMAND] += 1

    @property
    def pending(self) -> tuple[int, dict[str, Any] | None]:
        """The number of the last command, and what it says if no pass has begun since."""
        cells = self._cells.numpy()
        serial = int(cells[_COMMAND])
        if serial == int(cells[_APPLIED]):
            return serial, None
        return serial, json.loads(bytes(cells[_TEXT:].view("u1")[: int(cells[_COMMAND_SIZE])]))

    @property
    def last(self) -> Pass:
        """The pass that began last."""
        cells = self._cells.numpy()
        stop = int(cells[_STOP])
        return Pass(
            serial=int(cells[_PASS]),
            begin=int(cells[_BEGIN]),
            stop=None if stop < 0 else stop,
            number=int(cells[_NUMBER]),
            command=int(cells[_APPLIED]),
            workers=int(cells[_WORKERS]),
        )

    def begin(self, begin: int, stop: int | None, number: int, *, command: int, workers: int, seed: int = 0) -> Pass:
        """Begin a pass: in the main process, or in worker 0 for all of them."""
        if workers > MAX_WORKERS:
            raise RequestError(f"num_workers: got {workers}; allowed: at most {MAX_WORKERS}")
        cells = self._cells.numpy()
        cells[_MADE : _MADE + max(workers, 1)] = [begin + worker for worker in range(max(workers, 1))]
        cells[[_SEED, _BEGIN, _STOP, _NUMBER, _APPLIED, _WORKERS]] = (seed, begin, -1 if stop is None else stop, number, command, workers)
        cells[_JOINED] = cells[_PASS] + 1
        cells[_PASS] += 1  # last: whoever waits looks at it
        return self.last

    def join(self, worker: int, seed: int) -> Pass:
        """The pass that worker 0 of the same DataLoader iterator begins; `seed` names that iterator."""
        cells = self._cells.numpy()
        until = time.monotonic() + _JOIN_S
        while not (cells[_PASS] > cells[_JOINED + worker] and cells[_SEED] == seed):
            if time.monotonic() > until:
                raise StateError(f"worker {worker} waited {_JOIN_S:g} s for worker 0 to begin the pass; iterate the DataLoader again")
            time.sleep(0.002)
        found = self.last
        cells[_JOINED + worker] = found.serial
        return found

    def made(self, worker: int, step: int) -> None:
        """Worker `worker` (0: or the main process) makes batch `step` next."""
        self._cells.numpy()[_MADE + worker] = step

    @property
    def next_made(self) -> tuple[int, ...]:
        """The step that each worker makes next, in the pass that began last; in order of the workers."""
        cells = self._cells.numpy()
        return tuple(int(step) for step in cells[_MADE : _MADE + max(int(cells[_WORKERS]), 1)])
