"""`augtrain predict`, with a network that tells tissues by their HU and so is right about phantoms."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from augclient import Server
from augclient.errors import StateError
from augtrain.artifact import ModelCard, load_model, save_model
from augtrain.cli import main
from augtrain.label_map import open_label_file
from augtrain.sliding_window import predictor
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CENTRES = (0.0, 0.53, 0.85)  # of air, soft tissue and bone in the card's window
ALMOST = 0.95  # where bone meets air, voxels of 3 mm between them have the HU of soft tissue
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    return pytest.importorskip("keras")


@pytest.fixture
def networks(keras: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Those of augtrain, and "threshold", in 3-D and 2-D: the nearest of CENTRES, softly."""
    from augtrain.models import NETWORKS, Network

    def build(convolution: Any, axes: int, classes: int, channels: int) -> Any:
        image = keras.Input((*[None] * axes, channels))
        return keras.Model(image, convolution(classes, 1, activation="softmax")(image))

    known = dict(NETWORKS)
    for name, kind, axes, multiple in (("threshold", "Conv3D", 3, (4, 4, 4)), ("threshold2d", "Conv2D", 2, (1, 4, 4))):

        def of_kind(classes: int, *, channels: int = 1, _kind: str = kind, _axes: int = axes) -> Any:
            return build(getattr(keras.layers, _kind), _axes, classes, channels)

        known[name] = Network(name=name, build=of_kind, dimensions=axes, multiple=multiple)
    monkeypatch.setattr("augtrain.models.NETWORKS", known)
    return known


@pytest.fixture
def model(networks: dict[str, Any], card: ModelCard, tmp_path: Path) -> Path:
    """A saved model of "threshold"."""
    return saved(networks, card, tmp_path / "model")


def saved(networks: dict[str, Any], card: ModelCard, folder: Path) -> Path:
    network = networks[card.network].build(3, channels=1)
    centres = np.float32(CENTRES)
    kernel = network.get_weights()[0]
    network.set_weights([np.broadcast_to(400 * centres, kernel.shape), -200 * centres**2])
    save_model(folder, network, card)
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process; exit code, stdout and stderr, its children's too."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    def predict(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["predict", *map(str, arguments)])
        said = capfd.readouterr()
        assert list((tmp_path / "tmp").iterdir()) == []
        return int(ended.value.code or 0), said.out, said.err

    return predict


def test_scans_of_several_formats_are_segmented_on_their_own_grids(
    served: tuple[Server, Path], phantoms: ModuleType, model: Path, run: Run, tmp_path: Path
) -> None:
    _, folder = served
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for name in ("oblique", "sheared"):
        (scans / f"{name}.nii.gz").symlink_to(folder / "scans" / f"{name}.nii.gz")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "scans" / "oblique_flipped.nii.gz")), str(scans / "turned.mha"))
    (scans / "cut.nii.gz").write_bytes((folder / "scans" / "oblique.nii.gz").read_bytes()[:-5000])
    code, answer, _ = run(scans, "--model", model, "--out", out, "--json", "--pictures", tmp_path / "pictures", "--probabilities")
    report = json.loads(answer)
    assert code == 3
    assert [each["id"] for each in report["refused"]] == ["cut"]
    assert "truncated" in report["refused"][0]["reason"]
    assert [each["id"] for each in report["predictions"]] == ["oblique", "sheared", "turned"]
    assert {"oblique.nii.gz", "sheared.nii.gz", "turned.nii.gz", "probabilities"} == {file.name for file in out.iterdir()}
    for name, of in (("oblique", "oblique"), ("sheared", "sheared"), ("turned", "oblique_flipped")):
        got, truth = (nibabel.load(path) for path in (out / f"{name}.nii.gz", folder / "labels" / f"{of}.nii.gz"))
        label, true = np.asarray(got.dataobj), np.asarray(truth.dataobj)
        np.testing.assert_allclose(got.affine, truth.affine, atol=1e-3)
        for id in (1, 2):
            assert phantoms.dice(label == id, true == id) > ALMOST
        shares = nibabel.load(out / "probabilities" / f"{name}.nii.gz").get_fdata(dtype=np.float32)
        np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=0.01)
        assert (shares.argmax(axis=-1) == label).mean() > 0.999
        assert Image.open(tmp_path / "pictures" / f"{name}.png").width > 500


def test_evaluate_scores_what_predict_wrote(served: tuple[Server, Path], model: Path, run: Run, tmp_path: Path, capfd: Any) -> None:
    _, folder = served
    assert run(folder / "scans" / "flipped.nii.gz", "--model", model, "--out", tmp_path / "out")[0] == 0
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(tmp_path / "out"), str(folder / "labels"), "--only-predicted", "--json"])
    assert not ended.value.code
    answer = capfd.readouterr().out
    assert "soft tissue" in answer
    scores = json.loads(answer)
    [dice] = [each["dice"] for each in find(scores, "name", "soft tissue") if isinstance(each.get("dice"), float)][:1]
    assert dice > ALMOST


def find(tree: Any, key: str, value: str) -> list[dict[str, Any]]:
    """All tables below `tree` that have this value."""
    below = list(tree.values()) if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    here = [tree] if isinstance(tree, dict) and tree.get(key) == value else []
    return here + [found for each in below for found in find(each, key, value)]


def test_a_dicom_series_and_the_same_scan_in_nrrd_give_the_same_label(shared_data: Path, model: Path, run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "cip_chest64" / "ct-64Dicom.zip") as archive:
        archive.extractall(tmp_path / "series")
    scan = shared_data / "cip_chest64" / "ct-64.nrrd"
    code, answer, _ = run(tmp_path / "series", scan, "--model", model, "--out", tmp_path / "out", "--json")
    assert code == 0
    first, second = (SimpleITK.ReadImage(each["file"]) for each in json.loads(answer)["predictions"])
    reference = SimpleITK.ReadImage(str(scan))
    for got in (first, second):
        assert got.GetSize() == reference.GetSize()
        np.testing.assert_allclose(
            got.TransformIndexToPhysicalPoint((0, 5, 9)), reference.TransformIndexToPhysicalPoint((0, 5, 9)), atol=0.05
        )
    assert (SimpleITK.GetArrayFromImage(first) == SimpleITK.GetArrayFromImage(second)).mean() > 0.999


@pytest.mark.parametrize(
    "options", [[], ["--weighting", "gaussian", "--overlap", "0.25", "--batch-size", "3"], ["--tta", "1"], ["--patch", "8,32,24"]]
)
def test_volumes_of_a_running_server_are_segmented(
    served: tuple[Server, Path], phantoms: ModuleType, model: Path, run: Run, tmp_path: Path, options: list[str]
) -> None:
    server, folder = served
    code, answer, _ = run("oblique", "--server", server._address, "--model", model, "--out", tmp_path / "out", *options)
    assert code == 0
    assert "oblique.nii.gz: soft tissue" in answer
    label = np.asarray(nibabel.load(tmp_path / "out" / "oblique.nii.gz").dataobj)
    truth = np.asarray(nibabel.load(folder / "labels" / "oblique.nii.gz").dataobj)
    assert phantoms.dice(label == 1, truth == 1) > ALMOST


def test_a_2d_network_segments_plane_by_plane(
    served: tuple[Server, Path], networks: dict[str, Any], card: ModelCard, run: Run, tmp_path: Path
) -> None:
    from dataclasses import replace

    server = served[0]
    flat = saved(networks, replace(card, network="threshold2d", patch=(1, 32, 32)), tmp_path / "flat")
    deep = saved(networks, card, tmp_path / "deep")
    labels = []
    for folder in (flat, deep):
        assert run("flipped", "--server", server._address, "--model", folder, "--out", tmp_path / "out")[0] == 0
        labels.append(np.asarray(nibabel.load(tmp_path / "out" / "flipped.nii.gz").dataobj).copy())
    np.testing.assert_array_equal(*labels)
    code, _, error = run("flipped", "--server", server._address, "--model", flat, "--out", tmp_path / "out", "--patch", "4,32,32")
    assert (code, "1 voxel deep" in error) == (64, True)


def test_a_saved_network_of_augtrain_answers_as_before(networks: dict[str, Any], card: ModelCard, tmp_path: Path) -> None:
    from dataclasses import replace

    model = networks["unet2d"].build(3, channels=1, width=0.1)
    mine = replace(card, network="unet2d", network_options={"width": 0.1}, patch=(1, 32, 32))
    save_model(tmp_path / "mine", model, mine)
    loaded, read = load_model(tmp_path / "mine")
    tiles = np.random.default_rng(6).random((2, 1, 32, 48, 1), np.float32)
    np.testing.assert_array_equal(predictor(loaded)(tiles), predictor(model)(tiles))
    assert read == mine
    save_model(tmp_path / "other", model, replace(mine, network_options={"width": 0.2}))
    with pytest.raises(StateError, match="do not fit the network 'unet2d'"):
        load_model(tmp_path / "other")


def test_only_named_classes_and_their_largest_pieces_are_written(
    served: tuple[Server, Path], model: Path, run: Run, tmp_path: Path
) -> None:
    _, folder = served
    scan = nibabel.load(folder / "scans" / "upright.nii.gz")
    voxels = np.asarray(scan.dataobj).copy()
    voxels[:8, :9, :7] = 700  # a second bone
    nibabel.save(nibabel.Nifti1Image(voxels, scan.affine), tmp_path / "two.nii.gz")
    options = ["--model", model, "--out", tmp_path / "out", "--classes", "bone", "--largest-component", "--json"]
    code, answer, _ = run(tmp_path / "two.nii.gz", *options)
    [prediction] = json.loads(answer)["predictions"]
    file = open_label_file(tmp_path / "out" / "two.nii.gz")
    label = file.read().T
    assert code == 0
    assert file.classes == {0: "background", 2: "bone"}
    assert set(np.unique(label)) == {0, 2}
    assert not label[:8, :9, :7].any()
    assert prediction["removed_ml"]["bone"] == pytest.approx(8 * 9 * 7 * 1.6 * 1.2 * 2.1 / 1000, rel=0.4)
    assert list(prediction["volume_ml"]) == ["bone"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["SCAN", "--model", "MODEL", "--classes", "bones"], 4, "did you mean 'bone'"),
        (["SCAN", "--model", "MODEL", "--patch", "4,4,6"], 64, "strides need multiples of (4, 4, 4)"),
        (["SCAN", "--model", "MODEL", "--patch", "4,4"], 64, "Z,Y,X"),
        (["SCAN", "--model", "MODEL", "--overlap", "1"], 64, "overlap"),
        (["SCAN", "--model", "DAMAGED"], 6, "are damaged"),
        (["SCAN", "--model", "FOREIGN"], 6, "has no card.json"),
        (["SCAN", "--model", "absent"], 4, "no such folder"),
        (["SCAN", "--model", "MODEL", "--tta-recipe", "absent.toml"], 4, "absent.toml"),
        (["SCAN", "--model", "MODEL", "--token-file", "t"], 64, "--server"),
        (["absent.nii", "--model", "MODEL"], 4, "absent.nii"),
        (["--model", "MODEL"], 64, "nothing to segment"),
        (["--server", "127.0.0.1:1", "--model", "MODEL"], 8, "127.0.0.1:1"),
        (["obliqe", "--server", "SERVER", "--model", "MODEL"], 4, "did you mean 'oblique'"),
    ],
)
def test_what_cannot_work_is_told_before_any_work(
    served: tuple[Server, Path], model: Path, run: Run, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    server, folder = served
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in model.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[: None if file.suffix == ".json" else -1])
    (tmp_path / "foreign").mkdir()
    places = {"SCAN": folder / "scans" / "upright.nii.gz", "MODEL": model, "DAMAGED": damaged, "FOREIGN": tmp_path / "foreign"}
    given = [str({**places, "SERVER": server._address}.get(each, each)) for each in arguments]
    got, answer, error = run(*given, "--out", tmp_path / "out")
    assert (got, answer) == (code, "")
    assert words in error
    assert not list((tmp_path / "out").glob("*.nii.gz"))
