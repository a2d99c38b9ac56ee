"""`augserver doctor`: what works here, and what would mend what does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from augserver.cli.doctor.finding import Finding


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> int:
    """Look at what a server needs here, on the CPU and on a GPU, and say how to mend what is missing.

    The exit code is 0 if a server works on the CPU, else 1.
    """
    from augserver.backends import BACKENDS, DEVICE_BACKEND
    from augserver.cli.doctor.host_findings import optional_findings, required_findings
    from augserver.config import ListenConfig

    required = list(required_findings())
    found = {entry.name: entry.find() for entry in BACKENDS.values() if entry.findings}
    findings = [*required, *optional_findings(ListenConfig().address), *(each for some in found.values() for each in some)]
    cpu_works, gpu_works = (all(each.well for each in some) for some in (required, found[DEVICE_BACKEND]))
    if as_json:
        report = {"cpu": cpu_works, DEVICE_BACKEND: gpu_works, "findings": [dataclasses.asdict(each) for each in findings]}
        click.echo(json.dumps(report, indent=1))
    else:
        _print(findings)
        cpu, gpu = ("works" if works else "does not work" for works in (cpu_works, gpu_works))
        click.echo(f"\nserver on the CPU: {cpu}; on a GPU: {gpu}")
    return 0 if cpu_works else 1


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(each.check) for each in findings)
    for each in findings:
        click.echo(f"{'ok' if each.well else 'NO':2}  {each.check:{width}}  {each.found}")
        if not each.well:
            click.echo(f"{'':{width + 6}}why:  {each.cause}")
            click.echo(f"{'':{width + 6}}next: {each.next_step}")
