"""The threads of gRPC's calls, all of them started before the server answers anybody.

gRPC's Python server hands every call to a pool of threads on one thread of its own. A pool that starts its threads when they are needed
raises there where the system has no thread left, and ends gRPC's thread with it: the server would answer nobody any more.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from augserver.errors import BudgetError


def start_call_threads(count: int) -> ThreadPoolExecutor:
    """A pool whose `count` threads run already.

    Raises:
        BudgetError: the system gives fewer.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix="call")
    gate = threading.Event()
    started = 0
    try:
        for _ in range(count):
            pool.submit(gate.wait)  # nobody is idle until the gate opens, so that each of them starts a thread
            started += 1
    except RuntimeError as error:
        raise BudgetError(
            f"the server's calls take {count} threads, and the system gave {started} ({error}); "
            "raise the limit (ulimit -u, or pids of the container), or lower streams.max_streams"
        ) from error
    finally:
        gate.set()
        if started < count:
            pool.shutdown(wait=False)
    return pool
