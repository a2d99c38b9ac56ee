"""Serve scans from disk for the time of a prediction, by an augserver in processes of its own.

augserver reads every format and knows which scan cannot be trusted; augtrain never imports it. A child ingests the scans into a temporary
folder, and another serves that folder on loopback, to the holder of a token that only this user can read. However the block is left, both
processes have ended and the folder is gone; should this process be killed by SIGKILL, the system ends the server, and the folder stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augclient.contract import EXIT_NOTHING_USABLE, EXIT_SOME_REFUSED
from augclient.errors import AugError, BackendError, NotFoundError
from augclient.serving_child import ending, serving_child

_READY_S = 180.0  # importing takes a busy machine a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A scan that was not segmented.

    Attributes:
        id: as ingest calls it.
        reason: why not.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanServer:
    """Where the scans are served.

    Attributes:
        address, token: for augclient.connect; None where no scan was usable.
        refused: what ingest did not take.
    """

    address: str | None
    token: str
    refused: tuple[Refusal, ...]


@contextmanager
def serve_scans(
    sources: Sequence[Path], *, modality: str, spacing_mm: Sequence[float] | None, channels: int = 1, orientation: str = "lps"
) -> Iterator[ScanServer]:
    """Read scans and serve them while the block runs. Ingest shows its progress on stderr.

    Args:
        sources: files, or folders with all below them; NIfTI, NRRD, MetaImage, DICOM series.
        modality: "ct" or "mr".
        spacing_mm: zyx that they are resampled to; None: each scan's own.
        orientation: "lps" or "file", as the scans were turned that the network was trained on.
        channels: of the images; with several a fourth axis is taken for them, with one it is a reason to refuse a scan.
    Raises:
        NotFoundError: a source does not exist, or there is no scan in them.
        BackendError: augserver is not installed here. AugError: the ingest failed; augserver said why on stderr.
        UnavailableError: the server did not start.
    """
    command = augserver_command()
    for source in sources:
        if not source.exists():
            raise NotFoundError(f"{source}: no such file or folder; scans are NIfTI, NRRD, MetaImage or DICOM files, or folders of them")
    with tempfile.TemporaryDirectory(prefix="augtrain-predict-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        spacing = () if spacing_mm is None else ("--spacing-mm", ",".join(repr(float(step)) for step in spacing_mm))
        fourth_axis = ("--fourth-axis", "channels") if channels > 1 else ()
        options = (
            "--out",
            str(folder / "scans.zarr"),
            "--modality",
            modality,
            "--orientation",
            orientation,
            *spacing,
            *fourth_axis,
            "--json",
        )
        report = _ingest([*command, "ingest", *options, "--", *map(str, sources)])
        refused = tuple(Refusal(id=each["id"], reason=each["reason"]) for each in report["refused"])
        token = secrets.token_urlsafe(32)
        if not report["volumes"]:
            yield ScanServer(address=None, token=token, refused=refused)
            return
        tokens = folder / "tokens.toml"
        tokens.write_text(f'[predict]\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\nrights = ["read", "warp"]\n')
        with serve_dataset(folder / "scans.zarr", folder / "server.log", "--backend", "cpu", "--token-file", str(tokens)) as address:
            yield ScanServer(address=address, token=token, refused=refused)


@contextmanager
def serve_dataset(dataset: Path, log: Path, *options: str) -> Iterator[str]:
    """Serve a dataset on loopback while the block runs; its address. Should this process be killed, the system ends the server.

    Args:
        log: file for what the server prints on stderr; overwritten.
        options: of `augserver serve`.
    Raises:
        BackendError: augserver is not installed here. UnavailableError: the server did not start.
    """
    serve = ["serve", str(dataset), "--address", "127.0.0.1:0", *options, "--supervisor", str(os.getpid())]
    with serving_child([*augserver_command(), *serve], log, timeout_s=_READY_S) as ready:
        yield ready.address


def augserver_command() -> list[str]:
    """How to run augserver: by this interpreter, else by the PATH.

    Raises:
        BackendError: neither has it.
    """
    if importlib.util.find_spec("augserver") is not None:
        # -P: the installed package, whatever lies in the current folder
        return [sys.executable, "-P", "-c", "from augserver.cli import main; main()"]
    found = shutil.which("augserver")
    if found is None:
        raise BackendError(
            "augserver, which reads the scans, is not installed here: install it beside augserver-client, or ingest and serve the scans on "
            "a machine that has it and give --server ADDR"
        )
    return [found]


def _ingest(command: Sequence[str]) -> Any:
    """Run `augserver ingest --json`; its report, of at least one scan.

    Raises:
        NotFoundError: it found no scan. AugError: it failed, or refused an option.
    """
    with run_child(command, log=None) as process:
        answer, _ = process.communicate()
    if process.returncode not in (0, EXIT_SOME_REFUSED, EXIT_NOTHING_USABLE) or not answer.strip():
        raise AugError(f"`augserver ingest` could not read the scans and ended with code {process.returncode}; it says why above")
    report = json.loads(answer)
    if not report["volumes"] and not report["refused"]:
        raise NotFoundError("no scan was found to segment; `augserver ingest` says above what it found instead")
    return report


@contextmanager
def run_child(command: Sequence[str], *, log: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose stdout is read here, and that has ended when the block is left. Its stderr goes to `log`, or is ours."""
    with contextlib.ExitStack() as stack:
        errors = None if log is None else stack.enter_context(log.open("wb"))
        process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors))
        with ending(process):
            yield process
