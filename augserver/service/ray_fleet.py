"""Servers as Ray actors: placed, restarted and found by Ray.

    driver (augserver ray)                        Ray
      placement group, one bundle each  --->      finds nodes with the CPUs and GPUs
      actor augserver-K, max_restarts -1  --->    starts it, and starts it again when its process or its node dies
      watch() pending on each           <---      fails at a death; then the driver asks for the new address
      ends, even by kill -9             --->      takes the actors and the placement group away

Any program on the cluster finds a replica by its name: `ray.get_actor("augserver-0", namespace="augserver").describe.remote()`.
Replica K listens on port + K, so that it comes back under its old address unless its node is gone.
ray is imported when a fleet is opened, never before.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from augclient.serving_child import Ready, count_of

from augserver.config import ServerConfig
from augserver.errors import AugError, BackendError, BudgetError, ConfigError, UnavailableError
from augserver.service.address import Address
from augserver.service.ray_replica import Replica

NAMESPACE = "augserver"
LOCAL = "local"

_OBJECT_STORE_BYTES = 80 << 20  # of a cluster started here: Ray's minimum is 75 MiB, and no batch passes through it
_THREADS = 4  # of an actor: watch() holds one, describe() and stop() come beside it
_CALL_S = 60.0  # for a replica to start: it opens the dataset and, on a GPU, takes its memory
_STOP_S = 10.0  # beyond the drain


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSpec:
    """What to run.

    Attributes:
        dataset: absolute path of its folder, which every node must see.
        replicas: how many servers, 1 or more.
        cpus, gpus: of each; what Ray reserves. A replica with GPUs uses all of its own.
        port: of replica 0, the next ones follow; 0: the system picks, anew at each restart.
        insecure: listen on the node's address, unencrypted; else on loopback, which only a cluster of one node can use.
        placement_s: how long Ray may take to find, or an autoscaler to start, nodes with these resources.
    """

    dataset: str
    replicas: int
    cpus: float
    gpus: int
    port: int
    insecure: bool
    placement_s: float


class RayFleet:
    """Replicas on a Ray cluster; a context manager that takes them away. Main thread only.

    Args:
        spec: what to run.
        config: settings of every replica; its address is not used.
        cluster: "local" starts a cluster of this machine, which ends with the fleet; else an address that `ray.init` takes.
    Raises:
        BackendError: ray is not installed.
        UnavailableError: no cluster at that address.
        BudgetError: the cluster has not the CPUs or GPUs.
        ConfigError: loopback on a cluster of several nodes, or ports beyond 65535.
        AugError: what kept a replica from starting.
    """

    def __init__(self, spec: FleetSpec, config: ServerConfig, cluster: str) -> None:
        if spec.port and spec.port + spec.replicas - 1 > 65535:
            raise ConfigError(f"port {spec.port} and {spec.replicas} replicas need ports beyond 65535; take a lower port, or 0")
        self._spec = spec
        self._drain_s = config.listen.drain_s
        self._ray = _import_ray()
        self._closing = contextlib.ExitStack()
        self._replicas: list[_Member] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self._closing.close)
            self._join(cluster)
            group = self._place()
            self._replicas = [_Member(self._ray, k, self._create(k, group, config)) for k in range(spec.replicas)]
            for member in self._replicas:
                member.wait_until_ready(_CALL_S)
            undo.pop_all()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the replicas serve, or served before they died; by number."""
        return tuple(member.address for member in self._replicas)

    @property
    def ready_line(self) -> str:
        """For people: `serving on A,B,C (ray, 3 replicas, cpu, 1 thread, 5 volumes)`."""
        first = self._replicas[0].ready
        replicas, volumes = count_of(len(self._replicas), "replica"), count_of(first.volumes, "volume")
        return f"serving on {','.join(self.addresses)} (ray, {replicas}, {first.computes_on}, {volumes})"

    def watch(self, say: Callable[[str], None]) -> bool:
        """Look after the replicas once, without waiting; call it a few times per second.

        Args:
            say: takes a line about each death and each return.
        Returns:
            Whether a replica came back, possibly under another address.
        Raises:
            AugError: what keeps a replica from starting again. UnavailableError: Ray gave one up.
        """
        return sum(member.look(say) for member in self._replicas) > 0  # not any(): each must be looked at

    def drain(self, is_hurried: Callable[[], bool]) -> None:
        """Stop the replicas, each after the batches that it is sending; returns early when `is_hurried` says so."""
        calls = [member.actor.stop.remote(self._drain_s) for member in self._replicas]
        deadline = time.monotonic() + self._drain_s + _STOP_S
        while calls and time.monotonic() < deadline and not is_hurried():
            _, calls = self._ray.wait(calls, num_returns=len(calls), timeout=0.05)

    def __enter__(self) -> RayFleet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.close()

    def _join(self, cluster: str) -> None:
        """Start or join the cluster; leaving it is left to `_closing`."""
        options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
        if cluster == LOCAL:
            # Usage statistics go to a server on the internet unless told otherwise, and a session leaves a folder of logs behind.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="augray", ignore_cleanup_errors=True))
            options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES, "_temp_dir": folder}
        self._closing.callback(self._ray.shutdown)
        try:
            # Ray puts the driver's folder first on the path of its workers: there they must not find sources in place of the package.
            with contextlib.chdir("/"):
                self._ray.init(cluster, **options)
        except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
            raise UnavailableError(
                f"no Ray cluster could be joined at {cluster!r}: {error}; start one with `ray start --head`, or leave --cluster out "
                "to have one started on this machine"
            ) from error
        nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
        if nodes > 1 and not self._spec.insecure:
            raise ConfigError(
                f"the cluster has {nodes} nodes, and replicas listen on loopback, where other nodes and their trainers cannot reach them; "
                "say --insecure on a network that you trust (they then listen on their node's address, unencrypted)"
            )

    def _place(self) -> Any:
        spec = self._spec
        bundle = {name: amount for name, amount in (("CPU", spec.cpus), ("GPU", spec.gpus)) if amount}
        if not bundle:
            return None
        group = self._ray.util.placement_group([bundle] * spec.replicas, strategy="SPREAD")
        self._closing.callback(self._ray.util.remove_placement_group, group)
        if not group.wait(timeout_seconds=spec.placement_s):
            total = self._ray.cluster_resources()
            has = ", ".join(f"{total.get(name, 0):g} {name}" for name in bundle)
            wants = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
            raise BudgetError(
                f"the cluster did not place {spec.replicas} replicas of {wants} each in {spec.placement_s:g} s; it has {has} in all, "
                "others' work included; lower --replicas, --cpus-per-replica or --gpus-per-replica, or add nodes"
            )
        return group

    def _create(self, number: int, group: Any, config: ServerConfig) -> Any:
        spec = self._spec
        options: dict[str, Any] = {
            "name": f"augserver-{number}",
            "num_cpus": spec.cpus,
            "num_gpus": spec.gpus,
            "max_restarts": -1,
            "max_concurrency": _THREADS,
        }
        if group is not None:
            strategies = importlib.import_module("ray.util.scheduling_strategies")
            options["scheduling_strategy"] = strategies.PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
        port = spec.port + number if spec.port else 0
        try:
            actor = self._ray.remote(_NodeReplica).options(**options).remote(spec.dataset, config, port, spec.insecure)
        except ValueError as error:  # the name is taken
            raise ConfigError(f"replica {number} cannot be made: {error}; another `augserver ray` runs on this cluster") from error
        self._closing.callback(self._ray.kill, actor, no_restart=True)
        return actor


class _NodeReplica(Replica):
    """A replica that finds out where it is: after the death of a node it may be elsewhere."""

    def __init__(self, dataset: str, config: ServerConfig, port: int, insecure: bool) -> None:
        host = _import_ray().util.get_node_ip_address() if insecure else "127.0.0.1"
        super().__init__(dataset, config, str(Address(host, port)))


class _Member:
    """One replica as the driver knows it."""

    def __init__(self, ray: Any, number: int, actor: Any) -> None:
        self.actor = actor
        self._told: Ready | None = None
        self._ray = ray
        self._number = number
        self._watch: Any = None
        self._asked = actor.describe.remote()

    @property
    def ready(self) -> Ready:
        """Where and how it serves, or served before it died; known once `wait_until_ready` has returned."""
        if self._told is None:
            raise UnavailableError(f"replica {self._number} has not started yet")
        return self._told

    @property
    def address(self) -> str:
        """Of `ready`."""
        return self.ready.address

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for the first start."""
        deadline = time.monotonic() + timeout_s
        while not self._hear_description(timeout_s=1.0):
            if time.monotonic() > deadline:
                raise UnavailableError(f"replica {self._number} did not start in {timeout_s:g} s; see the logs of Ray")

    def look(self, say: Callable[[str], None]) -> bool:
        """One step of looking after it; whether it came back."""
        if self._watch is not None:
            if not self._ray.wait([self._watch], timeout=0)[0]:
                return False
            say(f"replica {self._number} at {self.address} died; Ray starts it again")
            self._watch = None
            self._asked = self.actor.describe.remote()
            return False
        if not self._hear_description(timeout_s=0):
            return False
        say(f"replica {self._number} is back at {self.address}")
        return True

    def _hear_description(self, timeout_s: float) -> bool:
        """Take the answer to the question that is under way, if it has come; ask again if the replica was not there yet."""
        if not self._ray.wait([self._asked], timeout=timeout_s)[0]:
            return False
        try:
            self._told = self._ray.get(self._asked)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AugError):
                raise type(error.cause)(f"replica {self._number}: {error.cause}") from error
            raise
        except self._ray.exceptions.ActorUnavailableError:
            self._asked = self.actor.describe.remote()
            return False
        except self._ray.exceptions.RayActorError as error:
            reason = str(error).strip().splitlines()[-1]  # the rest is a traceback
            raise UnavailableError(f"Ray gave replica {self._number} up: {reason}; see the logs of Ray") from error
        self._watch = self.actor.watch.remote()
        return True


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise BackendError(f"ray cannot be imported ({error}); install it with `pip install 'augserver[ray]'`") from error
