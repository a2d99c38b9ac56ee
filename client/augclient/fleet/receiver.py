"""A stream from several servers: each sends the samples of the volumes that fall to it, here they become whole batches in order.

    roster: who is up -> one lane per member -> BatchMerge -> HandOver
       ^                    |
       '---- lost ----------'   a member is lost, returns, or is new: all lanes end, and begin again at the first batch that is not whole

Exactly once and in order because the client counts: a batch is ready when each of its samples has come, and it comes after the one
before it. A member that sends nothing for `hedge_s` while its share holds a batch up is late: the members next in order are asked for its
shares too, until it sends one before them. One that sends nothing for `step_timeout_s` is lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from augclient.errors import AugError, BudgetError, DeadlineError, StateError, UnavailableError, WireError
from augclient.fleet.lane import Lane
from augclient.fleet.merge import BatchMerge
from augclient.fleet.roads import FleetRoad
from augclient.fleet.roster import Roster
from augclient.stream.batch import Batch
from augclient.stream.road import Road
from augclient.stream.thread_start import start_aside
from augclient.wire.status import error_from_rpc, is_outage
from augclient.wire.v1 import augserver_pb2 as pb

_LOOK_S = 0.1  # how soon a close() is seen, which takes no lock and so notifies nobody


class FleetReceiver:
    """Receives the batches of a stream from all members of a roster, in order, each exactly once.

    Args:
        merge: at the first batch.
        make_roster: gives the roster, whose condition is the one handed in.
        open_call: (address, step, share, road) -> the call that sends the share of `step` and of those after it over that road.
        roads: gives them.
        reconnect_s: how long no member may be up, from the loss to the next whole batch.
        step_timeout_s, hedge_s: see above; hedge_s None: nobody is late.
    """

    def __init__(
        self,
        merge: BatchMerge,
        make_roster: Callable[[threading.Condition], Roster],
        open_call: Callable[[str, int, pb.Share, Road], Any],
        roads: FleetRoad,
        *,
        reconnect_s: float,
        step_timeout_s: float,
        hedge_s: float | None,
    ) -> None:
        self._merge = merge
        self._open_call = open_call
        self._roads = roads
        self._reconnect_s = reconnect_s
        self._step_timeout_s = step_timeout_s
        self._hedge_s = hedge_s
        # Never taken by the trainer's thread, which an interrupt could let leave with it. Re-entrant (a Condition's own choice), as a
        # garbage collection under it may end a Stream.
        self._changed = threading.Condition()
        self._lanes: list[Lane] = []
        self._stand_ins: list[Lane] = []
        self._hedged: frozenset[str] = frozenset()  # the late members for whom others were asked
        self._due_since = time.monotonic()  # since when a batch has been due without a pause
        self._changes = 0  # of the members at work
        self._make_roster = make_roster
        self._threads: list[threading.Thread] = []
        self._started = False
        self._unclaimed = [self]  # the thread that takes this out is the one that receives

    @property
    def ready(self) -> deque[Batch]:
        """See HandOver."""
        return self._merge.hand_over.ready

    def start(self) -> None:
        """Start the threads, if they were not. After an interrupt it is not known whether they were: a second one ends at once."""
        if not self._started and self._unclaimed:
            thread = threading.Thread(target=self._run, name="augclient-fleet", daemon=True)
            self._threads.append(thread)
            start_aside(thread, self._merge.hand_over.end)
            self._started = True

    def wait(self, step: int) -> bool:
        """See HandOver."""
        if not self._merge.may_receive(self._merge.first_open):
            self._due_since = time.monotonic()
        self._merge.hand_over.ask_for(step)
        return self._merge.hand_over.wait(step, lambda: None)

    def close(self) -> None:
        """Cancel the calls, drop what was received, and wait for the threads to end. Any thread, any number of times."""
        self._merge.hand_over.close()  # within _LOOK_S all see it
        if not threading.current_thread().name.startswith("augclient-"):  # a garbage collection may end a stream in a thread of its own
            for thread in tuple(self._threads):
                if thread.is_alive():
                    thread.join()

    def _run(self) -> None:
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        self._roster = self._make_roster(self._changed)
        error: Exception | None = None
        try:
            self._receive_all()
        except Exception as caught:  # raised to the trainer by wait()
            error = caught
        finally:
            self._merge.hand_over.end(error)
            self._roster.close()
            self._roster.thread.join()

    @property
    def _closing(self) -> bool:
        return self._merge.hand_over.closing

    def _receive_all(self) -> None:
        """Receive until the last batch, or until the stream closes."""
        stalled_at: float | None = None  # when the first member was lost since the last whole batch
        while members := self._wait_for_members(stalled_at or time.monotonic()):
            first = self._merge.first_open
            if self._receive(members):
                return
            self._changes += 1
            if stalled_at is None or self._merge.first_open > first:
                stalled_at = time.monotonic()

    def _wait_for_members(self, since: float) -> tuple[str, ...]:
        """Wait until someone is up; nobody: the stream is closing.

        Raises:
            StateError: all came back with another dataset. UnavailableError: nobody is up, reconnect_s after `since`.
        """
        with self._changed:
            while not self._closing:
                full = not self._merge.may_receive(self._merge.first_open)
                if full:
                    self._due_since = time.monotonic()  # the trainer does not ask now, so this time does not count
                if members := self._roster.live():
                    return members
                if self._roster.all_strangers():
                    raise StateError(f"no server can go on with this stream: {self._roster.reasons()}")
                left_s = max(since, self._due_since) + self._reconnect_s - time.monotonic()
                if left_s <= 0 and not full:
                    raise UnavailableError(
                        f"{self._roster.reasons()} No server for reconnect_s = {self._reconnect_s:g} s; the next batch is"
                        f" {self._merge.first_open}: restart one and resume with state_dict()"
                    )
                self._changed.wait(_LOOK_S if full else min(left_s, _LOOK_S))
            return ()

    def _receive(self, members: tuple[str, ...]) -> bool:
        """Receive from these members until others are at work; whether the last batch came, or the stream is closing."""
        with self._changed:
            self._roads.keep(self._roster.known())
            self._lanes = [self._start_lane(members, member) for member in members]
        try:
            while True:
                with self._changed:
                    if self._closing or self._merge.all_received:
                        return True
                    late = self._judge(members)
                    if late is None:
                        return False
                    if late == self._hedged:
                        self._changed.wait(min(self._next_look_s(), _LOOK_S))
                        continue
                self._hedge(members, late)
        finally:
            self._end(self._lanes)
            self._end(self._stand_ins)
            with self._changed:
                self._hedged = frozenset()
                self._merge.forget_open()

    def _judge(self, members: tuple[str, ...]) -> frozenset[str] | None:
        """Look at all lanes; the members that are late, or None when others than `members` are at work now. The lock is held.

        Raises:
            AugError: what a server answered, unless it is gone; WireError: shares that do not make a whole batch.
        """
        now = time.monotonic()
        for lane in self._lanes + self._stand_ins:
            silent_s = 0.0 if lane.waiting_since is None else now - lane.waiting_since
            if lane.error is not None:
                self._heed_error(lane, lane.error)
            elif silent_s >= self._step_timeout_s:
                self._lose(
                    lane,
                    DeadlineError(f"nothing came for step_timeout_s = {self._step_timeout_s:g} s, though batch {lane.step} is due."),
                )
            elif self._hedge_s is not None and silent_s >= self._hedge_s and lane.step == self._merge.first_open:
                lane.late = lane in self._lanes
        if self._roster.live() != members:
            return None
        if all(lane.step > self._merge.first_open for lane in self._lanes):
            raise WireError(f"batch {self._merge.first_open}: all of {', '.join(members)} have sent their shares, and samples are missing")
        for lane in self._lanes:
            if lane.late and lane.step < self._merge.first_open:
                lane.cancel()  # the first answer won; here, the other one's
        late = frozenset(lane.member for lane in self._lanes if lane.late)
        return late if len(late) < len(members) else self._hedged

    def _heed_error(self, lane: Lane, error: Exception) -> None:
        named = error_from_rpc(error, lane.member) if isinstance(error, grpc.RpcError) else error
        if type(named) is StateError:  # restarted with another dataset: the others go on
            self._lose(lane, named)
            return
        if not isinstance(error, grpc.RpcError) or not isinstance(named, AugError):
            raise error
        # A server that was left a moment ago may count its old stream still, and a stand-in is a favour that may be refused.
        crowded = isinstance(named, BudgetError) and (lane in self._stand_ins or self._changes)
        if not (is_outage(error) or crowded):
            raise named from error
        self._lose(lane, named)

    def _lose(self, lane: Lane, reason: AugError) -> None:
        progress = any(each.shares for each in self._lanes if each.member == lane.member)
        self._roster.lost(lane.member, reason, after_progress=progress)

    def _next_look_s(self) -> float:
        """Until some lane could be late or lost, in seconds."""
        limits = [self._step_timeout_s] if self._hedge_s is None else [self._step_timeout_s, self._hedge_s]
        now = time.monotonic()
        looks = [limit - (now - (lane.waiting_since or now)) for lane in self._lanes + self._stand_ins for limit in limits]
        return min((look for look in looks if look > 0), default=min(limits))

    def _hedge(self, members: tuple[str, ...], late: frozenset[str]) -> None:
        """Ask those next in order for the shares of the late members."""
        self._end(self._stand_ins)
        with self._changed:
            self._hedged = late
            stand_ins = [member for member in members if late and member not in late]
            self._stand_ins = [self._start_lane(members, member, tuple(sorted(late))) for member in stand_ins]

    def _start_lane(self, members: tuple[str, ...], member: str, instead_of: tuple[str, ...] = ()) -> Lane:
        road = self._roads.lane(member, stands_in=bool(instead_of))

        def open_call(step: int, share: pb.Share) -> Any:
            return self._open_call(member, step, share, road)

        return Lane(open_call, road, self._merge, self._changed, members=members, member=member, instead_of=instead_of)

    def _end(self, lanes: list[Lane]) -> None:
        """Stop lanes and wait for them; not with the lock held, which they need to end."""
        for lane in lanes:
            lane.stop()
        for lane in lanes:
            lane.join()
        with self._changed:
            lanes.clear()
