"""Random headers, and nibabel's own files: nibabel's voxels and affine, or a reason that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.testing import data_path
from scipy.spatial.transform import Rotation

from augserver.errors import VolumeError
from augserver.geometry import affine_to_ras
from augserver.ingest.readers.formats import read_file, split_suffix

REFUSED = {
    "analyze.hdr": "it may be ANALYZE 7.5",
    "nifti1.hdr": "its voxels are missing",  # a header alone
    "nifti2.hdr": "its voxels are missing",
    "row_major.dconn.nii": "is CIFTI",
}
OWN = sorted(file for file in Path(data_path).rglob("*") if split_suffix(file)[1])


def assert_same(path: Path) -> None:
    scan, image = read_file(path), nibabel.load(path)
    voxels = np.asarray(image.dataobj)
    voxels = voxels.reshape(*voxels.shape[:3], -1)
    np.testing.assert_allclose(scan.voxels.T, voxels, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(affine_to_ras(scan.affine), image.affine, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("path", OWN, ids=[path.name for path in OWN])
def test_nibabels_own_files(path: Path) -> None:
    if path.name in REFUSED:
        with pytest.raises(VolumeError, match=REFUSED[path.name]):
            read_file(path)
    else:
        assert_same(path)


def test_there_are_as_many_of_them_as_there_were() -> None:
    assert len(OWN) >= 10
    assert REFUSED.keys() <= {path.name for path in OWN}


NUMBER = st.floats(-500, 500, width=32)
HEADER = st.fixed_dictionaries(
    {
        "shape": st.tuples(*[st.integers(1, 5)] * 3),
        "further": st.lists(st.just(1), max_size=4),
        "dtype": st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"]),
        "endianness": st.sampled_from("<>"),
        "kind": st.sampled_from(["Nifti1Image", "Nifti2Image", "Nifti1Pair", "Nifti2Pair"]),
        "rotation": st.tuples(*[st.floats(-180, 180)] * 3),
        "spacing": st.tuples(*[st.floats(0.125, 8, width=32)] * 3),
        "mirrored": st.booleans(),
        "origin": st.tuples(NUMBER, NUMBER, NUMBER),
        "forms": st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 1), (0, 4), (3, 0), (2, 2), (1, 5)]),
        "slope": st.sampled_from([None, 1.0, 0.5, 2.0, -1.0]),
        "inter": st.sampled_from([0.0, -1024.0, 0.25]),
        "suffix": st.sampled_from(["", ".gz", ".bz2"]),
        "extension": st.binary(max_size=40),
        "units": st.sampled_from([0, 2, 10, 18, 5]),
    }
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HEADER, st.integers(0, 2**32))
def test_random_headers_are_read_as_nibabel_reads_them(tmp_path: Path, what: dict[str, Any], seed: int) -> None:
    kind = getattr(nibabel, what["kind"])
    shape = (*what["shape"], *what["further"])
    voxels = np.random.default_rng(seed).integers(0, 100, shape).astype(what["dtype"])
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", what["rotation"], degrees=True).as_matrix() * what["spacing"]
    affine[:3, 2] *= -1 if what["mirrored"] else 1
    affine[:3, 3] = what["origin"]
    image = kind(voxels, None, header=kind.header_class(endianness=what["endianness"]), dtype=voxels.dtype)
    image.header["xyzt_units"] = what["units"]
    image.set_qform(affine, what["forms"][0])
    image.set_sform(affine, what["forms"][1])
    if what["slope"] is not None:
        image.header.set_slope_inter(what["slope"], what["inter"])
    paired = what["kind"].endswith("Pair")
    if what["extension"] and not paired:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, what["extension"]))
    packed = "" if paired and what["suffix"] == ".bz2" else what["suffix"]
    path = tmp_path / f"scan.{'hdr' if paired else 'nii'}{packed}"
    for old in tmp_path.iterdir():
        old.unlink()
    image.to_filename(path)
    assert_same(path)
