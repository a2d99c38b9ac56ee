"""The pinned versions of the images: complete, and allowed by pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "docker" / "pins"


def pinned(*names: str) -> dict[str, str]:
    """Package -> version."""
    found: dict[str, str] = {}
    for name in names:
        for line in (PINS / f"{name}.txt").read_text().splitlines():
            if not line.startswith("#"):
                package, _, version = line.partition("==")
                assert canonicalize_name(package) not in found, line
                found[canonicalize_name(package)] = version
    return found


def project(path: str) -> tuple[list[str], dict[str, list[str]]]:
    """What it requires, and what its extras do."""
    table = tomllib.loads((ROOT / path).read_text())["project"]
    return table["dependencies"], table["optional-dependencies"]


def server_requirements() -> list[str]:
    required, extras = project("pyproject.toml")
    return [each for each in required if not each.startswith("augserver-client")] + extras["web"] + extras["otel"] + client_requirements()


def client_requirements() -> list[str]:
    return project("client/pyproject.toml")[0]


@pytest.mark.parametrize(
    ("required", "files"),
    [
        (server_requirements(), ("server", "ingest")),
        (project("pyproject.toml")[1]["cuda"], ("cuda",)),
        ([*client_requirements(), *project("client/pyproject.toml")[1]["train"], "tensorflow>=2.18"], ("trainer",)),
        (tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"], ("build",)),
    ],
    ids=["server", "cuda", "trainer", "build"],
)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(required: list[str], files: tuple[str, ...]) -> None:
    versions = pinned(*files)
    assert required
    for each in map(Requirement, required):
        assert each.specifier.contains(versions[canonicalize_name(each.name)]), each


def test_every_line_pins_one_version() -> None:
    files = list(PINS.iterdir())
    assert len(files) == 5
    for path in files:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(line.count("==") == 1 and " " not in line for line in lines), path


def test_server_and_trainer_speak_with_the_same_grpc() -> None:
    assert {name: pinned("server")[name] for name in ("grpcio", "protobuf")} == {
        name: pinned("trainer")[name] for name in ("grpcio", "protobuf")
    }
