"""Read one call for batches to its end; the receiver of a single server and every connection of a fleet do it here.

    part ... part, the last one of a batch -> is there room for another? -> part ... part -> ... -> the end that was asked for

Nothing is judged here: an error of the call is raised as it came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from augclient.errors import WireError
from augclient.stream.hand_over import Bell
from augclient.wire.unary_stream import STAY_ALIVE_S


class StrideIgnored(Exception):
    """The server sends every batch: it was released before the contract had a stride, and is asked for one batch at a time."""


def check_step(got: int, due: int, stride: int, sender: str = "") -> None:
    """Whether a part is of the batch that is due.

    Args:
        stride: that was asked for in this call.
        sender: the server's address, for the error.
    Raises:
        StrideIgnored: the batch follows the last one directly, though others were to be left out. WireError: it is any other.
    """
    if stride > 1 and got == due - stride + 1:
        raise StrideIgnored
    if got != due:
        raise WireError(f"{sender}{': ' if sender else ''}a part of batch {got} came where batch {due} was due")


def read_call(
    call: Any,
    *,
    due: int | None,
    add: Callable[[memoryview], bool],
    go_on: Callable[[], bool],
    sender: str,
    step: Callable[[], int],
) -> None:
    """Take the messages of `call` until it has sent all batches, or until it may not go on.

    Args:
        call: an iterator of encoded parts; closed here, or the server would go on computing.
        due: how many batches the call was asked for; None: it has no end.
        add: takes one message; whether it completed a batch. It keeps no reference, as the buffer is used again.
        go_on: waits until the next batch may be received; False ends the call early.
        sender, step: for errors: the server's address, and the batch that is due now.
    Raises:
        WireError: more or fewer batches came than were asked for. What `call` and `add` raise.
    """
    try:
        for data in call:
            if due == 0:
                raise WireError(f"{sender}: more parts came after the last batch that was asked for, before {step()}")
            if not add(data):
                continue
            due = None if due is None else due - 1
            if due != 0 and not go_on():
                return
    finally:
        call.close()
    if due != 0:
        raise WireError(f"{sender}: the server ended the stream before batch {step()}, which it was asked for")


def wait_in_call(bell: Bell, decide: Callable[[], bool | None], call: Callable[[], Any]) -> bool:
    """Wait until `decide`, which is asked again whenever `bell` rings, says True or False.

    Meanwhile the open call, which `call` returns if there is one, answers the server's pings.
    """
    while True:
        decision = decide()
        if decision is not None:
            return decision
        bell.wait(STAY_ALIVE_S)
        open_call = call()
        if open_call is not None:
            open_call.stay_alive()
