"""Worker processes, each on a port of its own, kept alive: started, watched, started again when they fail, stopped together.

    supervisor (one thread, no server, no GPU)          worker "cuda:0"  `augserver serve ... --address HOST:PORT --supervisor PID`
      holds PORT, bound but not listening       <---->    listens on PORT
      reads a pipe of its own                   <----     writes one line when it is ready (--ready-fd), closes it by ending
      stop signal                               ---->     SIGTERM: drains; a second one: stops at once
      start again, after a wait that doubles    <----     ends with EXIT_DEVICE_LOST, or crashes
      dies, even by kill -9                     ---->     SIGTERM from the system (`end_with_supervisor`)

How to use it, for one worker or many:

    port = HeldPort(address)                    # port 0 picks one here, once; it stays the same through all restarts
    spec = WorkerSpec("cuda:0", lambda ready: [sys.executable, ..., "--address", str(port.address), "--supervisor", str(os.getpid())])
    with StopSignals() as signals:
        code = Supervisor([spec], on_ready=lambda name, ready: click.echo(ready), say=..., drain_s=...).run(signals)

`on_ready` gets each worker's Ready once, at its first start; whoever runs several may wait for all of them before saying so.
A worker is restarted if it was ready once, or if it lost its device or was killed before; one that refuses its settings ends the whole
at once, with its own exit code, as every start would end alike.

The supervisor knows nothing of datasets or devices. Linux only (prctl).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from augclient.serving_child import Ready

from augserver.backends import EXIT_DEVICE_LOST
from augserver.cli.processes.stop_signals import StopSignals
from augserver.errors import StateError, UnavailableError
from augserver.service.address import Address

_KILL_AFTER_S = 15.0  # beyond the drain: a process that is stuck in a driver call heeds no SIGTERM
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How long to wait before a worker is started again, and when not to.

    Attributes:
        first_delay_s, max_delay_s: the wait doubles from one to the other with every failure in a row.
        steady_s: a worker that lived this long has recovered: its next failure is the first of a row again.
        max_failures: in a row; the next one ends everything.
    """

    first_delay_s: float = 0.5  # a driver needs a moment to take a context down
    max_delay_s: float = 30.0
    steady_s: float = 60.0
    max_failures: int = 6  # half a minute of attempts with the delays above; then the device needs a person

    def delay_s(self, failures: int) -> float:
        """The wait after this many failures in a row, 1 or more."""
        return float(min(self.first_delay_s * 2.0 ** (failures - 1), self.max_delay_s))


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker.

    Attributes:
        name: for messages, such as "cuda:0".
        command: argv of its process without --ready-fd, given what its first start said when it was ready, or None before: a restart
            can so insist on the backend that the first start took.
    """

    name: str
    command: Callable[[Ready | None], Sequence[str]]


class HeldPort:
    """A port that stays ours while no worker listens on it: bound here, without listening, with SO_REUSEADDR as gRPC binds it too.

    Raises:
        StateError: the address is taken or not one of this machine.
    """

    def __init__(self, address: Address) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((address.host, address.port))
        except OSError as error:
            self._socket.close()
            raise StateError(
                f"cannot listen on {address}: {error.strerror}; stop what listens there, pick another port, or use port 0"
            ) from error
        self.address = Address(address.host, self._socket.getsockname()[1])

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()

    def __enter__(self) -> HeldPort:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Supervisor:
    """Runs workers until a stop signal, or until one of them cannot be kept alive.

    Args:
        specs: the workers; names differ.
        on_ready: called with (name, what it said) when a worker is ready for the first time.
        say: takes one line for the operator: which worker ended, why, how often, what follows.
        drain_s: how long workers may take to end after a stop signal, beside a few seconds; then they are killed.
        policy: of restarts.
    """

    def __init__(
        self,
        specs: Sequence[WorkerSpec],
        *,
        on_ready: Callable[[str, Ready], None],
        say: Callable[[str], None],
        drain_s: float,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._policy = policy or RestartPolicy()
        self._workers = [_Worker(spec) for spec in specs]
        self._on_ready = on_ready
        self._say = say
        self._kill_after_s = drain_s + _KILL_AFTER_S

    def run(self, signals: StopSignals) -> int:
        """Start the workers and keep them alive; blocks. No worker is left when it returns or raises.

        Returns:
            0 after a stop signal that all workers heeded in time; 128 + n where signal n was the second; the exit code of a worker
            that ended by itself before it was ready.
        Raises:
            UnavailableError: a worker failed too often in a row; says how, and how often.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(signals, selectors.EVENT_READ)
            try:
                code = self._watch(selector, signals)
                return code if code is not None else self._stop(signals)
            finally:
                for worker in self._workers:
                    worker.kill()

    def _watch(self, selector: selectors.BaseSelector, signals: StopSignals) -> int | None:
        """Start and restart; None at a stop signal, else the exit code of a worker that cannot start. Stops the others then."""
        while True:
            now = time.monotonic()
            for worker in self._workers:
                if worker.process is None and worker.start_at <= now:
                    worker.start(selector)
            waits = [worker.start_at - now for worker in self._workers if worker.process is None]
            for key, _ in selector.select(min(waits, default=None)):
                if key.fileobj is signals:
                    if signals.wait(0):
                        return None
                elif (code := self._heed(key.data, selector, signals)) is not None:
                    self._stop(signals)
                    return code

    def _heed(self, worker: _Worker, selector: selectors.BaseSelector, signals: StopSignals) -> int | None:
        """Read what a worker says; its exit code if it ended and must not be started again."""
        for line in worker.read_lines():
            ready = Ready.from_line(line)
            if worker.ready is None:
                worker.ready = ready
                self._on_ready(worker.spec.name, ready)
            else:
                self._say(f"worker {worker.spec.name} is back: {ready}")
        if not worker.ended:
            return None
        lived_s = time.monotonic() - worker.started_at
        code = worker.reap(selector)
        if worker.ready is None and code > 0 and code != EXIT_DEVICE_LOST:
            return code  # it has said why on stderr
        worker.failures = 1 if lived_s >= self._policy.steady_s else worker.failures + 1
        reason = f"worker {worker.spec.name} {_describe(code)} after {lived_s:.1f} s"
        if worker.failures > self._policy.max_failures:
            self._stop(signals)
            raise UnavailableError(
                f"{reason}, the {worker.failures}th time in a row; it is not started again: see what it said above, check the device "
                "(nvidia-smi, augserver doctor), then start the server anew"
            )
        delay_s = self._policy.delay_s(worker.failures)
        worker.start_at = time.monotonic() + delay_s
        self._say(f"{reason} (failure {worker.failures} of {self._policy.max_failures} in a row); starting it again in {delay_s:g} s")
        return None

    def _stop(self, signals: StopSignals) -> int:
        """Let all workers drain; a second signal hurries them. Those that do not end are killed by `run`."""
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        deadline = time.monotonic() + self._kill_after_s
        forced = 0
        while any(worker.runs for worker in self._workers) and time.monotonic() < deadline:
            # 50 ms: how late the end of the last worker may be seen
            if number := signals.wait(0.05):
                forced = forced or 128 + number
                for worker in self._workers:
                    worker.send(signal.SIGTERM)
        late = [worker.spec.name for worker in self._workers if worker.runs]
        if late:
            self._say(f"killed after {self._kill_after_s:g} s without an end: {', '.join(late)}")
        return forced


class _Worker:
    """One worker's process and its history."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: Ready | None = None
        self.failures = 0
        self.started_at = self.start_at = 0.0
        self.ended = False
        self._pipe = -1
        self._text = b""

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, selector: selectors.BaseSelector) -> None:
        # A session of its own: Ctrl-C in a terminal goes to the supervisor alone, which hands it on once.
        self._pipe, writing = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*self.spec.command(self.ready), "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # its sentence for people; the supervisor says its own
                pass_fds=(writing,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(writing)
        self.started_at, self.ended, self._text = time.monotonic(), False, b""
        selector.register(self._pipe, selectors.EVENT_READ, self)

    def read_lines(self) -> list[str]:
        """Whole lines that have come; sets `ended` at the end of its pipe, which is the end of the process."""
        some = os.read(self._pipe, 4096)
        self.ended = not some
        *lines, self._text = (self._text + some).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def reap(self, selector: selectors.BaseSelector) -> int:
        """Wait for a process that has ended; its exit code, or minus the signal that killed it."""
        process, self.process = self.process, None
        if process is None:
            raise StateError(f"worker {self.spec.name} does not run")
        selector.unregister(self._pipe)
        os.close(self._pipe)
        return process.wait()

    def send(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, if it runs, and leave no zombie."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            os.close(self._pipe)


def end_with_supervisor(pid: int) -> None:
    """Called by a worker at its start: have the system send it SIGTERM when process `pid`, its parent, dies.

    Raises:
        UnavailableError: it is dead already.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != pid:  # asked after prctl, so that no moment is left between
        raise UnavailableError(f"the supervisor, process {pid}, has ended")


def _describe(code: int) -> str:
    if code == EXIT_DEVICE_LOST:
        return f"lost its device (exit code {code})"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"
