"""Turn found scans into volumes of a dataset, several at a time within a memory budget.

A scan that cannot be trusted is refused with its reason, and the others go on. What a former, interrupted run wrote is kept, if its
source files are the same still. Threads, not processes: unpacking, filtering, hashing and packing all release the GIL, and one
writer keeps the dataset. What is written does not depend on how many work at once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from augserver.errors import AugError, StoreError, VolumeError
from augserver.ingest.config import IngestConfig
from augserver.ingest.intake import Outcome, take_in
from augserver.ingest.label_source import LabelFile
from augserver.ingest.labels import LabelRule
from augserver.ingest.memory import estimate_bytes
from augserver.ingest.naming import Naming
from augserver.ingest.segment_ids import number_segments
from augserver.ingest.sources import Source
from augserver.store import DatasetWriter

_log = logging.getLogger(__name__)


def select_scans(sources: Sequence[Source], labels: LabelRule | None) -> list[Source]:
    """The sources that are scans, not labels; each with its label by the rule, or with the problem that it has none."""
    if labels is None:
        return list(sources)
    return [_with_label(source, labels) for source in sources if not labels.is_label(source)]


def _with_label(source: Source, labels: LabelRule) -> Source:
    try:
        return replace(source, label=LabelFile(labels.find(source)))
    except VolumeError as error:
        return replace(source, problem=source.problem or str(error))


def ingest_scans(
    scans: Sequence[Source], writer: DatasetWriter, config: IngestConfig, *, stopping: Callable[[], bool] = lambda: False
) -> Iterator[Outcome]:
    """Ingest scans; yields after each, when its volume is on disk: in order with one job, else as they are done.

    Args:
        stopping: asked before each scan; once it says yes, those in hand are finished and no other is begun.
    Raises:
        StoreError: the dataset cannot be written; a scan's own faults are in its outcome.
    """
    scans = number_segments(scans, writer)
    naming = Naming(scans, config.ids)
    if config.jobs == 1:  # in the caller's thread, so that a KeyboardInterrupt ends the volume in hand
        for index in range(len(scans)):
            if stopping():
                return
            yield _ingest_one(index, scans, naming, writer, config)
        return
    waiting = deque(range(len(scans)))
    running: dict[Future[Outcome], int] = {}  # and the bytes it may take
    with ThreadPoolExecutor(config.jobs, thread_name_prefix="ingest") as pool:
        while waiting or running:
            while waiting and len(running) < config.jobs and not stopping():
                need = estimate_bytes(scans[waiting[0]])
                if running and sum(running.values()) + need > config.memory_bytes:
                    break
                running[pool.submit(_ingest_one, waiting.popleft(), scans, naming, writer, config)] = need
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: future.result().index):
                del running[future]
                yield future.result()


def _ingest_one(index: int, scans: Sequence[Source], naming: Naming, writer: DatasetWriter, config: IngestConfig) -> Outcome:
    try:
        return take_in(index, scans[index], naming, writer, config)
    except StoreError:
        raise
    except AugError as error:
        reason = str(error)
    except Exception as error:  # a reader's fault, or a bug: the other scans go on. Its text may quote names, so only its kind is told.
        _log.warning("scan %d of %d was refused for an unexpected error", index + 1, len(scans), exc_info=config.ids == "names")
        reason = f"{scans[index].stem}: cannot be ingested ({type(error).__name__}); take it out, and please report the error"
    naming.release(index)
    reason = reason.encode("utf-8", "backslashreplace").decode()  # names of files need not be text
    return Outcome(index=index, id=naming.shown(index), reason=naming.redacted(index, reason))
