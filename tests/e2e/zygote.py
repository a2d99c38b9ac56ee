"""Forks servers and trainers whose imports are made already: a start takes 50 ms instead of a second or two.

    python zygote.py        stdin is a SOCK_SEQPACKET socket
    {"run": "serve" or "train", "arguments": [...], "namespace": name or ""} + descriptors for stdout and stderr  ->  pid
    {"wait": pid}  ->  exit status, negative for a signal

A server prints its statistics on SIGUSR1; FILL fills the disk of its logs, and FREE frees it. One that starts ignores all of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

FILL, FREE = signal.SIGRTMIN, signal.SIGRTMIN + 1
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def taken(batch: Any) -> list[Any]:
    """What a trainer notes of a batch: its step, its samples, its bytes."""
    data = batch.image.tobytes() + batch.label.tobytes()
    return [batch.step, [sample.index for sample in batch.samples], hashlib.sha256(data).hexdigest()]


def train(addresses: str, path: str, recipe: str, how: str) -> None:
    """Note every batch and, with it, the state of the stream; go on from there if that file exists. Prints each step once it is noted."""
    from augclient import Recipe, connect
    from augclient.errors import UnavailableError

    seen = json.loads(Path(path).read_text()) if os.path.exists(path) else {"state": None, "batches": []}
    with contextlib.ExitStack() as stack:
        stream = None
        while stream is None:
            with contextlib.suppress(UnavailableError):  # who is started again may find every server dead
                server = stack.enter_context(connect(addresses.split(",")))
                stream = stack.enter_context(server.stream(Recipe.from_dict(json.loads(recipe)), state=seen["state"], **json.loads(how)))
        for batch in stream:
            seen["batches"].append(taken(batch))
            seen["state"] = stream.state_dict()
            Path(path + ".new").write_text(json.dumps(seen))
            os.replace(path + ".new", path)  # a kill leaves the old note or the new one
            print(batch.step, flush=True)


def serve(*arguments: str) -> None:
    """`augserver serve` that can be asked what it holds."""
    from augserver.cli import main
    from augserver.service import server

    running: list[server.Server] = []
    start = server.Server.start

    def noted_start(self: server.Server) -> None:
        running.append(self)
        start(self)

    server.Server.start = noted_start  # type: ignore[method-assign]
    logs = {FREE: os.dup(2), FILL: os.open("/dev/full", os.O_WRONLY)}

    def change_logs(number: int, frame: Any) -> None:
        os.dup2(logs[number], 2)

    def tell(number: int, frame: Any) -> None:
        slots, local = running[0].slots.statistics(), running[0]._local.statistics()
        held = {
            "streams": running[0].scheduler.statistics().streams,
            "rings": slots.rings,
            "leased": slots.leased,
            "reserved_bytes": slots.reserved_bytes,
            "peers": local.peers if local else 0,
            "leases": local.leases if local else 0,
        }
        os.write(1, f"{json.dumps(held)}\n".encode())

    signal.signal(signal.SIGUSR1, tell)
    for number in logs:
        signal.signal(number, change_logs)
    main(["serve", *arguments])


def enter(namespace: str) -> None:
    """Have the network of a namespace of iproute2's from now on."""
    with open(f"/run/netns/{namespace}", "rb") as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")


def fork(control: socket.socket, order: dict[str, Any], descriptors: list[int]) -> int:
    """A child that does as it is told; its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        control.close()
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # none outlives a test run that is killed
        for target, descriptor in enumerate(descriptors, start=1):
            os.dup2(descriptor, target)
            os.close(descriptor)
        if order["namespace"]:
            enter(order["namespace"])
        {"serve": serve, "train": train}[order["run"]](*order["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def run() -> None:
    """Take orders until the socket closes."""
    for module in ("augclient.client", "augserver.cli.serve", "augserver.kernel", "augserver.service.server", "augserver.store"):
        importlib.import_module(module)
    for number in (signal.SIGUSR1, FILL, FREE):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=0)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not message:
            return
        order = json.loads(message)
        answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]) if "wait" in order else fork(control, order, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(answer).encode())


if __name__ == "__main__":
    run()
