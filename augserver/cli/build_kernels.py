"""`augserver build-kernels`: compile the CUDA kernels, where the package was built without nvcc or for an older card."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("build-kernels")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default: where the package looks for it.")
@click.option("--nvcc", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The compiler; default: CUDA_HOME, then PATH.")
def build_kernels(out: Path | None, nvcc: Path | None) -> None:
    """Compile the CUDA kernels for all architectures into one file; needs the CUDA toolkit, 12.8 or newer, and no card."""
    from augserver.kernel.cuda import fatbin

    target = out or fatbin.FATBIN
    fatbin.build(target, nvcc=nvcc)
    click.echo(f"wrote {target} ({target.stat().st_size / 1000:.0f} kB)")
    if out is not None:
        click.echo(f'for a server: [cuda] fatbin = "{out.resolve()}" in its config file')
