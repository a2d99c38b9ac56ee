"""Serve a dataset, or the synthetic torsos, from a child process for the time of a comparison. augtrain never imports augserver."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from augclient.errors import AugError

from augtrain.predict.scan_server import augserver_command, run_child, serve_dataset

_TORSOS = "torsos.zarr"  # as `augserver demo` calls it


@contextmanager
def serve_for_comparison(dataset: Path | None) -> Iterator[str]:
    """Serve while the block runs; the address.

    Args:
        dataset: of `augserver ingest`; None: the torsos of `augserver demo`, made in a temporary folder, the same ones each time.
    Raises:
        BackendError: augserver is not installed here. AugError: the torsos could not be made. UnavailableError: the server did not start.
    """
    with tempfile.TemporaryDirectory(prefix="augtrain-compare-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        if dataset is None:
            dataset = _make_torsos(folder)
        with serve_dataset(dataset, folder / "server.log") as address:
            yield address


def _make_torsos(folder: Path) -> Path:
    log = folder / "demo.log"
    with run_child([*augserver_command(), "demo", "--no-train", "--out", str(folder)], log=log) as process:
        said, _ = process.communicate()
    if process.returncode:
        words = f"{said.decode(errors='replace')} {log.read_text(errors='replace')}".strip().splitlines()[-3:]
        raise AugError(f"`augserver demo` ended with code {process.returncode}: {' '.join(words) or 'it said nothing'}")
    return folder / _TORSOS
