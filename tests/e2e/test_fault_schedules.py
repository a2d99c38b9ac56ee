"""Random schedules of faults on real processes: the trainer's steps are complete, in order and byte-equal, and nothing stays behind.

AUGSERVER_FAULT_SCHEDULES=200 pytest tests/e2e/test_fault_schedules.py      as many schedules for each road
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
from augclient import Recipe
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

SCHEDULES = int(os.environ.get("AUGSERVER_FAULT_SCHEDULES", "10"))
RECIPE = {"crop": {"mode": "uniform"}, "affine": {"rotate_deg": 10}, "noise": {"std": [1, 5]}}
STEPS = 40
BATCHES: dict[str, Any] = {"patch": (18, 40, 40), "batch_size": 16, "seed": 5, "steps": STEPS}  # 2.3 MB, so that few are under way
HURRY: dict[str, Any] = {"prefetch": 1, "step_timeout_s": 0.5, "hedge_s": 0.1}

# what happens to whom: server 0, 1 or 2 (of as many as there are), or the trainer
FAULTS = [("kill", k) for k in range(3)] + [("pause", k) for k in range(3)]
FAULTS += [("full disk", 0), ("full disk", 1), ("cut", 0), ("kill", "trainer"), ("pause", "trainer")]
schedules = st.lists(
    st.tuples(st.integers(0, STEPS - 5), st.sampled_from(FAULTS), st.sampled_from([0.0, 0.05, 0.2, 0.8])), min_size=1, max_size=6
)


class Trainer:
    """A trainer in a process of its own, which can be killed and goes on from its notes."""

    def __init__(self, zygote: Any, addresses: list[str], notes: Path, transport: str) -> None:
        self._zygote = zygote
        self._notes = notes
        how = json.dumps(BATCHES | HURRY | {"transport": transport})
        self._arguments = [",".join(addresses), str(notes), json.dumps(RECIPE), how]
        self.start()

    def start(self) -> None:
        self.pid, self.stdout = self._zygote.fork("train", *self._arguments)

    def signal(self, number: int) -> None:
        assert self.pid, "it is dead"  # and 0 is the caller's own group
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Wait for its end; its exit status."""
        pid, self.pid = self.pid, 0
        os.close(self.stdout)
        status: int = self._zygote.wait(pid)
        return status

    def notes(self) -> list[Any]:
        batches: list[Any] = json.loads(self._notes.read_text())["batches"]
        return batches


class Play:
    """A schedule at work: faults strike after their step, and end after their time."""

    def __init__(self, trainer: Trainer, servers: list[Any], schedule: list[Any], set_link: Callable[[str], None] | None) -> None:
        self._trainer = trainer
        self._servers = servers
        self._set_link = set_link
        self._coming = sorted(schedule, key=lambda event: event[0])
        self._ends: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()  # of two that end at once the first struck is first
        self._struck: set[tuple[str, Any]] = set()  # what lasts

    def run(self) -> int:
        """Until the trainer has ended by itself; its exit status. All faults are over then."""
        try:
            self._follow()
        except BaseException:
            if self._trainer.pid:
                self._trainer.kill()
            raise
        finally:
            self._end_faults(float("inf"))
        return self._trainer.end()

    def _follow(self) -> None:
        """Read the trainer's lines to their end."""
        lines = b""
        while True:
            self._end_faults(time.monotonic())
            wait_s = max(0.0, self._ends[0][0] - time.monotonic()) if self._ends else 60.0
            if not select.select([self._trainer.stdout] if self._trainer.pid else [], [], [], wait_s)[0]:
                assert self._ends, "the trainer stands still, though nothing ails it"
                continue
            lines += os.read(self._trainer.stdout, 4096) or b"end\n"
            *whole, lines = lines.split(b"\n")
            for line in whole:
                if line == b"end":
                    return
                while self._coming and self._coming[0][0] <= int(line) and self._trainer.pid:
                    _, (fault, whom), for_s = self._coming.pop(0)
                    self._strike(fault, self._trainer if whom == "trainer" else self._servers[whom % len(self._servers)], for_s)
            if not self._trainer.pid:
                lines = b""

    def _strike(self, fault: str, whom: Any, for_s: float) -> None:
        """Let something happen to someone, unless it lasts already or they are dead."""
        strike, end = {
            "kill": (whom.kill, whom.start),
            "pause": (lambda: whom.signal(signal.SIGSTOP), lambda: whom.signal(signal.SIGCONT)),
            "full disk": (lambda: self._fill(whom), lambda: whom.signal(signal.SIGRTMIN + 1)),
            "cut": (lambda: self._link("down"), lambda: self._link("up")),
        }[fault]
        key = (fault, whom)
        if key in self._struck or (fault != "cut" and not whom.pid):
            return
        life = whom.pid
        strike()
        self._struck.add(key)

        def over() -> None:
            self._struck.discard(key)
            if fault in ("kill", "cut") or whom.pid == life:  # a pause or a full disk ends with who was killed meanwhile
                end()

        heapq.heappush(self._ends, (time.monotonic() + for_s, next(self._numbers), over))

    def _end_faults(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            heapq.heappop(self._ends)[2]()

    def _link(self, state: str) -> None:
        if self._set_link is not None:
            self._set_link(state)

    def _fill(self, server: Any) -> None:
        """No log line can be written from now on, and there is something to log: a client that talks nonsense."""
        server.signal(signal.SIGRTMIN)
        for path in server.sockets.iterdir():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                stranger.settimeout(0)
                stranger.connect(os.fspath(path))
                stranger.send(b"nonsense")


@pytest.fixture(scope="module")
def link(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A namespace for the first server; None where that is not allowed, and then no schedule cuts the network."""
    try:
        return request.getfixturevalue("namespace")
    except pytest.skip.Exception:
        return None


class Stage:
    """What all schedules have in common: three servers that share a folder of sockets, the first in a namespace of its own if `link`."""

    def __init__(self, zygote: Any, warm_server: Callable[..., Any], dataset: Path, folder: Path, link: Any, wanted: list[Any]) -> None:
        self.zygote = zygote
        self.sockets = folder / "sockets"
        self.set_link: Callable[[str], None] | None = link and link[2]
        self.wanted = wanted
        far = {"host": link[1], "namespace": link[0]} if link else {}
        first = warm_server(dataset, *(["--insecure"] if link else []), sockets=self.sockets, **far)
        self.servers = [first, *(warm_server(dataset, sockets=self.sockets) for _ in range(2))]


@pytest.fixture(scope="module")
def stage(
    zygote: Any,
    warm_server: Callable[..., Any],
    toy_dataset: Path,
    tmp_path_factory: pytest.TempPathFactory,
    link: Any,
    undisturbed: Callable[..., list[Any]],
) -> Stage:
    wanted = undisturbed(Recipe.from_dict(RECIPE), **BATCHES)
    return Stage(zygote, warm_server, toy_dataset, tmp_path_factory.mktemp("stage"), link, wanted)


@pytest.mark.timeout(300 + 20 * SCHEDULES)
@pytest.mark.parametrize(("count", "transport"), [(1, "local"), (1, "grpc"), (3, "auto")])
@hypothesis.settings(
    max_examples=SCHEDULES,
    deadline=None,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],  # a schedule of real processes does not shrink well
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(schedule=schedules)
def test_any_schedule_costs_time_alone(
    stage: Stage, unchanged_shm: Any, tmp_path_factory: Any, count: int, transport: str, schedule: list[Any]
) -> None:
    notes = tmp_path_factory.mktemp("trainer") / "notes.json"
    servers = stage.servers[:count]
    with unchanged_shm():
        trainer = Trainer(stage.zygote, [server.address for server in servers], notes, transport)
        status = Play(trainer, servers, schedule, stage.set_link).run()
        assert status == 0, stage.zygote.log.read_text()[-3000:]
        assert trainer.notes() == stage.wanted
        for server in stage.servers:
            server.wait_idle()
    assert len(list(stage.sockets.iterdir())) == len(stage.servers)
    children = psutil.Process(stage.zygote.process.pid).children(recursive=True)
    assert {child.pid for child in children} == {server.pid for server in stage.servers}
