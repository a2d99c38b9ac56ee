"""The registry of backends: everything it names exists, and what chooses a backend asks it alone."""

import importlib
import re
from pathlib import Path

import pytest

from augserver.backends import BACKEND_CHOICES, BACKENDS
from augserver.errors import BackendError
from augserver.kernel import backend as kernel_backend
from augserver.kernel import open_backend

ROOT = Path(__file__).resolve().parents[2] / "augserver"


@pytest.mark.parametrize("name", BACKENDS)
def test_every_function_that_an_entry_names_is_defined(name):
    named = [each for each in (BACKENDS[name].opener, BACKENDS[name].probe, BACKENDS[name].findings) if each]
    for each in named:
        module, function = each.split(":")
        source = ROOT.parent / (module.replace(".", "/") + ".py")
        assert re.search(rf"^def {function}\(", source.read_text(), re.M), each
    assert named


def test_auto_tries_every_backend_in_order_and_ends_with_one_that_opens_everywhere(monkeypatch):
    tried = []

    def refuse(settings):
        tried.append("first")
        raise BackendError("none here")

    module = importlib.import_module("augserver.kernel.cpu")
    monkeypatch.setattr(module, "open_cuda", refuse, raising=False)
    entry = type(BACKENDS["cuda"])(name="cuda", opener="augserver.kernel.cpu:open_cuda", device_option="--cuda-devices")
    monkeypatch.setattr(kernel_backend, "BACKENDS", {"cuda": entry, "cpu": BACKENDS["cpu"]})
    backend = open_backend("auto", threads=1)
    assert (tried, backend.name) == (["first"], "cpu")
    backend.close()


def test_a_name_that_is_not_registered_is_refused_with_those_that_are():
    with pytest.raises(BackendError, match=r"'rocm' does not exist; allowed: 'auto', 'cpu', 'cuda'"):
        open_backend("rocm")
    assert BACKEND_CHOICES == ("auto", "cpu", "cuda")


def test_no_module_but_the_registry_chooses_a_backend_by_its_name():
    own = {ROOT / "backends.py", *(ROOT / "kernel" / "cuda").rglob("*.py"), ROOT / "cli" / "doctor" / "cuda_findings.py"}
    choosing = re.compile(r"""(==|!=|\bin\b)\s*\(?\s*["']cuda["']|Choice\(\[.*cuda""")
    files = [path for path in ROOT.rglob("*.py") if path not in own]
    assert len(files) > 100
    assert [path.name for path in files if choosing.search(path.read_text())] == []
