"""Random schedules of faults against toy servers: whatever happens, the steps are complete, in order and right."""

from __future__ import annotations

import threading
from typing import Any

import augclient
import grpc
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

PATCH = (2, 3, 5)
BATCH = 4
STEPS = 24

# (before which batch, which server, what happens to it)
FAULTS = ("stop", "start", "hang", "resume", "drain")
schedules = st.lists(st.tuples(st.integers(0, STEPS - 1), st.integers(0, 2), st.sampled_from(FAULTS)), max_size=12)


class Faulty:
    """A toy server to which things happen; all of it ends with `heal`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._healthy = threading.Event()
        self._healthy.set()
        self._mode = ""
        self._up = True
        self._lock = threading.Lock()
        server.servicer.refuse = self._refuse
        server.servicer.change = self._change

    @property
    def address(self) -> str:
        return self._server.address

    def suffer(self, fault: str) -> None:
        with self._lock:
            self._suffer(fault)

    def _suffer(self, fault: str) -> None:
        if fault == "stop" and self._up:
            self._healthy.set()  # a handler that hangs would keep the server from stopping
            self._server.stop()
            self._up = False
        elif fault == "start" and not self._up:
            self._server.start()
            self._up = True
        elif fault in ("hang", "drain"):
            self._mode = fault
            self._healthy.clear()
        elif fault == "resume":
            self._healthy.set()

    def heal(self) -> None:
        self.suffer("resume")
        self.suffer("start")

    def _refuse(self, request: Any, context: grpc.ServicerContext) -> None:
        if not self._healthy.is_set() and self._mode == "drain":
            context.set_trailing_metadata((("augserver-error", "UnavailableError"),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    def _change(self, parts: list[Any]) -> Any:
        for k, part in enumerate(parts):
            if k and not self._healthy.is_set() and self._mode == "hang":
                self._healthy.wait(30)
            yield part


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
@hypothesis.settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(schedule=schedules, prefetch=st.integers(1, 3), hedge_s=st.sampled_from([None, 0.03]))
def test_any_schedule_of_faults_leaves_no_gap_no_repeat_and_no_wrong_byte(toy, running, count, schedule, prefetch, hedge_s):
    servers = [type(running)(toy) for _ in range(count)]
    faulty = [Faulty(server) for server in servers]
    pending = sorted(schedule)
    healers: list[threading.Timer] = []
    try:
        with augclient.connect([each.address for each in faulty]) as server:
            stream = server.stream(
                augclient.Recipe(), patch=PATCH, batch_size=BATCH, steps=STEPS, prefetch=prefetch, hedge_s=hedge_s, step_timeout_s=0.15
            )
            steps = []
            for due in range(STEPS):
                while pending and pending[0][0] <= due:
                    _, which, fault = pending.pop(0)
                    faulty[which % count].suffer(fault)
                    # or a schedule could take all servers away for good
                    healers.append(threading.Timer(0.2, faulty[which % count].heal))
                    healers[-1].start()
                batch = next(stream)
                steps.append(batch.step)
                for k, sample in enumerate(batch.samples):
                    assert sample.index == due * BATCH + k
                    np.testing.assert_array_equal(batch.image[k], toy.toy_image(sample.index, PATCH))
                    np.testing.assert_array_equal(batch.label[k], toy.toy_label(sample.index, PATCH))
            assert steps == list(range(STEPS))
            with pytest.raises(StopIteration):
                next(stream)
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("augclient-")] == []
    finally:
        for healer in healers:
            healer.join()
        for each in faulty:
            each.heal()
        for server in servers:
            server.stop()
