"""Decode the older JPEGs of DICOM in a process of their own: GDCM ends its process on some damaged streams.

Called under the lock of dicom_header.hostile_dicom, so one slice at a time; the process is started by the first such slice (about a
second) and serves all later ones.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augserver.errors import VolumeError
from augserver.ingest.readers.simple_itk import sitk

_TIMEOUT_S = 60.0
_pools: list[ProcessPoolExecutor] = []  # none or one


def read_in_process(file: str, what: str) -> NDArray[Any]:
    """The rescaled pixels (rows, columns) of one slice.

    Raises:
        VolumeError: the stream is so damaged that the decoder's process died, or did not end within the time.
    """
    if not _pools:
        _pools.append(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
    try:
        return _pools[0].submit(_read, file).result(timeout=_TIMEOUT_S)
    except (BrokenProcessPool, TimeoutError) as error:
        pool = _pools.pop()
        for process in list((pool._processes or {}).values()):  # one that hangs would take every later slice for its own
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        what_happened = "ended on them" if isinstance(error, BrokenProcessPool) else f"did not finish in {_TIMEOUT_S:g} s"
        raise VolumeError(f"{what}: its packed pixels are corrupt: the decoder {what_happened}; copy it again from its source") from error


def _read(file: str) -> NDArray[Any]:
    values: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(file, imageIO="GDCMImageIO")).squeeze()
    return values.astype(np.float32) if values.dtype == np.float64 else values
