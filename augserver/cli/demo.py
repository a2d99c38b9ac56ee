"""`augserver demo`: the whole way from scans to a training loop, on synthetic torsos, in a minute or two."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from augclient import Recipe, Server
    from rich.console import Console
    from rich.progress import Progress

    from augserver.cli.bench_stages import Workload

TORSOS = 6
PATCH = (120, 96, 128)
BATCH_SIZE = 4
SEEDS = (1, 2, 3, 4, 5)
SHOWN_VOLUME = "torso_0"
WINDOW_S = 2.0  # of each timing
TRAINING_STEPS = 120

WINDOW: dict[str, Any] = {"low": [-350, -200], "high": [300, 600]}
AUGMENTATION: dict[str, Any] = {
    "affine": {"rotate_deg": [20, 10, 10], "scale": [0.85, 1.15], "shear": 0.08, "reflect": [0.0, 0.0, 0.5], "translate_mm": 15},
    "occlude": {"max_voxels": 30, "probability": 0.7},
    "noise": {"std": [0, 60]},
    "window": WINDOW,
}


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("augserver-demo"), show_default=True, help="Folder.")
@click.option("--no-train", is_flag=True, help="Leave out the training, which needs TensorFlow.")
@click.option("--steps", type=click.IntRange(min=10), default=TRAINING_STEPS, show_default=True, help="Training steps.")
def demo(out: Path, no_train: bool, steps: int) -> int:
    """See the whole thing work on synthetic torsos: stored, served, streamed, shown and trained on.

    Writes torsos.zarr (a dataset), slices.png (one patch under several seeds) and server.log into the folder, and prints the throughput.
    """
    from augclient.serving_child import count_of
    from rich.console import Console

    from augserver.cli.first_training import check_tensorflow
    from augserver.cli.processes.child_server import child_server

    if not no_train:
        check_tensorflow()
    console = Console()
    with _sigterm_unwinds():
        out.mkdir(parents=True, exist_ok=True)
        dataset = out / "torsos.zarr"
        with _progress(console) as progress:
            _write_torsos(dataset, progress)
            workload = _workload(dataset)
            kernel = _measure_kernel(workload, progress)
        with child_server(dataset, out / "server.log") as ready:
            address = ready.address
            console.print(f"serving {dataset} on {address} ({ready.computes_on}, {count_of(ready.volumes, 'volume')})")
            with _progress(console) as progress:
                wire = _show_and_measure(workload, address, out / "slices.png", progress)
            _print_throughput(console, kernel, wire)
            console.print(f"one patch under several seeds: {out / 'slices.png'}")
            if not no_train:
                _train(console, address, steps)
    return 0


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """SIGTERM leaves through the `finally` blocks, so that the server does not outlive the demo."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _write_torsos(path: Path, progress: Progress) -> None:
    """Make the dataset, or what is missing of it."""
    from augserver.ingest.torso_phantom import CLASSES, make_torso
    from augserver.store import DatasetWriter

    task = progress.add_task("making torsos", total=TORSOS, note="")
    with DatasetWriter(path, modality="ct", classes=CLASSES, preprocessing={"source": "torso phantom", "version": 1}) as writer:
        for seed in range(TORSOS):
            if not writer.has(f"torso_{seed}"):
                torso = make_torso(seed)
                writer.write(f"torso_{seed}", torso.image, torso.label, torso.spacing_mm, torso.affine, {"seed": seed})
            progress.advance(task)
        writer.finish()


def _recipe(**more: Any) -> Recipe:
    from augclient import Recipe

    return Recipe(**AUGMENTATION, **more)


def _workload(path: Path) -> Workload:
    from augserver.cli.bench_stages import Workload

    return Workload(path=path, recipe=_recipe(crop={"mode": "uniform"}), patch=PATCH, batch_size=BATCH_SIZE, window_s=WINDOW_S)


def _measure_kernel(workload: Workload, progress: Progress) -> float:
    """Volumes per second of the kernel, from memory into reused arrays."""
    from augserver.cli.bench_stages import time_kernel
    from augserver.kernel import open_backend

    task = progress.add_task("timing the kernel", total=1, note="")
    with closing(open_backend("cpu")) as backend:
        rate = time_kernel(workload, backend)
    progress.advance(task)
    return rate


def _show_and_measure(workload: Workload, address: str, picture: Path, progress: Progress) -> float:
    """Draw slices.png, then stream for a while; volumes per second of whole batches arriving here."""
    from augclient import connect

    from augserver.cli.bench_stages import time_road

    task = progress.add_task("drawing slices.png", total=1 + len(SEEDS), note="")
    with connect(address) as server:
        _draw_slices(server, picture, lambda: progress.advance(task))
    task = progress.add_task("streaming batches", total=1, note="")
    rate = time_road(workload, address, "grpc")
    progress.advance(task)
    return rate


def _draw_slices(server: Server, picture: Path, advance: Callable[[], None]) -> None:
    import numpy as np
    from augclient import Recipe

    from augserver.web.sheet import Column, choose_planes, cut_planes, draw_sheet

    columns: list[Column] = []
    planes: list[int] = []
    for seed in (None, *SEEDS):
        recipe = _recipe() if seed is not None else Recipe(window={"low": -275, "high": 450})
        # a seed shuffles the volumes; every one comes once in an epoch, so the one to show is among the first
        patches = (server.sample(recipe, index=index, seed=seed or 0, patch=PATCH) for index in range(TORSOS))
        patch = next(patch for patch in patches if patch.sample.volume == SHOWN_VOLUME)
        sample = patch.sample
        low, high = sample.window or (0.0, 0.0)
        captions = (f"window {low:.0f} to {high:.0f} HU", f"noise {sample.noise_std:.0f} HU")
        slab = f"planes {sample.occlusion[0]} to {sample.occlusion[1] - 1} occluded" if sample.occlusion else "nothing occluded"
        mirrored = np.linalg.det(sample.affine[:, :3]) < 0
        title = "as scanned" if seed is None else f"seed {seed}{', mirrored' if mirrored else ''}"
        planes = planes or choose_planes(PATCH, patch.label)
        columns.append(Column(title=title, captions=(*captions, slab), planes=cut_planes(patch.image[0], patch.label, planes)))
        advance()
    heading = f"One patch of {SHOWN_VOLUME}, {PATCH[0]} x {PATCH[1]} x {PATCH[2]} voxels of 3 mm, under {len(SEEDS)} seeds"
    draw_sheet(columns, server.dataset().classes, heading).picture.save(picture)


def _print_throughput(console: Console, kernel: float, wire: float) -> None:
    from math import prod

    from rich.table import Table

    megabytes = prod(PATCH) * 5 / 1e6  # float32 image and uint8 label
    console.print(f"augmented patches of {PATCH[0]} x {PATCH[1]} x {PATCH[2]}, float32 image and uint8 label, {megabytes:.1f} MB each:")
    table = Table()
    for heading in ("stage", "volumes/s", "MB/s"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    table.add_row("kernel, in process", f"{kernel:.0f}", f"{kernel * megabytes:.0f}")
    table.add_row("server to client, gRPC", f"{wire:.0f}", f"{wire * megabytes:.0f}")
    console.print(table)


def _train(console: Console, address: str, steps: int) -> None:
    """Train the small network; AugError if its loss does not fall."""
    from augserver.cli.first_training import train
    from augserver.errors import AugError
    from augserver.ingest.torso_phantom import CLASSES

    with _progress(console) as progress:
        task = progress.add_task("training a small 3-D U-Net", total=steps, note="loading TensorFlow")
        losses = train(address, len(CLASSES), steps, lambda step, loss: progress.update(task, completed=step, note=f"loss {loss:.3f}"))
    tail = losses[-max(1, steps // 10) :]
    last = sum(tail) / len(tail)
    console.print(f"loss: first step {losses[0]:.3f}, mean of the last {len(tail)} steps {last:.3f}")
    if not last < losses[0]:
        raise AugError(f"the loss did not fall: {losses[0]:.3f} at first, {last:.3f} at the end; please report this with the output above")
