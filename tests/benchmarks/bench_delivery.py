"""Deliver batches by every road there is, and by others' roads, in one run.

    python tests/benchmarks/bench_delivery.py [--cases 'grpc*'] [--rounds 3] [--window-s 1.0] [--json] [--write]

One batch is 4 x (160x120x120 voxels + uint8 labels), 46 MB as float32. A client counts a batch when it lies in ready arrays, and checks
their first and last voxels. Every round runs all cases one after another, each in fresh processes; figures are medians over the rounds.
But for real_*, a kernel that writes nothing makes the batches, so that delivery alone is measured. GB = 1e9 bytes of payload; CPU =
user + system seconds per GB of all servers, and of the client. --write puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import delivery_ours
from delivery_cases import CASES, available
from delivery_processes import measure

Figures = Mapping[str, Mapping[str, float]]

RESULTS = Path(__file__).with_name("RESULTS.md")
BEGIN, END = "<!-- bench_delivery.py -->", "<!-- end of bench_delivery.py -->"
TARGETS = (  # ours, the other, at least this many times its GB/s
    ("grpc", "tf_plain", 3.0),
    ("grpc", "tf_tuned", 1.3),
    ("grpc", "flight", 0.75),
    ("local", "grpc", 5.0),
    ("real_local", "real_kernel", 0.8),
)


def ratios(figures: Figures) -> list[tuple[str, float, float]]:
    """(name, ratio, target) of the targets whose two cases were run."""
    return [
        (f"{ours} / {other}", figures[ours]["gb_per_s"] / figures[other]["gb_per_s"], target)
        for ours, other, target in TARGETS
        if ours in figures and other in figures
    ]


def table(figures: Figures) -> str:
    """Markdown, which is readable on a terminal too."""
    lines = [
        "| case | GB/s | spread | volumes/s | server CPU s/GB | client CPU s/GB | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in figures.items():
        rate = f"{row['gb_per_s']:.2f}" if row["gb_per_s"] < 100 else f"{row['gb_per_s']:.0f}"
        cpu = " | ".join(f"{row[f'{side}_cpu_s_per_gb']:.2f}" for side in ("server", "client"))
        lines.append(f"| {name} | {rate} | {row['spread']:.0%} | {row['volumes_per_s']:.0f} | {cpu} | {CASES[name].note} |")
    lines += ["", "| ratio of GB/s | measured | target |", "|---|---:|---:|"]
    lines += [f"| {name} | {ratio:.2f} | {target:g} |" for name, ratio, target in ratios(figures)]
    return "\n".join(lines)


def machine() -> str:
    """CPU model, cores that this process may use, and how busy they were with other things."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{model[1] if model else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f} before the run"


def write(text: str) -> None:
    """Put `text` between this benchmark's marks in RESULTS.md, at the end if they are not there."""
    section = f"{BEGIN}\n{text}\n{END}"
    old = RESULTS.read_text() if RESULTS.exists() else "# Results\n"
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    new = marked.sub(lambda _: section, old) if marked.search(old) else f"{old.rstrip()}\n\n{section}\n"
    RESULTS.write_text(new)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="*", help="names or a glob, several with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window-s", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    globs = options.cases.split(",")
    cases, left_out = available(lambda name: any(fnmatch.fnmatchcase(name, glob) for glob in globs))
    if not cases:
        parser.error(f"--cases {options.cases!r} names none of {', '.join(CASES)}")
    where = machine()
    figures = measure(cases, delivery_ours.prepare, options.rounds, options.window_s)
    if options.json:
        print(json.dumps({"cases": figures, "ratios": ratios(figures), "left_out": left_out, "machine": where}))
    else:
        print("\n".join([table(figures), *(f"left out: {reason}" for reason in left_out)]))
    if options.write:
        command = shlex.join(["python", "tests/benchmarks/bench_delivery.py", *(sys.argv[1:] if arguments is None else arguments)])
        head = f"## Delivery\n\n{datetime.date.today().isoformat()}, {where}.\n\n    {command}\n"
        write(f"{head}\n{table(figures)}")
    return 0 if all(ratio >= target for _, ratio, target in ratios(figures)) else 1


if __name__ == "__main__":
    sys.exit(main())
