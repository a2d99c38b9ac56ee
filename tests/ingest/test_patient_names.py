"""Which names of files and folders name the patient, and that none of them is told."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from augserver.cli import main
from augserver.ingest import IngestConfig, ingest_scans
from augserver.ingest.label_source import LabelFile, LabelMasks, LabelPictures, LabelSource
from augserver.ingest.naming import Naming
from augserver.ingest.patient_names import identifiers_of
from augserver.ingest.sources import Source, file_source, find_sources
from augserver.store import DatasetWriter


@pytest.mark.parametrize(
    ("patient", "folder", "named"),
    [
        ("Li^Wei", "Wei_Li_CT", True),
        ("Li^Wei", "li", True),
        ("Li^Wei", "WeiLi-2019", True),
        ("Li^Wei", "LiW_thorax", True),
        ("Li^Wei", "CTLi", True),
        ("Li^Wei", "Li3", True),
        ("Li^Wei", "clinic_liver_weight", False),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎_CT", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "CT山田", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ﾔﾏﾀﾞ_chest", True),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "胸部CT", False),
        ("Wang^Wei=王^伟", "王伟", True),
        ("Wang^Wei=王^伟", "scan_王_1", True),
        ("Wang^Wei=王^伟", "王CT", True),
        ("Hong^Gildong=洪^吉洞=홍^길동", "홍길동_복부", True),
        ("O^Kim", "O_CT", True),
        ("O^Kim", "OR_CT", False),
        ("Ng", "NG", True),
        ("Ng", "lung_thorax_ng2", True),
        ("Ng", "imaging", False),
        ("Smith^John^^Mr^II", "MR_II", False),
        ("CT^Phantom", "CT", False),
        ("Müller^Jörg", "Mueller", True),
        ("Müller^Jörg", "muller_1", True),
        ("MUELLER^JOERG", "Jörg", True),
        ("Mu\u0308ller", "M\u00fcller", True),
        ("Ли^Вэй", "вэй_ли", True),
        ("Nguyễn^Đào", "dao nguyen", True),
        ("Ａｂｅ＾Ｋｅｎ", "Ken", True),
        ("Van Dyke, Li", "dyke", True),
        ("O'Brien^Al", "obrien", True),
        ("Xu-Wu^An", "wu", True),
        ("", "anything", False),
        ("^^^^", "anything", False),
    ],
)
def test_names_in_names(patient: str, folder: str, named: bool) -> None:
    assert identifiers_of((patient,), (), ()).are_in(folder) is named


@pytest.mark.parametrize(
    ("number", "folder", "named"),
    [
        ("12-345-678", "12345678", True),
        ("0012345", "p12345", True),
        ("7", "17", False),
        ("7", "7", False),
        ("A12", "a12_ct", True),
        ("MRN 998877", "998877", True),
    ],
)
def test_numbers_in_names(number: str, folder: str, named: bool) -> None:
    assert identifiers_of((), (number,), ()).are_in(folder) is named


@pytest.mark.parametrize("folder", ["19700131", "1970-01-31_ct", "31.01.1970", "01-31-1970", "31Jan1970"])
def test_birth_dates_in_names(folder: str) -> None:
    assert identifiers_of((), (), ("19700131",)).are_in(folder)
    assert not identifiers_of((), (), ("19700130",)).are_in(folder)


def test_identifiers_are_not_shown() -> None:
    assert "wei" not in repr(identifiers_of(("Li^Wei",), (), ())).lower()


CHARACTER_SETS = [
    ("ISO_IR 192", "utf-8", "Wang^XiaoDong=王^小东"),
    ("GB18030", "gb18030", "Wang^XiaoDong=王^小东"),
    ("\\ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎"),
    ("\\ISO 2022 IR 149", None, "Hong^Gildong=洪^吉洞"),
    ("ISO_IR 100", "latin-1", "Weiß^Zoë"),
    ("ISO_IR 144", "iso8859_5", "Ли^Вэй"),
    ("", "utf-8", "王^小东"),
    ("", "gb18030", "王^小东"),
    ("", "shift_jis", "山田^太郎"),
]


@pytest.mark.parametrize(("declared", "encoding", "name"), CHARACTER_SETS)
@pytest.mark.parametrize("missing_slice", [False, True])
def test_a_folder_called_as_its_patient_is_never_told(
    tmp_path: Path,
    write_series: Callable[..., list[Path]],
    capsys: pytest.CaptureFixture[str],
    declared: str,
    encoding: str | None,
    name: str,
    missing_slice: bool,
) -> None:
    family, given = name.split("=")[-1].split("^")
    folder = tmp_path / "in" / f"{given}{family}_CT"
    files = write_series(folder, np.random.default_rng(0).integers(-1000, 900, (5, 6, 7)).astype(np.int16))
    for file in files:
        data = pydicom.dcmread(file)
        if declared:
            data.SpecificCharacterSet = declared.split("\\")
        data.PatientName = name if declared or encoding is None else name.encode(encoding)
        data.save_as(file)
    if missing_slice:
        files[2].unlink()
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(tmp_path / "in"), "--out", str(tmp_path / "out.zarr"), "--json"])
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert stop.value.code == (2 if missing_slice else 0)
    assert [volume["id"].startswith("scan-") for volume in report["volumes"]] == ([] if missing_slice else [True])
    if missing_slice:
        assert "a slice is missing" in report["refused"][0]["reason"]
    for part in (family, given):
        assert part not in printed.out + printed.err
        assert json.dumps(part)[1:-1] not in printed.out + printed.err


def test_the_shared_case(shared_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = shared_cases / "short_and_cjk_patient_names/input"
    with pytest.raises(SystemExit) as stop:
        main(["ingest", str(case), "--out", str(tmp_path / "out.zarr")])
    printed = capsys.readouterr()
    assert stop.value.code == 3
    assert "1 in, 1 refused" in printed.out
    assert "scan-" in printed.out
    for word in ("Wei", "Li_", "山田", "太郎"):
        assert word not in printed.out + printed.err


def _scans(folder: Path, kind: str, write_scan: Callable[..., Path], write_series: Callable[..., list[Path]]) -> list[Source]:
    """Two scans, the first with a label of this kind that cannot be read."""
    good = file_source(write_scan(folder / "good.nii.gz"), folder)
    bad = file_source(write_scan(folder / "Muster_Max.nii.gz"), folder)
    label: LabelSource
    if kind == "file":
        write_scan(folder / "Muster_Max_seg.hdr")
        (folder / "Muster_Max_seg.img").unlink()
        label = LabelFile(folder / "Muster_Max_seg.hdr")
    elif kind == "masks":
        write_scan(folder / "Muster_Max_liver.hdr")
        (folder / "Muster_Max_liver.img").unlink()
        label = LabelMasks({1: folder / "Muster_Max_liver.hdr"})
    elif kind == "absent":
        label = LabelFile(folder / "Muster_Max_gone.nii.gz")
    else:
        series = write_series(folder / "Muster_Max", np.zeros((4, 6, 7), np.int16))
        [bad] = find_sources([folder / "Muster_Max"]).sources
        pictures = []
        for index in range(len(series)):
            pictures.append(folder / f"Muster_Max_{index}.png")
            Image.fromarray(np.full((6, 7), 99, np.uint8)).save(pictures[-1])
        label = LabelPictures(pictures, bad.slices, {0: 0})
    return [Source(path=bad.path, root=folder, stem=bad.stem, name=bad.name, slices=bad.slices, label=label), good]


@pytest.mark.parametrize("kind", ["file", "masks", "pictures", "absent"])
@pytest.mark.parametrize("ids", ["names", "hashed"])
def test_one_bad_label_refuses_its_scan_alone_and_keeps_the_name(
    tmp_path: Path, write_scan: Callable[..., Path], write_series: Callable[..., list[Path]], kind: str, ids: str
) -> None:
    scans = _scans(tmp_path / "in", kind, write_scan, write_series)
    config = IngestConfig(ids=ids, labelled=True)
    with DatasetWriter(tmp_path / "out.zarr", modality="ct") as writer:
        outcomes = list(ingest_scans(scans, writer, config))
    assert [outcome.info is None for outcome in outcomes] == [True, False]
    assert outcomes[0].reason
    if ids == "hashed":
        assert outcomes[0].id == "scan #1"
        assert "Muster" not in outcomes[0].reason
        assert str(tmp_path) not in outcomes[0].reason
    else:
        assert "Muster" in outcomes[0].reason


def test_an_unexpected_error_refuses_its_scan_alone_and_is_not_quoted(
    tmp_path: Path, write_scan: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "in"
    for name in ("Muster_Max", "good"):
        write_scan(folder / f"{name}.nii.gz")
    read = Source.read

    def fail(self: Source, modality: str, nifti_affine: str) -> Any:
        if self.stem == "Muster_Max":
            raise ZeroDivisionError(f"in {self.path}")
        return read(self, modality, nifti_affine)

    monkeypatch.setattr(Source, "read", fail)
    for ids in ("hashed", "names"):
        with DatasetWriter(tmp_path / f"{ids}.zarr", modality="ct") as writer:
            outcomes = list(ingest_scans(find_sources([folder]).sources, writer, IngestConfig(ids=ids)))
        assert [outcome.info is None for outcome in outcomes] == [True, False]
        assert "cannot be ingested (ZeroDivisionError)" in outcomes[0].reason
        assert ("Muster" in outcomes[0].reason) is (ids == "names")
        assert ("Muster" in caplog.text) is (ids == "names")


def test_redaction_replaces_every_form_of_a_name_at_once(tmp_path: Path) -> None:
    source = Source(
        path=tmp_path / "scan/Li.nii.gz", root=tmp_path, stem="Li", name=("scan", "Li"), label=LabelFile(tmp_path / "x/Wei.nii")
    )
    text = f"{source.path}: Li.nii.gz and Wei.nii of scan: Li in clinic"
    redacted = Naming([source], "hashed").redacted(0, text)
    assert redacted == "scan #1: scan #1 and scan #1 of scan #1: scan #1 in clinic"


@pytest.mark.slow
def test_real_dicom_that_names_nobody_keeps_its_names(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "cip_chest64/ct-64Dicom.zip") as archive:
        archive.extractall(tmp_path / "ct-64Dicom")
    assert [source.names_patient for source in find_sources([tmp_path / "ct-64Dicom"]).sources] == [False]
