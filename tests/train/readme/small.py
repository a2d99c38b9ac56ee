"""`augserver` and `augtrain` as a README has them, on torsos of a moment's work: python -P small.py augserver demo ..."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

TORSO = ((33, 30, 35), 12.0)  # voxels, mm: the body of the demo's torsos


def run_augserver(arguments: list[str]) -> None:
    from augserver.cli import main
    from augserver.ingest import torso_phantom

    torso_phantom.make_torso.__defaults__ = TORSO
    demo = importlib.import_module("augserver.cli.demo")
    demo.PATCH, demo.WINDOW_S = (16, 16, 16), 0.1
    main(arguments)


def run_augtrain(arguments: list[str]) -> None:
    from augtrain.cli import main

    if arguments[0] == "compare":
        torso_server = importlib.import_module("augtrain.compare.torso_server")
        torso_server.augserver_command = lambda: [sys.executable, "-P", str(Path(__file__)), "augserver"]
    main(arguments)


if __name__ == "__main__":
    {"augserver": run_augserver, "augtrain": run_augtrain}[sys.argv[1]](sys.argv[2:])
