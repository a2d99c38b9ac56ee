"""Random NRRD files by pynrrd, in every form that it writes: its own voxels and axes come back; so do those of a folder of its data.

pynrrd's package brings no data. Where a checkout of it is at hand, AUGSERVER_PYNRRD_DATA names the folder of its test data, and every file
of that ends as the table says.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augserver.errors import VolumeError
from augserver.ingest.readers.formats import read_file

REFUSED = {
    "test1d_ascii.nrrd": "has 1 axes",
    "test2d_ascii.nrrd": "has 2 axes",
    "test_customFields.nrrd": "has 1 axes",
    "test_simple4d_raw.nrrd": "has no 'space origin'",
}
SIGNS = {"left-posterior-superior": (1, 1), "right-anterior-superior": (-1, -1), "left-anterior-superior": (1, -1), "LPS": (1, 1)}
NUMBER = st.floats(-8, 8).filter(lambda value: abs(value) > 0.05)
FILE = st.fixed_dictionaries(
    {
        "shape": st.tuples(*[st.integers(1, 5)] * 3),
        "channels": st.sampled_from([(None, 1), (0, 2), (3, 3), (1, 2)]),
        "dtype": st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]),
        "big": st.booleans(),
        "encoding": st.sampled_from(["raw", "gzip", "gz", "bzip2", "bz2", "text", "ascii", "txt"]),
        "space": st.sampled_from(sorted(SIGNS)),
        "turn": st.permutations(range(3)),
        "steps": st.tuples(*[NUMBER] * 3),
        "shear": st.floats(-0.5, 0.5),
        "origin": st.tuples(*[st.floats(-500, 500)] * 3),
        "detached": st.sampled_from([None, True, "data.bin"]),
        "units": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILE, st.integers(0, 2**32))
def test_what_pynrrd_writes_comes_back(tmp_path: Path, what: dict[str, Any], seed: int) -> None:
    axis, count = what["channels"]
    directions = np.zeros((3, 3))
    for row, (column, step) in enumerate(zip(what["turn"], what["steps"], strict=True)):
        directions[row, column] = step
    directions[0] += what["shear"] * directions[1]
    shape, rows, kinds = list(what["shape"]), list(directions), ["domain"] * 3
    if axis is not None:
        shape.insert(axis, count)
        rows.insert(axis, np.full(3, np.nan))
        kinds.insert(axis, "list")
    dtype = np.dtype(what["dtype"]).newbyteorder(">" if what["big"] else "<")
    voxels = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    header = {"space": what["space"], "space directions": np.array(rows), "space origin": np.array(what["origin"]), "kinds": kinds}
    header["encoding"] = what["encoding"]
    if what["units"]:
        header["space units"] = ["mm"] * 3
    for old in tmp_path.iterdir():
        old.unlink()
    path = tmp_path / ("scan.nrrd" if what["detached"] is None else "scan.nhdr")
    if what["detached"] == "data.bin":
        header["data file"] = "data.bin"
    nrrd.write(str(path), voxels, header, detached_header=bool(what["detached"]), relative_data_path=True)
    scan = read_file(path)
    expected = voxels[None] if axis is None else np.moveaxis(voxels, axis, 0)
    np.testing.assert_array_equal(scan.voxels, expected.transpose(0, 3, 2, 1))
    assert scan.voxels.dtype.newbyteorder("=") == np.dtype(what["dtype"])
    signs = np.array([*SIGNS[what["space"]], 1])
    np.testing.assert_allclose(scan.affine[:3, :3], (directions[::-1] * signs).T, rtol=1e-12)
    np.testing.assert_allclose(scan.affine[:3, 3], np.array(what["origin"]) * signs, rtol=1e-12)


def test_pynrrds_own_files() -> None:
    folder = os.environ.get("AUGSERVER_PYNRRD_DATA")
    if folder is None:
        pytest.skip("pynrrd's test data is not here; set AUGSERVER_PYNRRD_DATA to the folder nrrd/tests/data of its sources")
    files = sorted([*Path(folder).glob("*.nrrd"), *Path(folder).glob("*.nhdr")])
    assert len(files) > 5
    for path in files:
        try:
            expected = nrrd.read(str(path), index_order="C")[0]
        except nrrd.NRRDError:
            expected = None
        if expected is None or path.name in REFUSED:
            with pytest.raises(VolumeError, match=REFUSED.get(path.name, "more than|fewer")):
                read_file(path)
        else:
            np.testing.assert_array_equal(read_file(path).voxels[0], expected)
