"""What the contract says in numbers and names stands in one place; the C++ header, which cannot import it, says the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from augclient import contract
from augclient.nearest import nearest

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in vars(contract) if name.isupper()]


def test_no_other_module_declares_what_the_contract_does() -> None:
    declared = []
    for path in [*(ROOT / "augserver").rglob("*.py"), *(ROOT / "client").rglob("*.py")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for target in node.targets if isinstance(node, ast.Assign) else ():
                if isinstance(target, ast.Name) and target.id.lstrip("_") in NAMES:
                    declared.append((path.name, target.id))
    assert sorted(declared) == sorted(("contract.py", name) for name in NAMES)
    assert len(declared) >= 6


def test_the_kernels_header_has_room_for_as_many_channels() -> None:
    assert re.findall(r"MAX_CHANNELS = (\d+);", (ROOT / "cuda" / "params.h").read_text()) == [str(contract.MAX_CHANNELS)]


def test_the_nearest_name() -> None:
    assert nearest("rotat_deg", ["scale", "rotate_deg"]) == "rotate_deg"
    assert nearest("liver", ["kidney", "spleen"]) is None
    assert nearest("liver", ["kidney", "spleen"], least=0) in ("kidney", "spleen")
    assert nearest("liver", []) is None
