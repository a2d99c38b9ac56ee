"""What the documents tell their readers to type is run: here, or by the test that the table names. What is in no table fails.

client/README.md and docker/README.md have tests of their own (OWN_TESTS); links, options and names of files are held for every document.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import augclient
import click
import numpy as np
import pytest

from augserver.augment import compile_recipe
from augserver.config import LimitConfig, parse_config

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "augserver/README.md", "proto/README.md", "docker/kubernetes/README.md")
OWN_TESTS = {"client/README.md": "tests/train/readme", "docker/README.md": "tests/docker/test_readme.py"}
FURTHER = ("augserver/transport/README.md", "tests/cuda_fake/README.md", "tests/benchmarks/RESULTS.md")
EVERY = [name for name in (*DOCUMENTS, *OWN_TESTS, *FURTHER) if (ROOT / name).is_file()]
PROGRAMS = ("augserver", "augtrain", "make", "pip", "python", "kubectl", "docker", "proto/generate.sh")
MANY_WORDS = 3  # `augserver bench` in a sentence is a name; with an argument it is something to type
ADDRESS = "127.0.0.1:50051"


# How a command is known to work.


@dataclass(frozen=True)
class Runs:
    """Run as it stands, in the workshop or the repository; ends with 0 and says `prints`."""

    prints: str = ""
    leaves: str = ""
    in_repository: bool = False


@dataclass(frozen=True)
class Serves:
    """Run as it stands but for its ports; a client connects, and its log says `logs`."""

    logs: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """What runs it, FILE::TEST; or, where a test machine lacks what it needs, what comes nearest."""

    test: str
    lacks: str = ""


HERE = "tests/docs/test_readmes.py"
ON_A_CLUSTER = Elsewhere("tests/docker/test_kubernetes.py::test_every_object_follows_the_schema_without_unknown_fields", lacks="a cluster")
COMMANDS: dict[str, Runs | Serves | Elsewhere] = {
    "make demo": Elsewhere("tests/cli/test_demo.py::test_a_run_leaves_a_dataset_and_a_picture_and_prints_the_figures"),
    "make test": Elsewhere(f"{HERE}::test_the_two_commands_set_themselves_up", lacks="the time: it is this very suite"),
    "make generate": Elsewhere(f"{HERE}::test_a_command_does_what_it_says", lacks="leave to write here: --check compares"),
    "augserver ingest scans/ --out ct.zarr --labels labels/ --spacing-mm 3 --classes classes.toml": Runs("torso_1"),
    "augserver info ct.zarr": Runs("fingerprint"),
    "augserver serve ct.zarr --address 127.0.0.1:50051": Serves("backend: cpu"),
    "augserver label ct.zarr --organs lungs,bone --pictures look/": Elsewhere(
        "tests/labels/test_label_command.py::test_organs_go_under_their_names_where_the_label_is_background"
    ),
    "augserver preview ct.zarr --recipe recipe.toml --out sheet.png": Runs("sheet.png: volume torso_0", leaves="sheet.png"),
    "augserver serve ct.zarr --http 127.0.0.1:8080": Serves(r"page: http://127\.0\.0\.1:\d+/"),
    "augserver token trainer-a >> tokens.toml": Runs("shown only here", leaves="tokens.toml"),
    "augserver serve ct.zarr --address 0.0.0.0:50051 --tls-cert server.pem --tls-key server.key --token-file tokens.toml": Elsewhere(
        f"{HERE}::test_python_connects_by_tls_with_the_token_that_was_shown"
    ),
    "augserver doctor": Runs("server on the CPU: works"),
    "augserver bench ct.zarr --step-ms 250": Elsewhere("tests/cli/test_bench.py::test_every_stage_is_measured_and_nothing_is_left"),
    "augserver serve ct.zarr --metrics-port 9090 --log-format json": Elsewhere(
        "tests/cli/test_logs.py::test_every_line_of_a_server_is_json_when_asked_and_metrics_are_where_it_says"
    ),
    'pip install "augserver[cuda]"': Elsewhere(f"{HERE}::test_extras_exist", lacks="a CUDA toolkit and an index"),
    'pip install "augserver[otel]"': Elsewhere(f"{HERE}::test_extras_exist", lacks="an index of packages"),
    "augserver build-kernels": Elsewhere(
        "tests/kernel/test_cuda_fatbin.py::test_build_kernels_writes_where_it_is_told_and_says_how_a_server_finds_it"
    ),
    "augserver serve ct.zarr --devices cuda:0,cuda:1": Elsewhere(
        "tests/web/test_serve_command.py::test_with_devices_every_process_has_a_page_of_its_own", lacks="two GPUs"
    ),
    "augserver ray ct.zarr --replicas 3 --gpus-per-replica 1 --insecure": Elsewhere(
        "tests/e2e/test_ray.py::test_a_stream_outlives_a_killed_replica_and_the_cluster_leaves_nothing", lacks="three GPUs"
    ),
    "kubectl apply -k docker/kubernetes/gpu": ON_A_CLUSTER,
    "kubectl apply -k docker/kubernetes/cpu": ON_A_CLUSTER,
    "kubectl scale statefulset augserver --replicas 5": ON_A_CLUSTER,
    "python -m grpc_tools.protoc -I proto/augclient/wire/v1 --python_out=. --grpc_python_out=. augserver.proto": Elsewhere(
        f"{HERE}::test_python_of_a_generated_client_reads_the_same_numbers"
    ),
    "proto/generate.sh --check": Runs("generated code is current", in_repository=True),
}


def fences(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [body for found, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if found == language]


def split_prose(text: str) -> tuple[str, list[str]]:
    """A document without its fences and indented blocks, and the indented blocks."""
    rest = re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.M | re.S)
    indented = r"(?<=\n\n)(?:    .*\n)+"
    return re.sub(indented, "", rest), re.findall(indented, rest)


def mentions(text: str) -> list[str]:
    """Programs with their arguments, inside of sentences."""
    return [each for each in re.findall(r"`([^`\n]+)`", split_prose(text)[0]) if each.split(" ")[0] in PROGRAMS]


def commands(text: str) -> list[str]:
    """What to type, without comments: indented blocks, blocks of a shell, and what stands in sentences."""
    blocks = "\n".join([*split_prose(text)[1], *fences(text, "sh"), *fences(text, "console")])
    typed = [" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in blocks.replace("\\\n", " ").splitlines()]
    return [line for line in typed if line] + [each for each in mentions(text) if len(each.split()) >= MANY_WORDS]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


TYPED = {command for name in DOCUMENTS for command in commands(read(name))}
BLOCKS = {name: fences(read(name), "python") for name in DOCUMENTS}


def test_every_command_is_in_the_table_and_the_table_holds_no_other() -> None:
    assert TYPED ^ COMMANDS.keys() == set()
    assert {name for name in OWN_TESTS if not (ROOT / OWN_TESTS[name]).exists()} == set()


@pytest.mark.parametrize("how", [each for each in COMMANDS.values() if isinstance(each, Elsewhere)], ids=str)
def test_what_is_run_elsewhere_is_run_there(how: Elsewhere) -> None:
    file, _, test = how.test.partition("::")
    assert f"def {test}(" in read(file)


@pytest.mark.parametrize("name", EVERY)
def test_links_and_named_files_exist(name: str) -> None:
    prose = split_prose(read(name))[0]
    links = [each.partition("#")[0] for each in re.findall(r"\]\(([^)\s]+)\)", prose)]
    assert [each for each in links if each and "://" not in each and not (ROOT / name).parent.joinpath(each).exists()] == []
    named = re.findall(r"`([\w./-]+\.(?:py|sh|cpp|proto|js))`", prose)
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = tracked.splitlines() or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.*")]  # an archive has no git
    assert [each for each in named if not any(f"/{file}".endswith(f"/{each.removeprefix('../')}") for file in files)] == []


def test_every_mention_of_our_commands_is_one_that_they_take() -> None:
    lines = [line for name in EVERY for line in [*commands(read(name)), *mentions(read(name))]]
    ours = [line for line in lines if line.split()[0] in ("augserver", "augtrain") and len(line.split()) > 1]
    assert len(ours) > 30
    for line in ours:
        program, *words = line.split()
        package = importlib.import_module(f"{program}.cli")
        group = getattr(package, program)
        command = group.get_command(click.Context(group), words[0])
        assert command is not None, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
        assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} <= known, line


def test_extras_exist() -> None:
    named = [(name, *each) for name in EVERY for each in re.findall(r"(augserver(?:-client)?)\[([\w,-]+)\]", read(name))]
    assert len(named) > 3
    for name, package, extras in named:
        project = tomllib.loads(read("client/pyproject.toml" if package == "augserver-client" else "pyproject.toml"))
        assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys(), (name, extras)


def test_the_first_screen_is_a_sentence_a_picture_two_commands_and_six_lines() -> None:
    text = read("README.md").partition("\n## ")[0]
    title, sentence, picture, typed, *_ = text.split("\n\n")
    assert title == "# augserver"
    assert re.fullmatch(r"[A-Z][^\n]*\.", sentence)
    assert picture.startswith("![")
    assert [line.partition("#")[0].strip() for line in typed.splitlines()] == ["make demo", "make test"]
    [code] = fences(text, "python")
    assert len([line for line in code.splitlines() if line]) <= 6


def test_the_two_commands_set_themselves_up() -> None:
    # without what a `make` that runs these tests hands down
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "PYTEST")}
    for target, last in (("demo", "augserver demo"), ("test", "pytest -n 2 --dist loadfile")):
        command = ["make", "-n", "-B", "--no-print-directory", target]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
        assert "-m venv .venv" in done.stdout
        assert re.search(r"pip install .* \./client ", done.stdout)
        assert done.stdout.splitlines()[-1] == f".venv/bin/{last}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_settings_are_a_recipe_or_a_config(name: str) -> None:
    for block in fences(read(name), "toml"):
        document = tomllib.loads(block)
        if document.keys() <= set(augclient.Recipe().proto.DESCRIPTOR.fields_by_name):
            compile_recipe(augclient.Recipe.from_dict(document).proto, modality="ct", classes={})
        else:
            parse_config(document)


def test_the_layers_drawn_are_those_that_import_linter_holds() -> None:
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layered = [each for each in contracts if each["type"] == "layers"]
    assert len(layered) == 3
    for contract in layered:
        [package] = contract["containers"]
        [drawn] = [line for line in fences(read("augserver/README.md"), "text")[0].splitlines() if line.startswith(package)]
        spec = importlib.util.find_spec(package)
        assert spec is not None
        [folder] = spec.submodule_search_locations or ()
        there = [[each for each in re.findall(r"\w+", layer) if list(Path(folder).glob(f"{each}*"))] for layer in contract["layers"]]
        assert [re.findall(r"\w+", layer) for layer in drawn.removeprefix(package).split(">")] == there


def test_the_sizes_of_messages_are_the_defaults() -> None:
    limits = LimitConfig()
    rows = [line for line in read("proto/README.md").splitlines() if "| `limits." in line]
    assert len(rows) == 4
    for row in rows:
        _, _, size, keys, _ = row.split("|")
        said = [float(number) * {"K": 1 << 10, "M": 1 << 20}[unit] for number, unit in re.findall(r"([\d.]+) ([KM])iB", size)]
        wanted = [getattr(limits, key) for key in re.findall(r"`limits\.(\w+)`", keys)]
        assert said[: len(wanted)] == wanted


@pytest.fixture(scope="module")
def ingested(workshop: Any) -> str:
    """What `augserver ingest` of the README said, when it made the dataset of the others."""
    [command] = [each for each in COMMANDS if each.startswith("augserver ingest")]
    done = workshop.run(command)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def address(workshop: Any, ingested: str) -> Any:
    """The server of the README's first `augserver serve`."""
    with workshop.serving("augserver serve ct.zarr") as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each, how in COMMANDS.items() if isinstance(how, Runs)])
def test_a_command_does_what_it_says(workshop: Any, ingested: str, command: str) -> None:
    how = COMMANDS[command]
    if command.startswith("augserver ingest"):
        said = ingested
    else:
        done = workshop.run(f"cd '{ROOT}' && {command}" if how.in_repository else command)
        assert done.returncode == 0, done.stdout + done.stderr
        said = done.stdout + done.stderr
    assert how.prints in said
    assert not how.leaves or (workshop.folder / how.leaves).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each, how in COMMANDS.items() if isinstance(how, Serves)])
def test_a_server_answers(workshop: Any, ingested: str, command: str) -> None:
    with workshop.serving(command) as address:
        with augclient.connect(address) as server:
            assert server.dataset().volumes == ("torso_0", "torso_1")
        log = (workshop.folder / "serve.log").read_text()
        said = re.search(COMMANDS[command].logs, log)
        assert said, log
        if said[0].startswith("page: "):
            with urllib.request.urlopen(said[0].removeprefix("page: "), timeout=10) as answer:
                assert answer.read().startswith(b"<!doctype html>")


class Enough(Exception):
    """Ends an endless loop of a document."""


@pytest.mark.slow
def test_python_of_the_first_screen_streams(workshop: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[Any, Any]] = []

    def train(image: Any, label: Any) -> None:
        assert (image.shape, label.shape, label.dtype) == ((4, 1, 160, 120, 120), (4, 160, 120, 120), np.uint8)
        assert 0 <= image.min() < image.max() <= 1
        got.append((image[:, :, ::9].tobytes(), label[:, ::9].tobytes()))
        if len(got) == 2:
            raise Enough

    monkeypatch.chdir(workshop.folder)
    with pytest.raises(Enough):
        exec(block(0, address), {"train": train})
    assert got[0] != got[1]


@pytest.mark.slow
def test_python_of_frameworks_has_the_axes_that_its_comments_say(workshop: Any, address: str) -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("torch")
    names: dict[str, Any] = {"recipe": augclient.Recipe.load(workshop.folder / "recipe.toml")}
    exec(block(1, address), names)
    image, label = next(iter(names["batches"]))
    assert (tuple(image.shape), tuple(label.shape)) == ((4, 96, 96, 96, 1), (4, 96, 96, 96))
    image, label = next(iter(names["patches"]))
    assert (tuple(image.shape), tuple(label.shape)) == ((4, 1, 96, 96, 96), (4, 96, 96, 96))


@pytest.mark.slow
def test_python_of_own_arrays_and_of_statistics(workshop: Any, address: str) -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(-500, 500, (40, 50, 60)).astype(np.int16), rng.integers(0, 2, (40, 50, 60)).astype(np.uint8)) for _ in range(2)]
    with augclient.connect(address) as server:
        names: dict[str, Any] = {"augclient": augclient, "server": server, "matrices": [np.eye(3, 4)] * 2, "volumes_with_labels": pairs}
        exec(BLOCKS["README.md"][2], names)
        assert names["image"].shape == names["label"].shape == (96, 96, 96)
        assert np.array_equal(names["label"][:40, :50, :60], pairs[1][1])
        recipe = augclient.Recipe.load(workshop.folder / "recipe.toml")
        with server.stream(recipe, patch=(16, 16, 16), batch_size=2, steps=4) as stream:
            assert [batch.step for batch in stream] == [0, 1, 2, 3]
            share, verdict = (eval(line, {"stream": stream}) for line in BLOCKS["README.md"][4].splitlines())
        assert 0 <= share <= 1
        assert verdict == ("data" if share > 0.05 else "trainer")


@pytest.mark.slow
def test_python_connects_by_tls_with_the_token_that_was_shown(workshop: Any, ingested: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [serve] = [each for each in COMMANDS if "--tls-cert" in each]
    shown = workshop.run("augserver token trainer-b >> tokens.toml").stderr
    monkeypatch.chdir(workshop.folder)
    monkeypatch.setenv("AUGSERVER_TOKEN", shown.split()[-1])
    with workshop.serving(serve) as address:
        names: dict[str, Any] = {"augclient": augclient, "os": os}
        exec(block(3, address, documented="gpu-node:50051"), names)
        with names["server"] as server:
            assert server.dataset().modality == "ct"
        with pytest.raises(augclient.errors.AuthError):
            augclient.connect(address, tls=augclient.TlsConfig(ca="ca.pem"))


@pytest.mark.slow
def test_python_connects_to_many_servers(workshop: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with workshop.serving("augserver serve ct.zarr") as second:
        places = {
            "10.0.0.7:50051": address,
            "10.0.0.8:50052": second,
            "dns:///augserver.default.svc.cluster.local:50051": f"dns:///{address.replace('127.0.0.1', 'localhost')}",
            **{f"augserver-{k}.augserver.default.svc:50051": (address, second, second)[k] for k in range(3)},
        }
        connected: list[Any] = []
        connect = augclient.connect

        def connect_here(where: str | list[str]) -> None:
            here = places[where] if isinstance(where, str) else list(dict.fromkeys(places[each] for each in where))
            with connect(here) as server:
                connected.append(server.dataset().volumes)

        monkeypatch.setattr(augclient, "connect", connect_here)
        for source in (BLOCKS["README.md"][5], BLOCKS["docker/kubernetes/README.md"][0]):
            exec(source, {"augclient": augclient})
        assert connected == [("torso_0", "torso_1")] * 4


@pytest.mark.slow
def test_python_of_a_generated_client_reads_the_same_numbers(workshop: Any, address: str) -> None:
    [command] = [each for each in COMMANDS if "grpc_tools" in each]
    assert workshop.run(command).returncode == 0
    (workshop.folder / "generated_client.py").write_text(BLOCKS["proto/README.md"][0].replace(ADDRESS, address))
    run = [sys.executable, "generated_client.py"]  # finds what was generated beside it
    done = subprocess.run(run, cwd=workshop.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    got = [(int(step), float(mean)) for step, mean in map(str.split, done.stdout.splitlines())]
    with augclient.connect(address) as server:
        recipe = augclient.Recipe(noise={"std": [0, 30]})
        wanted = [
            (batch.step, float(batch.image.mean())) for batch in server.stream(recipe, patch=(64, 64, 64), batch_size=2, seed=7, steps=3)
        ]
    assert [step for step, _ in got] == [0, 1, 2]
    assert all(math.isclose(a, b, rel_tol=1e-6) and s == t for (s, a), (t, b) in zip(got, wanted, strict=True))


def test_every_python_block_is_run_here() -> None:
    assert {name: len(blocks) for name, blocks in BLOCKS.items() if blocks} == {
        "README.md": 6,
        "proto/README.md": 1,
        "docker/kubernetes/README.md": 1,
    }


def block(number: int, address: str, *, documented: str = ADDRESS) -> str:
    """A block of the README, at an address of now."""
    source = BLOCKS["README.md"][number]
    assert documented in source
    return source.replace(documented, address)
