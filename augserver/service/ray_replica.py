"""One server inside a Ray actor. Nothing here imports ray: `ray_fleet` turns the class into an actor.

Ray makes the object again, with the same arguments, when its process dies. What makes a start impossible is kept and told to whoever
asks for the address: raised in the constructor it would reach the driver as text only.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

from augclient.serving_child import Ready

from augserver.backends import EXIT_DEVICE_LOST
from augserver.config import ServerConfig
from augserver.errors import AugError, UnavailableError
from augserver.kernel import open_backend
from augserver.service.server import Server
from augserver.store import Dataset

_RESTART_PAUSE_S = 1.0  # Ray itself restarts at once


class Replica:
    """Serves a dataset from the moment it is made until `stop`; for an actor with several threads.

    Args:
        dataset: its folder, as this node sees it.
        config: all settings but the address.
        address: HOST:PORT to listen on.
    """

    def __init__(self, dataset: str, config: ServerConfig, address: str) -> None:
        self._stopped = threading.Event()
        self._server: Server | None = None
        self._error: AugError | None = None
        try:
            self._server = self._start(Path(dataset), config, address)
        except AugError as error:
            self._error = error

    def describe(self) -> Ready:
        """Where and how it serves. Raises what kept the server from starting."""
        if self._server is None:
            raise self._error or UnavailableError("the replica has stopped")
        return self._server.ready()

    def watch(self) -> None:
        """Return when the replica was stopped; a call that fails instead tells its caller that the process died."""
        self._stopped.wait()

    def stop(self, drain_s: float) -> None:
        """Let batches in flight end, for `drain_s` at most, then free everything."""
        server, self._server = self._server, None
        if server is not None:
            server.drain()
            server.service.wait_idle(drain_s)
            server.stop()
        self._stopped.set()

    def _start(self, path: Path, config: ServerConfig, address: str) -> Server:
        dataset = Dataset.open(path)
        kernel = config.kernel
        backend = open_backend(
            kernel.backend, threads=kernel.threads or None, isa=kernel.isa or None, cuda=config.cuda, on_lost=lambda _: _end_lost()
        )
        try:
            server = Server(dataset, backend, dataclasses.replace(config, listen=dataclasses.replace(config.listen, address=address)))
        except BaseException:
            backend.close()
            raise
        server.start()
        return server


def _end_lost() -> None:
    """A device that failed comes back to a new process only; Ray starts one. The pause keeps a dead device from a storm of restarts."""
    time.sleep(_RESTART_PAUSE_S)
    os._exit(EXIT_DEVICE_LOST)
