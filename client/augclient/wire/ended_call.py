"""End a call of which not everything was read, without a trace.

grpcio reads streams for us on our own thread (SingleThreadedUnaryStream). It gives a call's memory and its connection back when every
event of the call was taken, and cancel() takes none: a stream that is left before its end would keep its socket for as long as the process
lives. No public method takes what is left, so this asks the call's own.
"""

from __future__ import annotations

from typing import Any


def let_go(call: Any) -> None:
    """Cancel `call` and take what gRPC still owes of it; no-op after the end. Only for the thread that reads the call."""
    if hasattr(call, "let_go"):  # one of ours, around one of gRPC's
        call.let_go()
        return
    call.cancel()
    take_event = getattr(call, "_consume_next_event", None)
    state = getattr(call, "_state", None)
    if take_event is None or state is None:  # another kind of call, whose events gRPC's own thread takes
        return
    while state.due:  # at once, as the call is cancelled
        take_event()
