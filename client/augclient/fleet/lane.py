"""One server's shares of the batches of a stream, received on a thread of their own.

    wait for room -> call StreamBatches from `step` with a Share -> parts -> BatchMerge -> next step ... until stop() or the last batch

A server on this host shares its memory: then a part says where a share lies, and one copy takes it from there into the batch.

A lane judges nothing: what ends it is kept in `error` for the receiver, which watches all lanes under one lock.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from augclient.errors import WireError
from augclient.fleet.merge import BatchMerge, Share
from augclient.stream.assembly import read_message
from augclient.stream.call_loop import StrideIgnored, check_step, read_call, wait_in_call
from augclient.stream.road import Road
from augclient.wire.parts import Part, decode_part
from augclient.wire.rendezvous import Router
from augclient.wire.v1 import augserver_pb2 as pb


class Lane:
    """Receives the shares of one member until it is stopped; starts at once.

    Args:
        open_call: begins the call for the share from a step on.
        road: of that call; where it leads to shared memory, shares are copied from there.
        members: all members at work; `member` is the one of this lane, `instead_of` those for which it stands in.
        changed: the receiver's condition; notified after every whole share and at the end.

    Attributes (read them under the lock of `changed`):
        step: the batch whose share is due.
        waiting_since: when the server was asked or last sent something; None while nothing is due from it.
        late: whether others were asked for its shares; it clears this itself when it sends one in time.
        shares: how many came whole.
        error: what ended it; None while it runs, or if it ended well.
    """

    def __init__(
        self,
        open_call: Callable[[int, pb.Share], Any],
        road: Road,
        merge: BatchMerge,
        changed: threading.Condition,
        *,
        members: Sequence[str],
        member: str,
        instead_of: Sequence[str] = (),
    ) -> None:
        self.member = member
        self.step = merge.first_open
        self.waiting_since: float | None = None
        self.late = False
        self.shares = 0
        self.error: Exception | None = None
        self._open_call = open_call
        self._road = road
        self._merge = merge
        self._changed = changed
        self._share = pb.Share(members=members, member=member, instead_of=instead_of)
        self._takes = Router(members, member, instead_of).takes
        self._call: Any = None
        self._partial: Share | None = None  # the share that is under way
        self._stopping = False
        self._bell = merge.hand_over.make_bell()
        self._thread = threading.Thread(target=self._run, name=f"augclient-{member}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cancel its call and let it end; returns before it has."""
        with self._changed:
            self._stopping = True
            self._bell.ring()
            self.cancel()

    def join(self) -> None:
        """Wait until it has ended; not with the lock held."""
        self._thread.join()

    def cancel(self) -> None:
        """Cancel its call. If others have sent its share of the batch that is due, it goes on with the first batch that is open."""
        if self._call is not None:
            self._call.cancel()

    @property
    def thread(self) -> threading.Thread:
        """The thread that receives."""
        return self._thread

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._receive()
        except Exception as caught:  # the receiver judges it
            error = caught
        finally:
            self._merge.hand_over.drop_bell(self._bell)
            self._road.close()  # its ring goes back to the server, which may be asked to stand in no more
            with self._changed:
                self.error = None if self._stopping else error
                self.waiting_since = self._call = None
                self._changed.notify_all()

    def _receive(self) -> None:
        while True:
            if self._overtaken():
                self.step = self._merge.first_open
            if not self._wait_for_room():
                return
            try:
                self._receive_call()
            except grpc.RpcError:
                if not self._overtaken():
                    raise

    def _receive_call(self) -> None:
        call = self._open_call(self.step, self._share)
        with self._changed:
            self._call = call
            if self.waiting_since is None:
                self.waiting_since = time.monotonic()
            if self._stopping:
                call.cancel()
        self._partial = None
        try:
            read_call(
                call,
                due=self._merge.spec.asked(self.step, alone=self._road.ignores_stride),
                add=self._add,
                go_on=lambda: not self._overtaken() and self._wait_for_room(),
                sender=self.member,
                step=lambda: self.step,
            )
        except StrideIgnored:
            self._road.ask_one_by_one()

    def _add(self, data: memoryview) -> bool:
        """Take one message; whether it completed a share."""
        with self._changed:
            self.waiting_since = time.monotonic()
            part = decode_part(data)
            check_step(part.step, self.step, 1 if self._road.ignores_stride else self._merge.spec.stride, self.member)
            if part.header is not None:
                if self._partial is not None:
                    raise WireError(f"{self.member}: batch {self.step}: a second header; only the first part of a batch has one")
                self._partial = self._merge.begin_share(self.step, part.header, self._takes, self.member)
            share = self._partial
            if share is None:
                raise WireError(f"{self.member}: batch {self.step}: its first part came without a header")
            share.add(part if part.slot is None else self._read_slot(part, part.slot, share))
            if not part.last:
                return False
            self._partial = None
            self.late = self.late and self._overtaken()
            self.shares += 1
            self.step += self._merge.spec.stride
            self._merge.settle()
            self._changed.notify_all()
            return True

    def _read_slot(self, part: Part, data: memoryview, share: Share) -> Part:
        """A part of bytes in place of one that says where in shared memory they lie."""
        image, label, _ = self._road.view(read_message(pb.SlotRef, data), *share.size_bytes)
        return dataclasses.replace(part, image=image.data, label=None if label is None else label.data, slot=None)

    def _overtaken(self) -> bool:
        """Whether it is late, and others have sent its share of the batch that is due."""
        with self._changed:
            return self.late and self.step < self._merge.first_open

    def _wait_for_room(self) -> bool:
        """Wait until the next share may be received; False when there is none, or the lane is stopping."""
        return wait_in_call(self._bell, self._has_room, lambda: self._call)

    def _has_room(self) -> bool | None:
        with self._changed:
            return self._decide_room()

    def _decide_room(self) -> bool | None:
        if self._stopping:
            return False
        if not self._merge.may_receive(self.step):
            if not self.late:
                self.waiting_since = None  # nothing is due from the server now, so its silence does not count
            return None
        stop = self._merge.spec.stop
        if stop is not None and self.step >= stop:
            return False
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
        return True
