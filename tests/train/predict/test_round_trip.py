"""A perfect prediction at 3 mm comes back on each scan's own grid with Dice > 0.97, whichever way the scan lies.

A network that is never wrong gives each organ its share of a voxel ("shares"), and nothing here is excused from 0.97 then. A label holds
less, one class for each voxel, that at its centre; a prediction that is as "sure" keeps 0.97 for what is large beside 3 mm. Dice, the worst
of each scan as it is, flipped, oblique and both:

                                                   shares    sure
    lungs, elastix (2.5 x 1.4 x 1.4 mm, z y x)      0.992   0.985
    lungs, CIP (4.0 x 4.2 x 4.2 mm)                 0.999   0.999
    liver, TotalSegmentator (2 x 1 x 1 mm)          0.987   0.977
    spleen, the same                                0.980   0.963   drawn in voxels of 3 mm that lie elsewhere
    tumour of 80 ml, IBSI (3.3 x 1 x 1 mm)          0.983   0.963   5 cm wide
    tumour of 35 ml, IBSI                           0.973   0.945   4 cm wide
    torso (2 mm): lungs, liver                      0.996   0.982
                  bladder, kidneys                  0.997   0.975
                  bone                              0.983   0.946   ribs 1 cm wide
    ellipsoids (2.1 x 1.2 x 1.6 mm), also sheared   0.996   0.976

Smoothing, quadratic and cubic splines brought labels no nearer to the truth than linear interpolation.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest
import SimpleITK
from augclient import Server
from augtrain.artifact import ModelCard
from augtrain.label_map import open_label_file
from augtrain.predict import PredictConfig, Prediction, predict_volumes
from numpy.typing import NDArray
from scipy import ndimage

from augserver.ingest.torso_phantom import CLASSES, make_torso

pytestmark = pytest.mark.slow
POSITIONS = ("upright", "oblique", "flipped", "oblique_flipped", "sheared")
PLACES = ("as_it_is", "flipped", "oblique", "oblique_flipped")
KINDS = ("shares", "sure")


@dataclasses.dataclass(frozen=True)
class RoundTrip:
    """What came back of a perfect prediction.

    Attributes:
        label, truth: (Z, Y, X) on the grid of `affine`, zyx voxel -> xyz LPS mm.
    """

    prediction: Prediction
    label: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    affine: NDArray[np.float64]

    def dice(self, id: int) -> float:
        got, wanted = self.label == id, self.truth == id
        return float(2 * (got & wanted).sum() / (got.sum() + wanted.sum()))

    def shift_mm(self, id: int) -> float:
        """How far the centre of a class has moved."""
        got, wanted = (np.array(ndimage.center_of_mass(each == id)) for each in (self.label, self.truth))
        return float(np.linalg.norm(self.affine[:3, :3] @ (got - wanted)))


def round_trip(server: Server, folder: Path, id: str, perfect: ModuleType, kind: str, card: ModelCard, out: Path) -> RoundTrip:
    """Predict a volume of a server; `folder` has its label as labels/id.nii.gz."""
    file = open_label_file(folder / "labels" / f"{id}.nii.gz")
    truth = file.read()
    [prediction] = predict_volumes(server, [id], perfect.Perfect(card, kind, truth, file.grid.affine), out, PredictConfig())
    assert isinstance(prediction, Prediction)
    return RoundTrip(prediction, open_label_file(prediction.path).read(), truth, file.grid.affine)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_perfect_prediction_survives(
    served: tuple[Server, Path], perfect: ModuleType, card: ModelCard, position: str, kind: str, tmp_path: Path
) -> None:
    server, folder = served
    result = round_trip(server, folder, position, perfect, kind, card, tmp_path)
    prediction, got = result.prediction, nibabel.load(result.prediction.path)
    scan = nibabel.load(folder / "scans" / f"{position}.nii.gz")
    assert np.asarray(got.dataobj).dtype == np.uint8
    assert prediction.on_scan_grid
    assert prediction.shape == scan.shape[::-1]
    np.testing.assert_allclose(got.affine, scan.affine, atol=1e-4)
    for id, name in ((1, "soft tissue"), (2, "bone")):
        assert result.dice(id) > 0.97
        assert result.shift_mm(id) < (0.1 if kind == "shares" else 0.4)  # voxels are 1.2 to 2.1 mm; two faces say little of labels
        ml = (result.label == id).sum() * abs(np.linalg.det(scan.affine[:3, :3])) / 1000
        assert prediction.volume_ml[name] == pytest.approx(ml)


@pytest.fixture(scope="module")
def torso(phantoms: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A torso of 2 mm, oblique and flipped: from there to 3 mm every other voxel's centre lies midway between two."""
    folder, made = tmp_path_factory.mktemp("torso"), make_torso(1, (195, 180, 210), 2.0)
    affine = phantoms.POSITIONS["oblique_flipped"].matrix((2.0, 2.0, 2.0))
    for kind, voxels in (("scans", made.image[0].T), ("labels", made.label.T)):
        (folder / kind).mkdir()
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / kind / "torso.nii.gz")
    with phantoms.serving(folder / "scans", folder / "labels", folder / "ds.zarr", folder / "log") as server:
        yield server, folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_organ_of_a_torso_survives_oblique_and_flipped_and_none_moves(
    torso: tuple[Server, Path], perfect: ModuleType, card: ModelCard, kind: str, tmp_path: Path
) -> None:
    result = round_trip(*torso, "torso", perfect, kind, dataclasses.replace(card, classes=CLASSES), tmp_path)
    organs = {id: name for id, name in CLASSES.items() if id and (kind == "shares" or name != "bone")}  # bone: ribs of 10 mm
    assert {name: result.dice(id) for id, name in organs.items() if result.dice(id) <= 0.97} == {}
    assert {name: result.shift_mm(id) for id, name in organs.items() if name != "bone" and result.shift_mm(id) >= 0.25} == {}
    lungs = next(id for id, name in CLASSES.items() if name == "lungs")
    assert result.shift_mm(lungs) < 0.06  # the largest, whose centre says most


def test_a_volume_whose_scan_nobody_knows_is_answered_on_its_own_grid(
    served: tuple[Server, Path], perfect: ModuleType, card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a dataset is served that was ingested before grids were kept."""
    server, folder = served
    dataset, volume = server.dataset(), server.volume("flipped")
    bare = dataclasses.replace(volume.info, source_shape=None, source_affine=None)
    monkeypatch.setattr(server, "volume", lambda id: dataclasses.replace(volume, info=bare))
    result = round_trip(server, folder, "flipped", perfect, "sure", card, tmp_path)
    assert dataset.infos["flipped"].source_shape is not None
    assert (result.prediction.on_scan_grid, result.prediction.shape) == (False, volume.info.shape[1:])
    np.testing.assert_array_equal(result.label, volume.label)


def test_the_file_says_what_its_numbers_mean(served: tuple[Server, Path], perfect: ModuleType, card: ModelCard, tmp_path: Path) -> None:
    prediction = round_trip(*served, "oblique_flipped", perfect, "sure", card, tmp_path).prediction
    assert open_label_file(prediction.path).classes == card.classes
    assert open_label_file(prediction.path).grid.shape == prediction.shape


def test_linear_interpolation_comes_nearer_than_the_nearest_voxel(
    served: tuple[Server, Path], perfect: ModuleType, card: ModelCard, tmp_path: Path
) -> None:
    server, folder = served
    linear = round_trip(server, folder, "oblique", perfect, "sure", card, tmp_path)
    volume = server.volume("oblique")
    matrix = np.linalg.solve(volume.affine, linear.affine)
    nearest = ndimage.affine_transform(
        volume.label, matrix[:3, :3], matrix[:3, 3], output_shape=linear.truth.shape, order=0, mode="nearest"
    )
    for id in (1, 2):
        assert linear.dice(id) > dataclasses.replace(linear, label=nearest).dice(id)


def read_totalsegmentator(shared_data: Path, folder: Path) -> tuple[SimpleITK.Image, SimpleITK.Image]:
    """The DICOM series and its liver (1) and spleen (2), cut to where these are."""
    with zipfile.ZipFile(shared_data / "totalseg/example_ct_dicom.zip") as archive:
        archive.extractall(folder)
    slices = next(
        names
        for each in (folder, *folder.rglob("*"))
        if each.is_dir() and (names := SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(each)))
    )
    scan = SimpleITK.ReadImage(slices)
    given = SimpleITK.Resample(
        SimpleITK.ReadImage(str(shared_data / "totalseg/example_seg_dicom.nii.gz")), scan, interpolator=SimpleITK.sitkNearestNeighbor
    )
    label = SimpleITK.ChangeLabel(given, {**dict.fromkeys(range(1, 118), 0), 5: 1, 1: 2})
    shape = SimpleITK.LabelShapeStatisticsImageFilter()
    shape.Execute(label != 0)
    x, y, _, wide, high, _ = shape.GetBoundingBox(1)
    margin = 10
    box = (slice(x - margin, x + wide + margin), slice(y - margin, y + high + margin))
    return scan[box], label[box]


REAL = {
    "elastix": ("elastix_lung/3DCT_lung.mha", "elastix_lung/3DCT_lung_baseline_mask.mha"),
    "cip": ("cip_chest64/ct-64.nrrd", "cip_chest64/wholeLung-64.nrrd"),
    "sarcoma_3": ("ibsi_sts/STS_003_CT_image.nii.gz", "ibsi_sts/STS_003_CT_mask.nii.gz"),
    "sarcoma_42": ("ibsi_sts/STS_042_CT_image.nii.gz", "ibsi_sts/STS_042_CT_mask.nii.gz"),
}
ORGANS = {  # of which a prediction in shares keeps 0.97
    "elastix": {1: "lungs"},
    "cip": {1: "lungs"},
    "ct": {1: "liver", 2: "spleen"},
    "sarcoma_3": {1: "tumour"},
    "sarcoma_42": {1: "tumour"},
}
SURE = {"elastix": {1: "lungs"}, "cip": {1: "lungs"}, "ct": {1: "liver"}}


@pytest.fixture(scope="module")
def real(
    shared_data: Path, phantoms: ModuleType, perfect: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    """Real scans and their labels, each in all places."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "scans").mkdir()
    (folder / "labels").mkdir()
    pairs = {name: tuple(SimpleITK.ReadImage(str(shared_data / each)) for each in files) for name, files in REAL.items()}
    pairs["ct"] = read_totalsegmentator(shared_data, tmp_path_factory.mktemp("series"))
    for name, (scan, label) in pairs.items():
        for position in PLACES:
            for kind, image, outside in (("scans", scan, -1000.0), ("labels", SimpleITK.Cast(label, SimpleITK.sitkUInt8), 0.0)):
                SimpleITK.WriteImage(perfect.place(image, position, outside), str(folder / kind / f"{name}-{position}.nii.gz"))
    with phantoms.serving(folder / "scans", folder / "labels", folder / "ds.zarr", folder / "log") as server:
        yield server, folder


@pytest.mark.parametrize("position", PLACES)
@pytest.mark.parametrize(("kind", "names"), [("shares", ORGANS), ("sure", SURE)], ids=["shares", "sure"])
def test_real_organs_survive_on_the_grid_that_simpleitk_reads(
    real: tuple[Server, Path],
    perfect: ModuleType,
    card: ModelCard,
    kind: str,
    names: dict[str, dict[int, str]],
    position: str,
    tmp_path: Path,
) -> None:
    server, folder = real
    for name, organs in names.items():
        result = round_trip(server, folder, f"{name}-{position}", perfect, kind, card, tmp_path)
        got, scan = (SimpleITK.ReadImage(str(path)) for path in (result.prediction.path, folder / "scans" / f"{name}-{position}.nii.gz"))
        assert got.GetSize() == scan.GetSize()
        for corner in ((0, 0, 0), tuple(size - 1 for size in scan.GetSize())):
            np.testing.assert_allclose(got.TransformIndexToPhysicalPoint(corner), scan.TransformIndexToPhysicalPoint(corner), atol=1e-3)
        assert {organ: result.dice(id) for id, organ in organs.items() if result.dice(id) <= (0.98 if organ == "lungs" else 0.97)} == {}
