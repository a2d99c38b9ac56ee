"""What ncu counted: how busy memory, caches and multiprocessors were, which says why a kernel is as fast as it is.

DRAM busy: memory bounds it. L1 or L2 busy instead: the taps' scattered reads do. Neither, and few warps: registers bound what is under way.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

METRICS = {
    "gpu__time_duration.sum": "time",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "DRAM throughput",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": "L2 throughput",
    "l1tex__throughput.avg.pct_of_peak_sustained_active": "L1 and texture throughput",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "multiprocessor throughput",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "achieved occupancy",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "cycles that issue",
}


@dataclass(frozen=True)
class Counter:
    """One metric of one kernel."""

    kernel: str
    metric: str
    figure: float
    unit: str


def read(path: Path) -> list[Counter]:
    """The counters in the output of `ncu --csv`, which begins with lines of other kinds; the last launch of each kernel counts."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next((k for k, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    found: dict[tuple[str, str], Counter] = {}
    for row in csv.DictReader(lines[start:]):
        if row["Metric Name"] in METRICS:
            kernel, metric = row["Kernel Name"].split("(")[0], METRICS[row["Metric Name"]]
            found[kernel, metric] = Counter(kernel, metric, float(row["Metric Value"].replace(",", "")), row["Metric Unit"])
    return list(found.values())


if __name__ == "__main__":
    print(",".join(METRICS))
