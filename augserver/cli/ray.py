"""`augserver ray`: several servers of one dataset on a Ray cluster, until a signal."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from augserver.cli.notices import print_line, say

_LOOK_S = 0.2  # how late a death or a return is seen


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--replicas", type=click.IntRange(min=1), required=True, help="How many servers.")
@click.option("--gpus-per-replica", type=click.IntRange(min=0), default=0, show_default=True, help="0 computes on the CPU.")
@click.option("--cpus-per-replica", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Also the CPU backend's threads.")
@click.option("--cluster", envvar="RAY_ADDRESS", default="local", show_default=True, help="Ray's address; 'local' starts one here.")
@click.option("--port", type=click.IntRange(0, 65535), default=50051, show_default=True, help="Of replica 0; the next follow. 0 picks.")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="TOML file with settings of every server.")
@click.option("--insecure", is_flag=True, help="Listen on the nodes' own addresses, unencrypted.")
@click.option("--placement-s", type=click.FloatRange(min=1), default=60.0, show_default=True, help="How long Ray may look for room.")
def ray(
    dataset: Path,
    replicas: int,
    gpus_per_replica: int,
    cpus_per_replica: float,
    cluster: str,
    port: int,
    config_path: Path | None,
    insecure: bool,
    placement_s: float,
) -> int:
    """Serve DATASET from several servers that Ray places, restarts and finds; every node must see the folder under the same path.

    Once all are ready, one line on stdout lists their addresses for `augclient.connect([...])`; it comes again when a server returned
    elsewhere. Ctrl-C or SIGTERM finishes the batches in flight and stops; a second one stops at once.
    """
    from augserver.backends import DEVICE_BACKEND
    from augserver.cli.processes.stop_signals import StopSignals
    from augserver.config import ServerConfig, load_config
    from augserver.service.ray_fleet import FleetSpec, RayFleet

    config = load_config(config_path) if config_path else ServerConfig()
    backend = DEVICE_BACKEND if gpus_per_replica else "cpu"
    config = dataclasses.replace(
        config,
        kernel=dataclasses.replace(config.kernel, backend=backend, threads=config.kernel.threads or max(1, int(cpus_per_replica))),
        cuda=dataclasses.replace(config.cuda, devices="all"),  # Ray shows a replica none but its own
        listen=dataclasses.replace(config.listen, insecure=insecure),
    )
    spec = FleetSpec(
        dataset=str(dataset.absolute()),
        replicas=replicas,
        cpus=cpus_per_replica,
        gpus=gpus_per_replica,
        port=port,
        insecure=insecure,
        placement_s=placement_s,
    )
    # Signals are taken after Ray has set its own handlers; before that Ctrl-C is an ordinary interrupt.
    with RayFleet(spec, config, cluster) as fleet, StopSignals() as signals:
        line = fleet.ready_line
        print_line(line)
        while not signals.wait(_LOOK_S):
            if fleet.watch(lambda text: say(f"augserver: {text}")) and fleet.ready_line != line:
                line = fleet.ready_line
                print_line(line)
        forced = 0

        def is_hurried() -> bool:
            nonlocal forced
            forced = forced or signals.wait(0)
            return forced != 0

        fleet.drain(is_hurried)
        return 128 + forced if forced else 0
