"""Scans are served while the block runs, and nothing is left of it, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import augclient
import nibabel
import numpy as np
import psutil
import pytest
from augclient.errors import AugError, AuthError, BackendError, NotFoundError, RequestError
from augtrain.predict import scan_server
from augtrain.predict.scan_server import serve_scans

pytestmark = pytest.mark.slow
SPACING_MM = (3.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def scans(phantoms: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scan and a file that was cut off."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "scans").mkdir()
    (folder / "labels").mkdir()
    phantoms.write_scan(folder, "whole", phantoms.POSITIONS["flipped"])
    cut = (folder / "scans" / "whole.nii.gz").read_bytes()[:-4000]
    (folder / "scans" / "cut.nii.gz").write_bytes(cut)
    return folder / "scans"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_scans_are_served_to_the_holder_of_the_token_and_then_gone(scans: Path, temporary: Path) -> None:
    before, children = psutil.Process().children(), []

    def fail_within() -> None:
        with serve_scans([scans], modality="ct", spacing_mm=SPACING_MM) as served:
            assert [refusal.id for refusal in served.refused] == ["cut"]
            assert "truncated" in served.refused[0].reason
            with pytest.raises(AuthError):
                augclient.connect(served.address)
            with augclient.connect(served.address, token=served.token) as server:
                assert server.dataset().volumes == ("whole",)
                assert server.dataset().infos["whole"].spacing_mm == pytest.approx(SPACING_MM)
            children.extend(child for child in psutil.Process().children() if child not in before)
            raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        fail_within()
    assert [child.is_running() for child in children] == [False]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("channels", "shape"), [(1, None), (2, (2, 5, 7, 11))])
def test_a_fourth_axis_is_channels_where_the_model_has_several(temporary: Path, channels: int, shape: tuple[int, ...] | None) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((11, 7, 5, 2), np.int16), np.eye(4)), temporary / "two.nii")
    with serve_scans([temporary / "two.nii"], modality="mr", spacing_mm=None, channels=channels) as served:
        if shape is None:
            assert "4 axes" in served.refused[0].reason
        else:
            with augclient.connect(served.address, token=served.token) as server:
                assert server.dataset().infos["two"].shape == shape


@pytest.mark.parametrize("wrong", [{"modality": "pet"}, {"spacing_mm": (-1.0, 1.0, 1.0)}], ids=str)
def test_an_option_that_ingest_refuses_is_not_told_as_no_scan(scans: Path, temporary: Path, wrong: dict, capfd) -> None:
    options: dict = {"modality": "ct", "spacing_mm": SPACING_MM} | wrong
    with (
        pytest.raises(AugError, match=f"could not read the scans and ended with code {RequestError.exit_code}") as caught,
        serve_scans([scans], **options),
    ):
        pass
    assert type(caught.value) is AugError
    assert re.search("'pet' is not one of|--spacing-mm must be", capfd.readouterr().err)
    assert list(temporary.iterdir()) == []


def test_where_no_scan_is_usable_the_reasons_remain(scans: Path, temporary: Path) -> None:
    with serve_scans([scans / "cut.nii.gz"], modality="ct", spacing_mm=None) as served:
        assert served.address is None
        assert [refusal.id for refusal in served.refused] == ["cut"]
    assert list(temporary.iterdir()) == []


def test_a_folder_without_scans_is_told(temporary: Path) -> None:
    (temporary / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no scan was found"), serve_scans([temporary / "empty"], modality="ct", spacing_mm=None):
        pass
    assert [each.name for each in temporary.iterdir()] == ["empty"]


def test_a_source_that_is_not_there_is_told(temporary: Path) -> None:
    with pytest.raises(NotFoundError, match="absent"), serve_scans([temporary / "absent"], modality="ct", spacing_mm=None):
        pass


def test_where_augserver_is_not_installed_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BackendError, match="--server ADDR"):
        scan_server.augserver_command()
    monkeypatch.setattr("shutil.which", lambda name: "/somewhere/augserver")
    assert scan_server.augserver_command() == ["/somewhere/augserver"]


SCRIPT = """
import signal, sys
from pathlib import Path
import nibabel
import numpy as np
import psutil
from augtrain.cli.sigterm import exit_on_sigterm
from augtrain.predict.scan_server import serve_scans
with exit_on_sigterm(), serve_scans([Path(sys.argv[1])], modality="ct", spacing_mm=None) as served:
    print(*[child.pid for child in psutil.Process().children()], flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_server_too(scans: Path, tmp_path: Path, number: signal.Signals) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT, str(scans / "whole.nii.gz")], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline()))
        assert server.is_running()
        process.send_signal(number)
        code = process.wait(60)
        psutil.wait_procs([server], timeout=60)
    assert not server.is_running()
    if number is signal.SIGTERM:
        assert code == 128 + signal.SIGTERM
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("orientation", "first"), [("lps", 3.0), ("file", 0.0)])
def test_scans_are_turned_as_those_that_the_network_was_trained_on(temporary: Path, orientation: str, first: float) -> None:
    voxels = np.zeros((4, 5, 6), np.int16)
    voxels += np.arange(4, dtype=np.int16)[:, None, None]  # x runs to Right, so that turning reverses it
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, -1.0, 1.0, 1.0])), temporary / "ramp.nii")
    with (
        serve_scans([temporary / "ramp.nii"], modality="mr", spacing_mm=None, orientation=orientation) as served,
        augclient.connect(served.address, token=served.token) as server,
    ):
        volume = server.volume("ramp")
        assert volume.image[0, 0, 0, 0] == first
        assert volume.info.source_shape == (6, 5, 4)
