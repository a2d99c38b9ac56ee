"""One run, one folder, one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from augclient.errors import StateError
from augtrain.fit.event_file import EventFile
from augtrain.fit.run_folder import check_identity, hold_folder, write_identity

IDENTITY = {"dataset": "f00", "network": "unet3d", "patch": [8, 8, 8], "training_volumes": ["a", "b"]}


def test_a_folder_is_taken_by_one_process_and_free_again_when_that_was_killed(tmp_path: Path) -> None:
    hold = "import sys, time\nfrom pathlib import Path\nfrom augtrain.fit.run_folder import hold_folder\n"
    hold += "with hold_folder(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)"
    out = tmp_path / "a" / "run"
    with subprocess.Popen([sys.executable, "-P", "-c", hold, str(out)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match="in use by another augtrain fit"), hold_folder(out):
            pass
        process.kill()
    with hold_folder(out) as folder:
        assert folder == out


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"sea")
    with pytest.raises(StateError, match=r"no run folder, it holds holiday\.jpg"), hold_folder(tmp_path):
        pass


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be written to"), hold_folder(tmp_path / "file" / "run"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StateError, match="Permission denied"), hold_folder(tmp_path / "run"):
        pass


def test_another_run_is_told_by_what_differs(tmp_path: Path) -> None:
    check_identity(tmp_path, IDENTITY)
    write_identity(tmp_path, IDENTITY)
    check_identity(tmp_path, {**IDENTITY, "patch": (8, 8, 8)})  # as JSON has it
    with pytest.raises(StateError, match=r'network was "unet3d", and is "unet2d" now \(patch differ too\)'):
        check_identity(tmp_path, {**IDENTITY, "network": "unet2d", "patch": [8, 8, 16]})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(StateError, match="cannot be read"):
        check_identity(tmp_path, IDENTITY)


def test_tensorboard_reads_the_events_and_drops_those_that_a_resumed_run_repeats(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = EventFile(tmp_path, 0)
    for step in range(5):
        killed.add(step, {"training/loss": 10.0 + step, "validation/mean_dice": None})
    killed.flush()
    resumed = EventFile(tmp_path, 3)
    for step in range(3, 7):
        resumed.add(step, {"training/loss": 20.0 + step})
    resumed.close()
    killed.close()
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    assert reader.Tags()["scalars"] == ["training/loss"]
    assert [(each.step, each.value) for each in reader.Scalars("training/loss")] == [
        (0, 10.0),
        (1, 11.0),
        (2, 12.0),
        (3, 23.0),
        (4, 24.0),
        (5, 25.0),
        (6, 26.0),
    ]
