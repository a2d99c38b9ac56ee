"""The log as people read it, and as machines do."""

from __future__ import annotations

import datetime
import json
import logging
import select
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np

from augserver.cli.logs import NOTICES, _JsonFormatter
from augserver.store import DatasetWriter


def test_a_json_line_holds_message_level_logger_time_and_exception() -> None:
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        record = logging.LogRecord("augserver.x", logging.ERROR, "f.py", 1, 'said "%s"', ("ü",), sys.exc_info())
    line = _JsonFormatter().format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert read["message"] == 'said "ü"'
    assert (read["level"], read["logger"]) == ("error", "augserver.x")
    assert datetime.datetime.fromisoformat(read["time"]).timestamp() == int(record.created * 1000) / 1000
    assert read["exception"].endswith("line two")


def test_every_line_of_a_server_is_json_when_asked_and_metrics_are_where_it_says(tmp_path: Path) -> None:
    path = tmp_path / "toy.zarr"
    with DatasetWriter(path, modality="mr") as writer:
        writer.write("a", np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), None, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    options = ["--address", "127.0.0.1:0", "--log-format", "json", "--metrics-port", "0", "--backend", "cpu"]
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(path), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert select.select([process.stdout], [], [], 60)[0]
            assert process.stdout.readline().startswith("serving on ")
            lines = []
            while not lines or not lines[-1]["message"].startswith("metrics: "):
                lines.append(json.loads(process.stderr.readline()))
            with urllib.request.urlopen(lines[-1]["message"].removeprefix("metrics: "), timeout=10) as answer:
                assert b"augserver_batches_total 0.0" in answer.read()
            process.terminate()
            lines += [json.loads(line) for line in process.stderr]
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    assert any(line["logger"] == NOTICES and line["message"].startswith("backend: cpu") for line in lines)
