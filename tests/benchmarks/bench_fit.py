"""How long a network takes to learn the torsos' six classes through a running server, and how much of that it waits for data.

    python tests/benchmarks/bench_fit.py [--out DIR] [--steps N]

Makes the demo's six torsos, serves them by `augserver serve`, and runs augtrain's own example, which validates on two of them. Both share
this machine's cores, as in the demo. Prints one line of figures; DIR keeps the run with its pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import augtrain

from augserver.ingest.torso_phantom import CLASSES, make_torso
from augserver.store import DatasetWriter

EXAMPLE = Path(augtrain.__path__[0]) / "fit" / "examples" / "torsos.toml"
TORSOS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "torsos.zarr"
        with DatasetWriter(path, modality="ct", classes=CLASSES) as writer:
            for seed in range(TORSOS):
                torso = make_torso(seed)
                writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {"seed": seed})
            writer.finish()
        serve = [*_python("augserver.cli"), "serve", str(path), "--address", "127.0.0.1:0"]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().split()[2]
                _run(address, options.out or Path(folder) / "run", options.steps)
            finally:
                server.terminate()


def _run(address: str, out: Path, steps: int | None) -> None:
    command = [*_python("augtrain.cli"), "fit", str(EXAMPLE), "--server", address, "--out", str(out), "--json"]
    begin, cpu_before = time.perf_counter(), os.times()
    done = subprocess.run([*command, *(["--steps", str(steps)] if steps else [])], stdout=subprocess.PIPE, check=True)
    seconds, cpu_after = time.perf_counter() - begin, os.times()
    cpu_s = cpu_after.children_user + cpu_after.children_system - cpu_before.children_user - cpu_before.children_system
    result = json.loads(done.stdout)
    dice = "  ".join(f"{name} {value:.3f}" for name, value in result["best"]["dice"].items())
    print(
        f"{result['steps']} steps in {seconds:.0f} s ({cpu_s:.0f} s of CPU in the trainer), {1e3 * result['step_s']:.0f} ms a step, "
        f"{100 * result['wait_share']:.2f} % of it waiting for data ({result['transport']}); "
        f"mean organ Dice {result['best']['mean_dice']:.3f} at step {result['best']['step']}  ({dice})"
    )


def _python(module: str) -> list[str]:
    return [sys.executable, "-P", "-c", f"from {module} import main; main()"]


if __name__ == "__main__":
    main()
