"""`augserver label` and `ingest --organs`: what is written, what is kept, what is said, and what a kill leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from augserver.cli import main
from augserver.errors import ConfigError, GeometryError, StoreError
from augserver.geometry import affine_of
from augserver.ingest.torso_phantom import BONE, CLASSES, LUNGS, make_torso
from augserver.store import Dataset, DatasetWriter, layout

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """run("label", ...): exit code, stdout, stderr."""

    def call(*args: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def torso() -> Any:
    return make_torso(0)


@pytest.fixture
def dataset(tmp_path: Path, torso: Any) -> Path:
    """Volumes "chest" (with a label: liver, and a few voxels of it inside a lung) and "pelvis" (no thorax in view, no label)."""
    path = tmp_path / "ds.zarr"
    label = np.where(torso.label == 1, 1, 0).astype(np.uint8)
    label[tuple(np.argwhere(torso.label == LUNGS)[5000:5010].T)] = 1
    with DatasetWriter(path, modality="ct", classes={1: "liver", 7: "Lung"}) as writer:
        writer.write("chest", torso.image, label, torso.spacing_mm, torso.affine)
        writer.write("pelvis", torso.image[:, :40], None, torso.spacing_mm, torso.affine)
        writer.finish()
    return path


def test_organs_go_under_their_names_where_the_label_is_background(dataset: Path, torso: Any, tmp_path: Path, run: Run) -> None:
    before = Dataset.open(dataset)
    given = before.read("chest").label == 1
    code, stdout, stderr = run("label", dataset, "--organs", "lungs,bone", "--pictures", tmp_path / "pictures", "--json")
    report = json.loads(stdout)
    after = Dataset.open(dataset)
    label = after.read("chest").label
    assert (code, stderr) == (3, "")
    assert after.classes == {0: "background", 1: "liver", 7: "Lung", 8: "bone"}
    np.testing.assert_array_equal(label == 1, given)
    lungs, bone = label == 7, label == 8
    assert 2 * (lungs & (torso.label == LUNGS)).sum() / (lungs.sum() + (torso.label == LUNGS).sum()) > 0.97
    assert 2 * (bone & (torso.label == BONE)).sum() / (bone.sum() + (torso.label == BONE).sum()) > 0.85
    np.testing.assert_array_equal(after.read("chest").image, torso.image)
    assert after.fingerprint == report["fingerprint"] != before.fingerprint
    chest, pelvis = report["volumes"]
    assert chest["organs"]["lungs"]["voxels"] == int(lungs.sum())
    assert pelvis["organs"]["lungs"]["state"] == "refused"
    assert "in view" in pelvis["organs"]["lungs"]["reason"]
    assert pelvis["organs"]["bone"]["state"] == "labelled"
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == ["chest.png", "pelvis.png"]
    with Image.open(tmp_path / "pictures" / "chest.png") as picture:
        assert min(picture.size) > 200
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100
    after.verify("chest")
    assert [item.name for item in dataset.glob(".*")] == [".statistics"]


def test_a_second_run_keeps_what_the_first_wrote(dataset: Path, run: Run) -> None:
    run("label", dataset, "--organs", "lungs")
    first = Dataset.open(dataset).fingerprint
    code, stdout, _ = run("label", dataset, "--organs", "lungs", "--json")
    report = json.loads(stdout)
    assert code == 3
    assert report["volumes"][0]["organs"]["lungs"]["state"] == "kept"
    assert report["fingerprint"] == first


def test_exit_codes_tell_all_from_none(dataset: Path, torso: Any, tmp_path: Path, run: Run) -> None:
    assert run("label", dataset, "--organs", "bone")[0] == 0
    with DatasetWriter(tmp_path / "low.zarr", modality="ct") as writer:
        writer.write("low", torso.image[:, :40], None, torso.spacing_mm, torso.affine)
        writer.finish()
    code, stdout, _ = run("label", tmp_path / "low.zarr", "--organs", "lungs")
    assert code == 2
    assert "no lungs in low: " in stdout
    assert Dataset.open(tmp_path / "low.zarr").classes == {0: "background"}


@pytest.mark.parametrize(
    ("organs", "message"), [("liver", "--organs must be one or more of lungs,bone"), ("", "--organs must be one or more")]
)
def test_organs_that_cannot_be_found_are_told(dataset: Path, run: Run, organs: str, message: str) -> None:
    code, _, stderr = run("label", dataset, "--organs", organs)
    assert (code, message in stderr) == (64, True), stderr


def test_mr_and_missing_datasets_are_told(tmp_path: Path, run: Run) -> None:
    with DatasetWriter(tmp_path / "mr.zarr", modality="mr") as writer:
        writer.write("a", np.zeros((1, 3, 4, 5)), None, (1.0, 1.0, 1.0), affine_of((1.0, 1.0, 1.0)))
        writer.finish()
    code, _, stderr = run("label", tmp_path / "mr.zarr", "--organs", "lungs")
    assert (code, "holds modality 'mr'" in stderr) == (64, True), stderr
    code, _, stderr = run("label", tmp_path / "none.zarr", "--organs", "lungs")
    assert (code, "there is no dataset" in stderr) == (4, True), stderr


def test_ingest_labels_what_it_takes_in(torso: Any, tmp_path: Path, run: Run) -> None:
    source = tmp_path / "src"
    source.mkdir()
    nibabel.save(nibabel.Nifti1Image(torso.image[0].transpose(2, 1, 0), np.diag([-3.0, -3.0, 3.0, 1.0])), source / "torso.nii.gz")
    code, stdout, stderr = run("ingest", source, "--out", tmp_path / "ds.zarr", "--organs", "lungs,bone", "--json")
    assert (code, stderr) == (0, "")
    dataset = Dataset.open(tmp_path / "ds.zarr")
    assert json.loads(stdout)["fingerprint"] == dataset.fingerprint
    assert dataset.classes == {0: "background", 1: "lungs", 2: "bone"}
    assert min(dataset.class_voxels.values()) > 10_000
    code, _, stderr = run("ingest", source, "--out", tmp_path / "other.zarr", "--pictures", tmp_path)
    assert (code, "--pictures shows the organs" in stderr) == (64, True), stderr


class TestWriteLabel:
    """The store's part: another label for a volume that is there."""

    def label(self, path: Path, value: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.full(Dataset.open(path).info("pelvis").shape[1:], value, np.uint8)

    def test_readers_see_the_old_label_until_finish(self, dataset: Path) -> None:
        before = Dataset.open(dataset).fingerprint
        with DatasetWriter.reopen(dataset) as writer:
            info = writer.write_label("pelvis", self.label(dataset, 9), {9: "all"})
            assert info.class_voxels == {9: int(np.prod(info.shape))}
            assert Dataset.open(dataset).fingerprint == before
            assert not Dataset.open(dataset).info("pelvis").has_label
            after = writer.finish()
        opened = Dataset.open(dataset)
        assert opened.fingerprint == after != before
        assert opened.classes[9] == "all"
        assert (opened.read("pelvis").label == 9).all()

    @pytest.mark.parametrize("renames", [0, 1, 2])
    def test_a_writer_killed_in_finish_is_finished_by_the_next(self, dataset: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
        writer = DatasetWriter.reopen(dataset)
        writer.write_label("pelvis", self.label(dataset, 9), {9: "all"})
        original, count = Path.rename, 0

        def rename(self: Path, target: Any) -> Path:
            nonlocal count
            if count == renames:
                raise KeyboardInterrupt
            count += 1
            return original(self, target)

        def never(*args: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            patch.setattr(layout, "write_attributes", never)
            with pytest.raises(KeyboardInterrupt):
                writer.finish()
        writer._lock.release()  # as the death of its process does
        with DatasetWriter.reopen(dataset):
            pass
        opened = Dataset.open(dataset)
        assert (opened.read("pelvis").label == 9).all()
        assert opened.volumes == ("chest", "pelvis")
        assert [item.name for item in dataset.glob(".*")] == [".statistics"]

    def test_labels_of_another_grid_and_taken_ids_are_refused(self, dataset: Path) -> None:
        with DatasetWriter.reopen(dataset) as writer:
            with pytest.raises(GeometryError, match="label must be uint8"):
                writer.write_label("pelvis", np.zeros((3, 4, 5), np.uint8), {})
            with pytest.raises(ConfigError, match="it is 'liver'"):
                writer.write_label("pelvis", self.label(dataset, 1), {1: "lungs"})

    def test_what_is_no_dataset_is_not_reopened(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="not a Zarr v3 group"):
            DatasetWriter.reopen(tmp_path)


def test_the_phantom_names_its_classes_as_the_organs_are_named() -> None:
    assert (CLASSES[LUNGS], CLASSES[BONE]) == ("lungs", "bone")
