"""The page as a thread of a server's process: started after the server, stopped before it."""

from __future__ import annotations

import importlib.util
import logging
import secrets
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from augserver.config import SecurityConfig, ServerConfig
from augserver.errors import ConfigError, StateError
from augserver.service.address import Address, parse_address, require_closed, require_free

if TYPE_CHECKING:
    from augserver.kernel import Backend
    from augserver.service.server import Server
    from augserver.store import Dataset

_STOP_S = 5  # for answers under way
_LOOK_S = 0.01  # how late it may be seen that the page is up


def check_page(config: ServerConfig) -> None:
    """Whether the page can be served as `config.page` says, before anything is started.

    Raises:
        ConfigError: packages are missing, an address that is none, or an open one without `insecure`.
        StateError: the address is taken.
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--http needs {' and '.join(missing)}, which this Python has not; pip install 'augserver[web]', or leave --http out"
        )
    address = parse_address(config.page.address)
    require_closed(address, SecurityConfig(), insecure=config.listen.insecure)  # the page itself speaks neither TLS nor mTLS
    require_free(address)


class _UsedUpOnce(logging.Filter):
    """Lets one line of asyncio's through about connections for which there is no descriptor."""

    _told = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith("socket.accept() out of system resource"):
            return True
        told, self._told = self._told, True
        return not told


class Page:
    """Serves the page of a running server until `close`; a context manager.

    Args:
        server: running.
        dataset: that it serves.
        backend: that computes its batches; the page only says its name.
        config: checked by `check_page`. Where it makes the server ask who calls, the page asks for a key that is part of `url`.
    Raises:
        StateError: uvicorn does not start.
    """

    def __init__(self, server: Server, dataset: Dataset, backend: Backend, config: ServerConfig) -> None:
        import uvicorn

        from augserver.web.app import Routes
        from augserver.web.connections import MAX_CONNECTIONS, BoundedProtocol
        from augserver.web.guard import Guard
        from augserver.web.live import LiveView
        from augserver.web.patches import PatchMaker

        page = config.page
        address = parse_address(page.address)
        key = secrets.token_urlsafe(24) if config.security.asks_who else ""
        self._maker = PatchMaker(dataset, cache_bytes=page.cache_bytes, max_patch_voxels=page.max_patch_voxels)
        self._routes = Routes(
            self._maker, LiveView(server).read, serving=f"{server.address}, {backend.description}", queue=page.max_waiting
        )
        settings = uvicorn.Config(
            Guard(self._routes.app(), loopback_only=address.is_loopback, key=key),
            loop="asyncio",
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,  # paths name volumes
            server_header=False,
            backlog=MAX_CONNECTIONS,  # of which asyncio tries every one, each with a traceback, while descriptors are used up
            limit_concurrency=MAX_CONNECTIONS + 1,  # uvicorn refuses the one that reaches it
            timeout_graceful_shutdown=_STOP_S,
        )
        self._socket = socket.create_server(
            (address.host, address.port), family=socket.AF_INET6 if ":" in address.host else socket.AF_INET, backlog=MAX_CONNECTIONS
        )
        bound = Address(address.host, self._socket.getsockname()[1])
        self.url = f"http://{bound}/" + (f"?key={key}" if key else "")
        self._uvicorn = uvicorn.Server(settings)
        self._filter = _UsedUpOnce()
        logging.getLogger("asyncio").addFilter(self._filter)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        try:
            self._thread.start()
            while not self._uvicorn.started:  # uvicorn loads what it runs on in its own thread
                self._thread.join(_LOOK_S)
                if not self._thread.is_alive():
                    raise StateError(f"the page at {bound} cannot be served: {self._error or 'uvicorn ended'}") from self._error
        except BaseException:
            self._close_all()
            raise

    def close(self) -> None:
        """End the thread; waits for answers under way, for a few seconds."""
        self._uvicorn.should_exit = True
        self._thread.join()
        self._close_all()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _close_all(self) -> None:
        logging.getLogger("asyncio").removeFilter(self._filter)
        self._socket.close()
        self._routes.close()
        self._maker.close()

    def _run(self) -> None:
        try:
            self._uvicorn.run(sockets=[self._socket])
        except BaseException as error:  # raised where the page was opened; uvicorn leaves a SystemExit behind too
            if self._uvicorn.started:
                raise
            self._error = error
