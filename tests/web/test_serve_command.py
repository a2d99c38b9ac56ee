"""`augserver serve --http` as an operator meets it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

START = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve"]


@pytest.mark.slow
def test_the_page_is_up_when_the_server_says_so_and_gone_with_it(ct: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [*START, str(ct.path), "--address", "127.0.0.1:0", "--backend", "cpu", "--threads", "1", "--http", "127.0.0.1:0"]
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            url = re.search(r"^page: (http://127\.0\.0\.1:\d+/)$", log.read_text(), re.M)
            assert url, log.read_text()
            with urllib.request.urlopen(f"{url[1]}api/dataset", timeout=10) as answer:
                serving = json.load(answer)["serving"]
            for path, start in (
                ("", b"<!doctype html>"),
                ("static/js/main.js", b"//"),
                ("static/css/theme.css", b"/*"),
                ("static/icon.svg", b"<svg"),
            ):
                with urllib.request.urlopen(f"{url[1]}{path}", timeout=10) as answer:  # what is installed has the files
                    assert answer.read().startswith(start)
            assert serving.startswith(re.search(r"serving on (\S+) \(cpu, 1 thread", ready)[1])
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_an_address_that_others_can_reach_is_refused(ct: Any) -> None:
    done = subprocess.run(
        [*START, str(ct.path), "--address", "127.0.0.1:0", "--http", "0.0.0.0:0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 64
    assert done.stdout == ""
    assert "address 0.0.0.0:0 can be reached from other machines" in done.stderr


@pytest.mark.slow
def test_with_devices_every_process_has_a_page_of_its_own(ct: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [*START, str(ct.path), "--address", "127.0.0.1:0", "--devices", "cpu:2", "--threads", "1", "--http", "127.0.0.1:0"]
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving on ")
            urls = re.findall(r"^page: (http://\S+)$", log.read_text(), re.M)
            assert len(set(urls)) == 2, log.read_text()
            for url in urls:
                with urllib.request.urlopen(f"{url}api/live", timeout=10) as answer:
                    assert json.load(answer)["scheduler"]["streams"] == 0
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
