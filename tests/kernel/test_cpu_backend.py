"""The CPU backend beside what every backend keeps: its struct, its settings, its threads and its memory."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from augserver.augment.sample import SampleParams
from augserver.errors import BackendError
from augserver.kernel import allocate, open_backend
from augserver.kernel.cpu import instruction_sets
from augserver.kernel.params import PARAMS_DTYPE

CUDA = Path(__file__).resolve().parents[2] / "cuda"
PARAMS = SampleParams(affine=np.eye(3, 4, dtype=np.float32), noise_std=3.0, noise_key=1)


@pytest.fixture
def volume(make_volume):
    rng = np.random.default_rng(0)
    return make_volume(rng.integers(-100, 100, (2, 50, 6, 7)).astype(np.int16), rng.integers(0, 5, (50, 6, 7)).astype(np.uint8))


def outputs(samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return np.full((samples, 2, 45, 6, 7), 5, np.float32), np.full((samples, 45, 6, 7), 5, np.uint8)


def test_the_dtype_of_params_is_that_of_the_list_of_fields_without_padding():
    types = {"uint64_t": "u8", "int64_t": "i8", "uint32_t": "u4", "int32_t": "i4", "int16_t": "i2", "float": "f4"}
    types |= {"InputType": "i4", "OutputType": "i4"}
    listed = re.findall(r"^AUG_FIELD\((\w+), (\w+), ([\[\]\d]*)\)", (CUDA / "params_fields.h").read_text(), re.MULTILINE)
    fields = [(name, f"<{types[kind]}", tuple(map(int, re.findall(r"\d+", extents)))) for kind, name, extents in listed]
    assert len(fields) == 33
    assert np.dtype(fields) == PARAMS_DTYPE  # packed: numpy adds no padding unless it is asked to
    assert PARAMS_DTYPE.itemsize % 8 == 0


def test_the_installed_sources_of_the_gpu_kernels_lack_no_header():
    found = [file.locate() for file in importlib.metadata.files("augserver") or () if "cuda_source" in file.parts]
    names = {path.name for path in found}
    assert {"kernel.cu", "nvcc.options", "list_steps.py"} <= names
    texts = [path.read_text() for path in found if path.suffix in (".h", ".cu")]
    included = {Path(name).name for text in texts for name in re.findall(r'^ *# *include "(.*)"', text, re.MULTILINE)}
    assert included
    assert included - {"all_steps.h", "step_list.h"} <= names  # these two are written by list_steps.py


@pytest.mark.parametrize(("arguments", "message"), [({"threads": 0}, "threads is 0"), ({"isa": "mmx"}, "isa 'mmx'")])
def test_a_backend_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(BackendError, match=message):
        open_backend("cpu", **arguments)


def test_description_names_threads_and_instruction_set():
    with open_backend("cpu", threads=2) as backend:
        assert backend.description == f"cpu, 2 threads, {instruction_sets()[0]}"


# A process of its own, whose threads are all counted.
THREADS = """
import psutil
{volume}
before = psutil.Process().num_threads()
with open_backend("cpu", threads=4) as backend:
    backend.augment([volume], [params], np.empty((1, 1, 120, 5, 6), np.float32))
    during = psutil.Process().num_threads()
print(during - before, psutil.Process().num_threads() - before)
"""
VOLUME = """
import numpy as np
from augserver.augment.sample import SampleParams
from augserver.kernel import open_backend
from augserver.volume import Volume, VolumeInfo
image = np.arange(2 * 60 * 5 * 6, dtype=np.int16).reshape(1, 120, 5, 6)
info = VolumeInfo(id="v", shape=image.shape, dtype="int16", spacing_mm=(1, 1, 1), affine=np.eye(4), has_label=False)
volume, params = Volume(info=info, image=image, label=None), SampleParams(affine=np.eye(3, 4, dtype=np.float32))
"""
# A process of its own: the child of a fork, and an interpreter that ends with a backend open.
FORK = """
import os, sys
{volume}
backend, out = open_backend("cpu", threads=3), np.empty((1, 1, 120, 5, 6), np.float32)
backend.augment([volume], [params], out)
child = os.fork()
out[...] = 0
backend.augment([volume], [params], out)
ok = bool((out[0] == image).all())
if child == 0:
    backend.close()
    os._exit(0 if ok else 1)
sys.exit(0 if ok and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else 1)
"""


@pytest.mark.slow
def test_threads_end_with_the_backend():
    command = [sys.executable, "-P", "-c", THREADS.format(volume=VOLUME)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["3", "0"], "")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_threads_of_its_own_and_both_exit_cleanly():
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", FORK.format(volume=VOLUME)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shape", [(3,), (2, 3, 5), (1, 160, 120, 121)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_allocate_gives_aligned_zeros_that_own_their_memory(shape, dtype):
    array = allocate(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    assert array.ctypes.data % (64 if array.nbytes < 2 << 20 else 2 << 20) == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert not array.any()
