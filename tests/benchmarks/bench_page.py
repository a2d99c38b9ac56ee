"""Time a refresh of the page's recipe studio, and what looking costs a stream.

    python tests/benchmarks/bench_page.py [--rounds 3] [--window-s 4]

A server in a process of its own, on the demo's torsos. First, sheets of five seeds of 96 voxels cubed, one request after the other, each
with another recipe. Then in turns, a stream of batches of four such patches alone, and while sheets are asked for without a pause.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import augclient
import numpy as np
from PIL import Image

from augserver.cli.demo import AUGMENTATION
from augserver.ingest.torso_phantom import CLASSES, make_torso
from augserver.store import DatasetWriter
from augserver.web.png import encode_png

PATCH = (96, 96, 96)
RECIPE = augclient.Recipe(crop={"mode": "uniform"}, **AUGMENTATION)


class Studio:
    """Asks for sheets over one connection, as a page does while someone drags a slider."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._stds = itertools.cycle(range(10, 60))

    def draw(self) -> tuple[float, bytes]:
        """Milliseconds, and the picture."""
        recipe = {**RECIPE.to_dict(), "noise": {"std": [0, next(self._stds)]}}
        body = json.dumps({"recipe": recipe, "volume": "torso_0", "patch": PATCH, "seed": 1, "count": 5})
        begin = time.perf_counter()
        self._connection.request("POST", "/api/sheet", body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        png = answer.read()
        if answer.status != 200:
            raise SystemExit(f"the page refused a sheet: {png.decode()}")
        return (time.perf_counter() - begin) * 1e3, png


def measure_stream(server: augclient.Server, window_s: float) -> float:
    """Batches per second."""
    with server.stream(RECIPE, patch=PATCH, batch_size=4) as stream:
        for _ in range(8):
            next(stream)
        begin, batches = time.perf_counter(), 0
        while time.perf_counter() - begin < window_s:
            next(stream)
            batches += 1
        return batches / (time.perf_counter() - begin)


def measure_both(server: augclient.Server, studio: Studio, window_s: float) -> tuple[float, list[float]]:
    """Batches per second while sheets are drawn, and the milliseconds of these."""
    stop, sheets = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            sheets.append(studio.draw()[0])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        return measure_stream(server, window_s), sheets
    finally:
        stop.set()
        thread.join()


def time_encoders(png: bytes, folder: Path) -> None:
    (folder / "sheet.png").write_bytes(png)
    picture = Image.open(folder / "sheet.png").convert("RGB")
    pixels = np.asarray(picture)
    for name, encode in (("ours", lambda: encode_png(pixels)), ("Pillow", lambda: picture.save(folder / "pillow.png", compress_level=1))):
        took = []
        for _ in range(5):
            begin = time.perf_counter()
            encode()
            took.append((time.perf_counter() - begin) * 1e3)
        print(f"PNG of {picture.width} x {picture.height} pixels, {name}: {min(took):.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-s", type=float, default=4.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with DatasetWriter(folder / "torsos.zarr", modality="ct", classes=CLASSES) as writer:
            for seed in range(4):
                torso = make_torso(seed)
                writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {})
            writer.finish()
        command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(folder / "torsos.zarr")]
        command += ["--address", "127.0.0.1:0", "--backend", "cpu", "--http", "127.0.0.1:0"]
        log = folder / "log"
        with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            try:
                ready = re.search(r"serving on (\S+)", process.stdout.readline() if process.stdout else "")
                page = re.search(r"page: http://127\.0\.0\.1:(\d+)", log.read_text())
                if ready is None or page is None:
                    raise SystemExit(f"the server did not start: {log.read_text()}")
                studio = Studio(int(page[1]))
                studio.draw()
                drawn = [studio.draw() for _ in range(40)]
                print(
                    f"a sheet of 6 columns of {PATCH}: median {statistics.median(ms for ms, _ in drawn):.0f} ms, best {min(drawn)[0]:.0f}"
                )
                time_encoders(drawn[0][1], folder)
                with augclient.connect(ready[1]) as server:
                    for _ in range(options.rounds):
                        alone = measure_stream(server, options.window_s)
                        both, sheets = measure_both(server, studio, options.window_s)
                        print(
                            f"stream: {alone:.1f} batches/s alone, {both:.1f} while {len(sheets) / options.window_s:.1f} sheets/s are "
                            f"drawn, median {statistics.median(sheets):.0f} ms each"
                        )
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
