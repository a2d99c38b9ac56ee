"""The images as tests/docker/build.sh built them: what is in them, and that they serve, locked up as far as containers go."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import trustme
from augclient import Recipe, TlsConfig, connect
from augclient.errors import AuthError, UnavailableError

pytestmark = pytest.mark.slow

MB = 1_000_000
USER = 10001
RECIPE = {"crop": {"mode": "uniform"}, "affine": {"rotate_deg": 20.0}, "noise": {"std": [1.0, 5.0]}}
HOW: dict[str, Any] = {"patch": (12, 24, 20), "batch_size": 3, "seed": 4}
HEALTH = ("python", "/opt/augserver/health.py")
TRAINER = """
import hashlib, json, os, sys
from augclient import Recipe, connect
print(json.dumps([os.getpid(), os.getuid()]), flush=True)
with connect(sys.argv[1]) as server:
    for batch in server.stream(Recipe.from_dict(json.loads(sys.argv[2])), steps=5, transport="local", **json.loads(sys.argv[3])):
        print(hashlib.sha256(batch.image.tobytes() + batch.label.tobytes()).hexdigest(), flush=True)
"""


def size_of(root: Path) -> int:
    """Bytes of all files, hard links once; what is mounted there is not the image's."""
    files = {(each.st_dev, each.st_ino): each.st_size for each in stats_of(root)}
    return sum(files.values())


def stats_of(root: Path) -> Iterator[os.stat_result]:
    for folder, _, names in os.walk(root):
        if Path(folder) != root / "proc" and not Path(folder).is_relative_to(root / "proc"):
            yield from (Path(folder, name).lstat() for name in names)


def digest(batch: Any) -> str:
    return hashlib.sha256(batch.image.tobytes() + batch.label.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def scans(open_to_user: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three NIfTI scans of seeded noise with labels, which the container's user can read."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, shape in enumerate([(57, 41, 18), (43, 52, 19), (51, 43, 20)]):  # x, y, z
        rng = np.random.default_rng(seed)
        affine = np.diag([0.5, 1.0, 3.0, 1.0])
        for name, voxels in (("image", rng.integers(-1000, 1500, shape, np.int16)), ("label", rng.integers(0, 3, shape, np.uint8))):
            (folder / name).mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / name / f"case_{seed}.nii.gz")  # type: ignore[attr-defined]
    open_to_user(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(run: Callable[..., Any], scans: Path, open_to_user: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image that ingests made of the scans."""
    out = tmp_path_factory.mktemp("data")
    open_to_user(out)
    command = ("ingest", "/scans/image", "--labels", "/scans/label", "--out", "/data/ct.zarr", "--json")
    container = run("ingest", *command, mounts={"/scans": scans, "/data": out}, writable=("/data",))
    said, _ = container.process.communicate(timeout=120)
    assert container.wait() == 0, container.log.read_text()
    assert {each["id"] for each in json.loads(said)["volumes"]} == {"case_0", "case_1", "case_2"}
    return out / "ct.zarr"


@pytest.fixture(scope="module")
def serve(run: Callable[..., Any], dataset: Path) -> Callable[..., tuple[Any, str]]:
    """A server in a container, and its address."""

    def start(*arguments: str, mounts: Mapping[str, Path] | None = None, writable: tuple[str, ...] = ()) -> tuple[Any, str]:
        command = ("serve", "/dataset", "--backend", "cpu", "--threads", "1", "--address", "127.0.0.1:0", *arguments)
        container = run("server", *command, mounts={"/dataset": dataset, **(mounts or {})}, writable=writable)
        line = container.read_line()
        assert line.startswith("serving on "), container.log.read_text()
        return container, line.split()[2]

    return start


@pytest.fixture(scope="module")
def truth(dataset: Path) -> list[str]:
    """Digests of the first five batches, of a server outside."""
    command = [sys.executable, "-P", "-c", "from augserver.cli import main; main()", "serve", str(dataset), "--address", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--backend", "cpu", "--threads", "1"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with connect(process.stdout.readline().split()[2]) as server:
                return [digest(batch) for batch in server.stream(Recipe.from_dict(RECIPE), steps=5, transport="grpc", **HOW)]
        finally:
            process.terminate()


def test_the_images_weigh_what_the_readme_says(images: Mapping[str, Any], base: Path) -> None:
    above = {target: (size_of(image.rootfs) - size_of(base)) / MB for target, image in images.items()}
    readme = (Path(__file__).resolve().parents[2] / "docker" / "README.md").read_text()
    stated = {row: int(size) for row, size in re.findall(r"^\| .*?(server-cpu|ingest|trainer)\b.* (\d+) MB \|$", readme, re.M)}
    said = {"server": stated["server-cpu"], "ingest": stated["ingest"], "trainer": stated["trainer"]}
    assert above == pytest.approx(said, rel=0.05)
    assert said["server"] < 400


def test_nothing_in_the_image_compiles_or_installs(images: Mapping[str, Any]) -> None:
    tools = re.compile(r"(.*-)?(gcc|g\+\+|c\+\+|cc|clang|as|ld|make|cmake|ninja|nvcc|pip3?|buildah)(-?[\d.]+)?")
    assert images
    for image in images.values():
        names = [each.name for folder in ("usr/bin", "usr/local/bin", "opt/*/bin") for each in image.rootfs.glob(f"{folder}/*")]
        assert len(names) > 100
        assert [name for name in names if tools.fullmatch(name)] == []


def test_nothing_of_how_pip_was_set_up_stays(images: Mapping[str, Any]) -> None:
    settings = Path(os.environ["AUGSERVER_IMAGES"], "pip.conf").read_text()
    paths = {word.removeprefix("file://") for word in settings.split() if word.startswith(("file://", "/opt/"))}
    named = {word.encode() for word in settings.split() if "://" in word} | {path.encode() for path in paths}
    assert images
    for target, image in images.items():
        assert not list(image.rootfs.glob("etc/pip*"))
        assert not list(image.rootfs.glob("run/secrets"))
        assert {each.name for each in (image.rootfs / "opt").iterdir()} <= {"augserver", "augserver-ingest", "augtrain"}
        described = Path(os.environ["AUGSERVER_IMAGES"], target, "image.json").read_bytes()
        assert not [each for each in named if each in described]
        for folder, _, names in os.walk(image.rootfs / "opt"):
            for path in (Path(folder, name) for name in names):
                if not path.is_symlink() and path.stat().st_size < MB:
                    data = path.read_bytes()
                    assert not [each for each in named if each in data], path


def test_a_client_outside_gets_the_bytes_of_a_server_outside(serve: Callable[..., Any], truth: list[str]) -> None:
    container, address = serve()
    assert container.execute(*HEALTH, address).returncode == 0
    with connect(address) as server:
        got = [digest(batch) for batch in server.stream(Recipe.from_dict(RECIPE), steps=5, transport="grpc", **HOW)]
    assert got == truth
    assert len(set(got)) == 5


def test_a_stop_signal_ends_the_batch_in_flight_and_then_the_server(serve: Callable[..., Any], images: Mapping[str, Any]) -> None:
    container, address = serve()
    with connect(address) as server:
        stream = server.stream(Recipe.from_dict(RECIPE), transport="grpc", **HOW)
        before = digest(next(stream))
        container.signal(images["server"].config["StopSignal"])
        assert container.wait() == 0
        assert len(before) == 64
        stream.close()
    refused = run_health_outside(address)
    assert refused.returncode == 1
    assert "UNAVAILABLE" in refused.stderr
    assert "Traceback" not in container.log.read_text()


def run_health_outside(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).resolve().parents[2] / "docker" / "health.py"
    return subprocess.run([sys.executable, "-P", str(script), *arguments], capture_output=True, text=True, timeout=60)


def test_two_containers_that_share_a_folder_share_memory(
    serve: Callable[..., Any],
    run: Callable[..., Any],
    open_to_user: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
    truth: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("local")
    sockets, config = folder / "sockets", folder / "server.toml"
    sockets.mkdir(mode=0o700)
    config.write_text('[local]\nmode = "on"\nfolder = "/run/augserver"\n')
    open_to_user(folder)
    shared = {"/run/augserver": sockets}
    _, address = serve("--config", "/run/server.toml", mounts={**shared, "/run/server.toml": config}, writable=("/run/augserver",))
    arguments = (TRAINER, address, json.dumps(RECIPE), json.dumps(HOW))
    trainer = run("server", "-c", *arguments, entrypoint=("python",), mounts=shared, writable=("/run/augserver",))
    assert json.loads(trainer.read_line()) == [1, USER]  # alone, and not root
    assert [trainer.read_line().strip() for _ in range(5)] == truth, trainer.log.read_text()
    assert trainer.wait() == 0


def test_tls_and_tokens_hold_in_a_container(
    serve: Callable[..., Any], run: Callable[..., Any], open_to_user: Callable[..., None], tmp_path: Path, truth: list[str]
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("scans.example", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    maker = run("server", "token", "trainer-a", mounts={})
    entry, _ = maker.process.communicate(timeout=60)
    token = maker.log.read_text().split()[-1]
    (tmp_path / "tokens.toml").write_text(entry)
    open_to_user(tmp_path)
    keys = "/run/keys"
    options = ("--tls-cert", f"{keys}/cert.pem", "--tls-key", f"{keys}/key.pem", "--token-file", f"{keys}/tokens.toml")
    container, address = serve(*options, mounts={keys: tmp_path})

    assert container.execute(*HEALTH, address).returncode == 1
    assert container.execute(*HEALTH, address, "--tls-ca", f"{keys}/ca.pem", "--tls-name", "scans.example").returncode == 0
    trusted = TlsConfig(ca=tmp_path / "ca.pem")
    with connect(address, tls=trusted, token=token) as server:
        assert digest(next(server.stream(Recipe.from_dict(RECIPE), transport="grpc", **HOW))) == truth[0]
    with pytest.raises(AuthError), connect(address, tls=trusted) as server:
        server.dataset()
    with pytest.raises(UnavailableError), connect(address) as server:
        server.dataset()


def test_the_image_that_serves_says_which_one_reads_scans(run: Callable[..., Any], scans: Path) -> None:
    container = run("server", "ingest", "/scans/image", "--out", "/tmp/ct.zarr", mounts={"/scans": scans})
    container.process.communicate(timeout=60)
    assert container.wait() != 0
    said = container.log.read_text()
    assert said.startswith("augserver: reading scans needs SimpleITK")
    assert said.count("\n") == 1


def test_doctor_finds_all_that_a_server_needs(run: Callable[..., Any]) -> None:
    container = run("server", "doctor", "--json", mounts={})
    said, _ = container.process.communicate(timeout=60)
    assert container.wait() == 0
    assert json.loads(said)["cpu"] is True
