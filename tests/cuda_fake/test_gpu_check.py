"""The check that runs on cards, run here without one: the script itself works, and writes no figure. Proves no code and no speed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RESULTS = REPOSITORY / "tests" / "benchmarks" / "RESULTS.md"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dry_run_of_the_gpu_check_passes_on_the_fake_driver_and_writes_no_figures(fake_driver):
    before = RESULTS.read_bytes() if RESULTS.exists() else None
    environment = {**fake_driver, "PYTHON": sys.executable, "FAKE_CUDA_MEMORY": str(1 << 30)}
    del environment["LD_LIBRARY_PATH"]
    done = subprocess.run(
        [REPOSITORY / "tests" / "gpu" / "check.sh", "--dry-run"], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "16 passed" in done.stdout
    assert "no figures" in done.stdout
    assert done.stdout.rstrip().endswith("all passed")
    assert (RESULTS.read_bytes() if RESULTS.exists() else None) == before


PEERS_ON_CPU = """
import sys
sys.path[:0] = ["tests/gpu", "tests/benchmarks"]
import peers_gpu, workload

image, label = (array[:60, :50, :70] for array in workload.make_ct())
draws, patch = workload.make_draws(), (31, 24, 43)
for peer in peers_gpu.peers(image.copy(), label.copy(), draws, patch, device="cpu"):
    for k in range(4):
        wrong = peers_gpu.disagreement(peer, k, image.copy(), label.copy(), draws, patch)
        assert wrong == "", (peer.name, k, wrong)
    print(peer.name)
    right, peer = peer, peers_gpu.Peer(peer.name, lambda k, noise: right.run(k + 1, noise), peer.windowed)
    assert "differ from ours" in peers_gpu.disagreement(peer, 0, image.copy(), label.copy(), draws, patch)
"""


@pytest.mark.slow
def test_the_peers_of_the_benchmark_do_the_same_work_as_we_do_on_the_cpu():
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-P", "-c", PEERS_ON_CPU], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "torch grid_sample" in done.stdout


NCU = """==PROF== Connected to process 7
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","7","augment_int16(const aug::Params *)","dram__throughput.avg.pct_of_peak_sustained_elapsed","%","11.5"
"1","7","augment_int16(const aug::Params *)","dram__throughput.avg.pct_of_peak_sustained_elapsed","%","41.25"
"1","7","augment_int16(const aug::Params *)","gpu__time_duration.sum","ns","1,234,567"
"1","7","augment_int16(const aug::Params *)","something.else","%","1"
"""
READ_NCU = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/gpu")
import counters
for each in counters.read(Path(sys.argv[1])):
    print(each.kernel, each.metric, each.figure, each.unit, sep="|")
"""


def test_counters_are_those_of_the_last_launch(tmp_path):
    (tmp_path / "ncu.csv").write_text(NCU)
    command = [sys.executable, "-P", "-c", READ_NCU, tmp_path / "ncu.csv"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["augment_int16|DRAM throughput|41.25|%", "augment_int16|time|1234567.0|ns"]
