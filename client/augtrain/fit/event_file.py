"""A run's numbers for TensorBoard, without TensorFlow: event files as TensorBoard's own package writes them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class EventFile:
    """Appends scalars to a new event file; steps from `first_step` on that older files of the folder hold are superseded.

    A run that was killed has written steps that its last checkpoint does not know. TensorBoard drops these where a file begins with
    the start of a session at a lower step.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._proto: Any = event_pb2
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names and takes all that contain "tfevents"
        name = f"events.out.tfevents.{time.time_ns():020d}.{os.getpid()}"
        self._file = (folder / name).open("xb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        started = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=first_step, session_log=started)

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write the scalars of a step; None is left out."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None])
        self._write(step=step, summary=summary)

    def flush(self) -> None:
        """Let a reader see what was added."""
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, **fields: Any) -> None:
        event = self._proto.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())
