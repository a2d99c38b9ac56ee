"""The threads of gRPC's calls, all of them started before the server answers anybody.

gRPC's Python server hands every call to a pool of threads on one thread of its own. A pool that starts its threads when they are needed
raises there where the system has no thread left, and ends gRPC's thread with it: the server would answer nobody any more.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from augserver.errors import BudgetError

SPARE_THREADS = 24  # that gRPC, zarr, the metrics and the page start themselves; gRPC waits for ever for one of its own


def start_call_threads(count: int) -> ThreadPoolExecutor:
    """A pool whose `count` threads run already; the system had SPARE_THREADS more, which ended again.

    Raises:
        BudgetError: the system gives fewer.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix="call")
    spare: list[threading.Thread] = []
    gate = threading.Event()
    started = 0
    try:
        for _ in range(count):
            pool.submit(gate.wait)  # nobody is idle until the gate opens, so that each of them starts a thread
            started += 1
        for _ in range(SPARE_THREADS):
            thread = threading.Thread(target=gate.wait, daemon=True)
            thread.start()
            spare.append(thread)
    except RuntimeError as error:
        pool.shutdown(wait=False)
        raise BudgetError(
            f"the server takes {count + SPARE_THREADS} threads, {count} of them for calls, and the system gave {started + len(spare)} "
            f"({error}); raise the limit (ulimit -u, or pids of the container), or lower streams.max_streams"
        ) from error
    finally:
        gate.set()
    for thread in spare:
        thread.join()
    return pool
