"""`augserver bench`: how fast this machine is, stage by stage beside SciPy, what limits it, and whether that is enough."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from augserver.backends import BACKEND_CHOICES

if TYPE_CHECKING:
    from augserver.cli.bench_stages import Workload

TORSOS = 4
_SAME = 0.85  # a stage that reaches this part of the one before it is not what limits
_LABELS = {
    "scipy": "SciPy, every core",
    "store": "store: decoding",
    "kernel": "kernel alone",
    "pipeline": "pipeline, in process",
    "grpc": "to a client, gRPC",
    "local": "to a client, shared memory",
}


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path), required=False, metavar="[DS.zarr]")
@click.option("--patch", default="", help="Z,Y,X voxels of a sample.  [default: 96,96,96, or less where a volume is smaller]")
@click.option("--batch-size", type=click.IntRange(1, 256), default=4, show_default=True, help="Samples of a batch.")
@click.option("--recipe", "recipe_path", type=click.Path(path_type=Path), help="TOML.  [default: all four operations]")
@click.option("--step-ms", type=click.FloatRange(min=0.01), help="How long your trainer takes for one batch: is this machine enough?")
@click.option("--seconds", type=click.FloatRange(0.05, 60.0), default=2.0, show_default=True, help="How long each stage is timed.")
@click.option("--backend", type=click.Choice(BACKEND_CHOICES), default="auto", show_default=True, help="What computes.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def bench(
    dataset: Path | None,
    patch: str,
    batch_size: int,
    recipe_path: Path | None,
    step_ms: float | None,
    seconds: float,
    backend: str,
    as_json: bool,
) -> None:
    """Measure this machine on DS.zarr, or on synthetic torsos: volumes per second of every stage, one after the other.

    Everything it says of enough or not enough follows from these numbers; nothing is looked up.
    """
    with _dataset(dataset) as path:
        workload = _workload(path, patch, batch_size, recipe_path, seconds)
        description, rates = _measure(workload, backend, quiet=as_json)
    report = summarize(rates, patch=workload.patch, batch_size=batch_size, step_ms=step_ms)
    if as_json:
        click.echo(json.dumps({"backend": description, **report}, indent=1))
    else:
        _print(description, report)


def summarize(rates: Mapping[str, float], *, patch: tuple[int, int, int], batch_size: int, step_ms: float | None) -> dict[str, Any]:
    """What the rates mean.

    Args:
        rates: stage -> volumes/s; "scipy", "store", "kernel", "pipeline", "grpc" and "local".
        patch, batch_size: of the samples.
        step_ms: of the trainer, for one batch; None: not known.
    Returns:
        JSON-able: "stages" (stage -> volumes_per_s, ms_per_volume, times_scipy), "limits" (road -> the stage that limits it),
        "fed_step_ms" (road -> the shortest step that it can feed), "advice".
    """
    stages = {
        stage: {"volumes_per_s": rate, "ms_per_volume": 1000 / rate, "times_scipy": None if stage == "store" else rate / rates["scipy"]}
        for stage, rate in rates.items()
    }
    made_by = "kernel" if rates["pipeline"] >= _SAME * rates["kernel"] else "pipeline"
    limits = {road: made_by if rates[road] >= _SAME * rates["pipeline"] else road for road in ("local", "grpc")}
    fed = {road: 1000 * batch_size / rates[road] for road in ("local", "grpc")}
    report = {"patch": list(patch), "batch_size": batch_size, "stages": stages, "limits": limits, "fed_step_ms": fed}
    return {**report, "advice": _advise(rates, fed, batch_size, step_ms)}


def _advise(rates: Mapping[str, float], fed: Mapping[str, float], batch_size: int, step_ms: float | None) -> str:
    if step_ms is None:
        return (
            f"this machine feeds a trainer on it whose step takes {fed['local']:.0f} ms or more for {batch_size} volumes, and one that it "
            f"reaches over gRPC from {fed['grpc']:.0f} ms on; --step-ms says whether yours is one of them"
        )
    needed = 1000 * batch_size / step_ms
    asked = f"a step of {step_ms:g} ms needs {needed:.1f} volumes/s"
    if rates["local"] >= needed:
        share = needed / rates["local"]
        return f"{asked}, which is {share:.0%} of what this machine makes: it is enough, and a GPU node would gain nothing for this trainer"
    if rates["kernel"] >= needed:
        return (
            f"{asked}; the kernel alone makes {rates['kernel']:.1f}, but only {rates['local']:.1f} reach a trainer that shares its "
            "cores: give one of the two a machine of its own"
        )
    servers = math.ceil(needed / rates["kernel"])
    return (
        f"{asked}, and this machine makes {rates['kernel']:.1f}: it is not enough. {servers} servers like it would be, or a GPU node: run "
        "`augserver bench` there to see"
    )


def _print(description: str, report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    patch = " x ".join(map(str, report["patch"]))
    table = Table(title=f"{description}; {report['batch_size']} volumes of {patch} voxels a batch, float32", title_justify="left")
    table.add_column("stage")
    for heading in ("volumes/s", "ms each", "x SciPy"):
        table.add_column(heading, justify="right")
    for stage, each in report["stages"].items():
        times = "" if each["times_scipy"] is None else f"{each['times_scipy']:.1f}"
        table.add_row(_LABELS[stage], f"{each['volumes_per_s']:.1f}", f"{each['ms_per_volume']:.1f}", times)
    console.print(table)
    here, there = (_LABELS[report["limits"][road]] for road in ("local", "grpc"))
    click.echo(f"limited by: {here} for a trainer on this host; {there} for one over a network as fast as loopback")
    click.echo(report["advice"])


@contextlib.contextmanager
def _dataset(path: Path | None) -> Iterator[Path]:
    """The dataset to measure on; torsos in a folder that is removed, where none was named."""
    if path is not None:
        yield path
        return
    from augserver.ingest.torso_phantom import CLASSES, make_torso
    from augserver.store import DatasetWriter

    with tempfile.TemporaryDirectory(prefix="augserver-bench-") as folder:
        made = Path(folder) / "torsos.zarr"
        with DatasetWriter(made, modality="ct", classes=CLASSES) as writer:
            for seed in range(TORSOS):
                torso = make_torso(seed)
                writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {})
            writer.finish()
        yield made


def _workload(path: Path, patch: str, batch_size: int, recipe_path: Path | None, window_s: float) -> Workload:
    """Checked before anything is timed: AugError."""
    from augclient import Recipe

    from augserver.cli.bench_stages import Workload
    from augserver.errors import ConfigError
    from augserver.store import Dataset

    dataset = Dataset.open(path)
    smallest = [min(dataset.info(name).shape[1 + axis] for name in dataset.volumes) for axis in range(3)]
    window = {"low": [-350, -200], "high": [300, 600]} if dataset.modality == "ct" else {"low": 0, "high": [500, 2000]}
    recipe = (
        Recipe.load(recipe_path)
        if recipe_path
        else Recipe(
            crop={"mode": "uniform"},
            affine={"rotate_deg": [-15, 15], "scale": [0.85, 1.15]},
            occlude={"max_voxels": 30},
            noise={"std": [5, 50]},
            window=window,
        )
    )
    sizes = tuple(patch.split(",")) if patch else tuple(str(min(96, size)) for size in smallest)
    if len(sizes) != 3 or not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise ConfigError(f"--patch must be three sizes in voxels such as 96,96,96, got {patch!r}")
    z, y, x = (int(size) for size in sizes)
    workload = Workload(path=path, recipe=recipe, patch=(z, y, x), batch_size=batch_size, window_s=window_s)
    workload.plan(dataset)
    return workload


def _measure(workload: Workload, backend_name: str, *, quiet: bool) -> tuple[str, dict[str, float]]:
    from rich.console import Console
    from rich.progress import Progress

    from augserver.cli import bench_stages
    from augserver.cli.processes.child_server import child_server
    from augserver.kernel import open_backend

    with Progress(console=Console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task("", total=len(_LABELS))

        def begin(stage: str) -> None:
            progress.update(task, description=_LABELS[stage], advance=1 if rates else 0)

        rates: dict[str, float] = {}
        begin("scipy")
        rates["scipy"] = bench_stages.time_scipy(workload)
        begin("store")
        rates["store"] = bench_stages.time_store(workload)
        with contextlib.closing(open_backend(backend_name)) as backend:
            description = backend.description
            begin("kernel")
            rates["kernel"] = bench_stages.time_kernel(workload, backend)
            begin("pipeline")
            rates["pipeline"] = bench_stages.time_pipeline(workload, backend)
        with (
            tempfile.TemporaryDirectory(prefix="augserver-bench-") as folder,
            child_server(workload.path, Path(folder) / "server.log", options=("--backend", backend_name)) as ready,
        ):
            for road in ("grpc", "local"):
                begin(road)
                rates[road] = bench_stages.time_road(workload, ready.address, road)
    return description, rates
