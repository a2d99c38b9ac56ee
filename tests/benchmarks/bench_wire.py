"""Delivery rate of batches on loopback into ready arrays of another process: raw TCP, augserver over gRPC, and generated code.

    python tests/benchmarks/bench_wire.py [--json] [--rounds 5] [--window-s 1.5]

The short version of bench_delivery.py: four of its cases, and the targets of the wire. One batch is 4 x (float32 160x120x120 + uint8
label), 46 MB. Targets: augserver >= 0.5 tcp and >= 1.6 generated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import delivery_ours
from delivery_cases import CASES
from delivery_processes import measure

TARGETS = {"tcp": 0.5, "generated": 1.6}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window-s", type=float, default=1.5)
    options = parser.parse_args(arguments)
    names = ("memcpy", "tcp", "grpc", "generated")
    cases = measure({name: CASES[name] for name in names}, delivery_ours.prepare, options.rounds, options.window_s)
    ratios = {other: cases["grpc"]["gb_per_s"] / cases[other]["gb_per_s"] for other in TARGETS}
    if options.json:
        print(json.dumps({"cases": cases, "ratios": ratios, "targets": TARGETS}))
    else:
        print(f"{'case':<10} {'GB/s':>6}   CPU s/GB: {'server':>6} {'client':>6}")
        for case, row in cases.items():
            print(f"{case:<10} {row['gb_per_s']:6.2f}   {'':9} {row['server_cpu_s_per_gb']:6.2f} {row['client_cpu_s_per_gb']:6.2f}")
        for other, ratio in ratios.items():
            print(f"grpc / {other}: {ratio:.2f} (target {TARGETS[other]})")
    return 0 if all(ratios[other] >= target for other, target in TARGETS.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
