"""The issue's own measure, in the shape that fits a test: the torsos' organs learnt from scratch through a running server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import augtrain
import pytest
from augtrain.fit import FitConfig, fit

EXAMPLE = Path(augtrain.__path__[0]) / "fit" / "examples" / "torsos.toml"


@pytest.fixture(scope="module")
def torso_server(write_torsos: Callable[..., Path]) -> Iterator[str]:
    """`augserver serve` in a process of its own on seven torsos of 3 mm, as the demo makes them."""
    serve = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve"]
    command = [*serve, str(write_torsos(7)), "--address", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--backend", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[2]
        process.terminate()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_example_learns_six_classes_in_two_hundred_steps_without_waiting_for_data(torso_server: str, tmp_path: Path) -> None:
    """About 60 s of CPU time; the full example, which trains on four torsos, is measured by tests/benchmarks/bench_fit.py."""
    changes = {"server": torso_server, "out": str(tmp_path / "run"), "steps": 200, "validation": {"volumes": ["torso_6"]}}
    result = fit(FitConfig.load(EXAMPLE, changes))
    assert result.best is not None
    assert result.best.mean_dice is not None
    assert result.best.mean_dice > 0.80
    assert result.wait_share is not None
    assert result.wait_share < 0.05
