"""Settings of a server: one frozen tree, read from TOML, checked wholly before anything starts.

Every default carries its reason. There is no global instance and no environment is read: cli/ makes the tree and hands it down.

    [kernel]  KernelConfig      [cache]   CacheConfig      [streams] StreamConfig
    [limits]  LimitConfig       [listen]  ListenConfig          [cuda]    CudaConfig
    [warp]    WarpConfig        [local]   LocalConfig           [quarantine] QuarantineConfig
    [security] SecurityConfig   [page]    PageConfig            [metrics] MetricsConfig
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from augclient.nearest import nearest

from augserver.backends import BACKEND_CHOICES
from augserver.errors import ConfigError, NotFoundError

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelConfig:
    """What computes the samples."""

    backend: str = "auto"  # of augserver.backends, or "auto", which says at start-up what it took and why
    threads: int = 0  # 0: one for each core that this process may use
    isa: str = ""  # "": the best that this CPU has; "x86-64-v2" and others force one: same bits, other speed

    def __post_init__(self) -> None:
        _require(self.backend in BACKEND_CHOICES, "kernel.backend", self.backend, f"one of {', '.join(BACKEND_CHOICES)}")
        _require(0 <= self.threads <= 1024, "kernel.threads", self.threads, "0 to 1024")


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaConfig:
    """The queue of batches on each GPU, and its memory."""

    devices: str = "0"  # ordinals as CUDA counts them, "0,1", or "all"; one queue each, a batch's samples are spread over them
    slots: int = 3  # batches on the device: one uploading, one computing, one downloading
    queue: int = 3  # batches that wait for a slot; one more blocks its submitter
    slot_bytes: int = 0  # results of one batch on one device; 0: a sixteenth of the device's memory, at most 1 GiB
    volume_bytes: int = 0  # volumes that stay on the device; 0: half of what the slots leave free
    texture_bytes: int = 0  # the same for the texture sampler, taken when it is used; 0: a quarter
    stage_bytes: int = 0  # what recipe steps hand on from stage to stage, taken when it is used; 0: a sixteenth, at most 1 GiB
    program_bytes: int = 2 * MIB  # of each slot, and pinned as often: the steps of one batch, some KB per sample
    staging_bytes: int = 32 * MIB  # pinned, four chunks through which volumes go up; smaller ones only cost more calls
    pageable: bool = False  # whether results may go to memory that is not pinned: several times slower, and without overlap
    fatbin: str = ""  # the compiled kernels; "": those of the package

    def __post_init__(self) -> None:
        named = self.devices.split(",")
        _require(
            self.devices == "all" or (all(each.isdecimal() for each in named) and len(set(named)) == len(named)),
            "cuda.devices",
            self.devices,
            "'all' or different ordinals such as '0,1'",
        )
        _require(2 <= self.slots <= 16, "cuda.slots", self.slots, "2 to 16; with one nothing overlaps")
        _require(1 <= self.queue <= 64, "cuda.queue", self.queue, "1 to 64")
        for name in ("slot_bytes", "volume_bytes", "texture_bytes", "stage_bytes"):
            _require(getattr(self, name) >= 0, f"cuda.{name}", getattr(self, name), "0 or more bytes")
        _require(4096 <= self.program_bytes <= GIB, "cuda.program_bytes", self.program_bytes, f"4096 to {GIB}")
        _require(MIB <= self.staging_bytes <= GIB, "cuda.staging_bytes", self.staging_bytes, f"{MIB} to {GIB}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Decoded volumes in host memory."""

    max_bytes: int = 0  # 0: half of the memory that is free at start-up; the other half is for batches, messages and the page cache

    def __post_init__(self) -> None:
        _require(self.max_bytes >= 0, "cache.max_bytes", self.max_bytes, "0 or more bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineConfig:
    """Volumes that turn out damaged while they are served."""

    # How many may be lost before streams end; 0: none, each ends the streams that need it. -1: a fiftieth of the dataset, at least one. Bad
    # sectors and torn copies hurt a file or two, and 2 % less data does not show in training; a disk that dies or a share that is gone
    # soon exceeds it, and then the job should stop.
    max_volumes: int = -1

    def __post_init__(self) -> None:
        _require(
            self.max_volumes >= -1, "quarantine.max_volumes", self.max_volumes, "0 or more volumes, or -1 for a fiftieth of the dataset"
        )

    def budget(self, volumes: int) -> int:
        """How many of a dataset of `volumes` may be lost."""
        return max(1, volumes // 50) if self.max_volumes < 0 else self.max_volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """Batches between the kernel and the clients."""

    max_streams: int = 32  # each holds one thread and look_ahead + 1 slots while it lives
    max_peer_streams: int = 0  # of one token, or of one host without tokens; 0: no bound but max_streams, as one host is often all there is
    idle_s: float = 900.0  # a client that takes nothing for so long loses its stream and resumes by number: longer than a validation takes
    look_ahead: int = 0  # batches made before the client asks; 0: as many as workers, so that one stream alone keeps all of them busy
    workers: int = 0  # batches made at once; 0: what keeps the backend busy and one that waits for a decode: CPU 2, GPU cuda.slots + 1
    max_stream_bytes: int = 3 * GIB  # the slots of one stream: three of the largest batch that limits.max_batch_bytes allows
    max_slot_bytes: int = 4 * GIB  # all slots of all streams: thirty streams of 4 x (160, 120, 120) float32 with labels

    def __post_init__(self) -> None:
        _require(1 <= self.max_streams <= 1024, "streams.max_streams", self.max_streams, "1 to 1024")
        _require(0 <= self.max_peer_streams <= 1024, "streams.max_peer_streams", self.max_peer_streams, "0 to 1024")
        _require(0.1 <= self.idle_s <= 86400.0, "streams.idle_s", self.idle_s, "0.1 to 86400 seconds")
        _require(0 <= self.look_ahead <= 64, "streams.look_ahead", self.look_ahead, "0 to 64")
        _require(0 <= self.workers <= 64, "streams.workers", self.workers, "0 to 64")
        for name in ("max_stream_bytes", "max_slot_bytes"):
            _require(getattr(self, name) >= MIB, f"streams.{name}", getattr(self, name), f"at least {MIB} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpConfig:
    """Volumes that clients send to be warped, with their results, until those are sent back."""

    depth: int = 3  # items of one call in the queue: one on its way in, one computing, one on its way out
    max_stream_bytes: int = GIB  # of one call; two items of 400 voxels cubed, int16 in, float32 out, with labels
    max_bytes: int = 4 * GIB  # of all calls together

    def __post_init__(self) -> None:
        _require(1 <= self.depth <= 64, "warp.depth", self.depth, "1 to 64")
        _require(self.max_stream_bytes >= MIB, "warp.max_stream_bytes", self.max_stream_bytes, f"at least {MIB} bytes")
        _require(
            self.max_bytes >= self.max_stream_bytes,
            "warp.max_bytes",
            self.max_bytes,
            f"at least warp.max_stream_bytes = {self.max_stream_bytes}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """Memory shared with clients on the same host, through a Unix socket. transport/README.md says who can read what."""

    mode: str = "auto"  # "auto": a socket where one can be made, else a warning; "on": without one the server does not start; "off"
    folder: str = ""  # of the socket; "": /run/user/UID/augserver, or /tmp/augserver-UID where there is no runtime folder
    permissions: str = "700"  # of the folder, at most, in octal: who can enter it can connect, and is asked for its user then
    users: str = ""  # ids of users to let in beside the server's own, "1000,1001": for containers that run as others

    def __post_init__(self) -> None:
        _require(self.mode in ("auto", "on", "off"), "local.mode", self.mode, "one of auto, on, off")
        octal = len(self.permissions) == 3 and all(each in "01234567" for each in self.permissions) and self.permissions[0] == "7"
        _require(octal, "local.permissions", self.permissions, "three octal digits, the first of them 7, such as '700' or '750'")
        ids = self.users.split(",") if self.users else []
        _require(all(each.isdecimal() and each.isascii() for each in ids), "local.users", self.users, "user ids such as '1000,1001', or ''")

    @property
    def user_ids(self) -> tuple[int, ...]:
        """`users` as numbers."""
        return tuple(int(each) for each in self.users.split(",")) if self.users else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConfig:
    """The largest things that one request may ask for."""

    max_patch_voxels: int = 512**3  # four times the patch of any network that trains on one GPU today
    max_batch_size: int = 1024  # keeps the header, 0.1 to 0.4 kB of provenance a sample, far below the 3 MiB left for it in a message
    max_batch_bytes: int = GIB  # of one rank's part of a batch
    max_message_bytes: int = 64 * MIB  # one whole sample of 240 voxels cubed, float32 with a label; a bound on what a client must hold
    max_request_bytes: int = MIB  # a recipe is about a kilobyte
    part_bytes: int = MIB  # both ends copy a part while it lies in a core's own cache (augserver/README.md); gRPC's clients accept 4 MiB
    min_part_bytes: int = 16 * 1024  # smaller parts spend their time in message overhead
    max_part_bytes: int = 16 * MIB  # larger ones gain nothing and cost page faults on both sides

    def __post_init__(self) -> None:
        _require(1 <= self.max_batch_size <= 2048, "limits.max_batch_size", self.max_batch_size, "1 to 2048")
        for name in ("max_patch_voxels", "max_batch_bytes", "max_request_bytes", "min_part_bytes"):
            _require(getattr(self, name) >= 1, f"limits.{name}", getattr(self, name), "1 or more")
        _require(
            self.min_part_bytes <= self.part_bytes <= self.max_part_bytes,
            "limits.part_bytes",
            self.part_bytes,
            f"min_part_bytes to max_part_bytes, {self.min_part_bytes} to {self.max_part_bytes}",
        )
        # A first part carries the batch's header as well: room for it.
        _require(
            self.max_part_bytes + MIB <= self.max_message_bytes < 1 << 31,
            "limits.max_message_bytes",
            self.max_message_bytes,
            f"max_part_bytes + {MIB} to {(1 << 31) - 1}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    """Where the server listens and when it gives up on a peer."""

    address: str = "127.0.0.1:50051"  # loopback: nothing is open until someone opens it
    insecure: bool = False  # whether an address that others can reach may be bound without TLS and without asking who calls
    peers: str = ""  # further servers of this dataset that clients are told of: "host:port,..."; ":port" is on the host they asked
    keepalive_s: float = 10.0  # silence after which a client is pinged
    keepalive_timeout_s: float = 5.0  # no answer to the ping in this time: the client is dead and its streams are freed
    drain_s: float = 10.0  # how long a stop waits for batches in flight; Kubernetes kills after 30 s

    def __post_init__(self) -> None:
        for name in ("keepalive_s", "keepalive_timeout_s", "drain_s"):
            _require(0.1 <= getattr(self, name) <= 3600.0, f"listen.{name}", getattr(self, name), "0.1 to 3600 seconds")
        named = self.peers.split(",") if self.peers else []
        _require(
            all(":" in each and each.rpartition(":")[2].isdecimal() for each in named), "listen.peers", self.peers, "host:port or :port"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """Who may call, and how that is kept from others' eyes. All are paths; empty: not asked for."""

    tls_cert: str = ""  # PEM chain of the server; read again when it changes
    tls_key: str = ""  # its key, not encrypted
    tls_client_ca: str = ""  # PEM of the authority whose certificates clients must show (mTLS)
    token_file: str = ""  # TOML of tokens and their rights: service/tokens.py; read again when it changes

    def __post_init__(self) -> None:
        _require(bool(self.tls_cert) == bool(self.tls_key), "security.tls_key", self.tls_key, "given with security.tls_cert, or not at all")
        _require(
            bool(self.tls_cert) or not self.tls_client_ca,
            "security.tls_client_ca",
            self.tls_client_ca,
            "left out without security.tls_cert: certificates of clients need TLS",
        )

    @property
    def encrypted(self) -> bool:
        """Whether the server speaks TLS."""
        return bool(self.tls_cert)

    @property
    def asks_who(self) -> bool:
        """Whether a caller has to show a token or a certificate."""
        return bool(self.token_file or self.tls_client_ca)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageConfig:
    """The page for a browser. It draws on a thread of low priority with memory of its own, beside the streams."""

    address: str = ""  # HOST:PORT to serve it on; "": no page
    cache_bytes: int = 512 * MIB  # decoded volumes that someone looks at, a dozen CTs at 3 mm; one volume at least
    max_patch_voxels: int = 200**3  # of a patch in the studio: 40 MB on its way to the browser, 30 ms in the kernel
    max_waiting: int = 16  # pictures that wait to be drawn: two seconds of work; a page itself asks for one at a time

    def __post_init__(self) -> None:
        _require(self.cache_bytes >= MIB, "page.cache_bytes", self.cache_bytes, f"at least {MIB} bytes")
        _require(1 <= self.max_patch_voxels <= 512**3, "page.max_patch_voxels", self.max_patch_voxels, f"1 to {512**3}")
        _require(1 <= self.max_waiting <= 1024, "page.max_waiting", self.max_waiting, "1 to 1024")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """What the server tells of itself: counters for Prometheus, spans for OpenTelemetry, and a verdict in the log."""

    address: str = ""  # HOST:PORT of GET /metrics, without names of volumes or callers; "": none
    insecure: bool = False  # whether an address that others can reach may be bound, as metrics know neither TLS nor tokens
    traces: str = ""  # OTLP collector for spans of calls and batches, "http://host:4317"; "": none
    verdict_s: float = 60.0  # between two lines "limited by: ..." in the log, while something streams

    def __post_init__(self) -> None:
        _require(1.0 <= self.verdict_s <= 86400.0, "metrics.verdict_s", self.verdict_s, "1 to 86400 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All settings of a server."""

    kernel: KernelConfig = field(default_factory=KernelConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    quarantine: QuarantineConfig = field(default_factory=QuarantineConfig)
    streams: StreamConfig = field(default_factory=StreamConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)
    listen: ListenConfig = field(default_factory=ListenConfig)
    cuda: CudaConfig = field(default_factory=CudaConfig)
    warp: WarpConfig = field(default_factory=WarpConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    page: PageConfig = field(default_factory=PageConfig)


_SECTIONS: Mapping[str, Any] = {
    "kernel": KernelConfig,
    "cache": CacheConfig,
    "quarantine": QuarantineConfig,
    "streams": StreamConfig,
    "limits": LimitConfig,
    "listen": ListenConfig,
    "cuda": CudaConfig,
    "warp": WarpConfig,
    "local": LocalConfig,
    "security": SecurityConfig,
    "metrics": MetricsConfig,
    "page": PageConfig,
}
_KINDS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def load_config(path: Path) -> ServerConfig:
    """Read a server's settings from a TOML file; what it leaves out keeps its default.

    Raises:
        NotFoundError: there is no such file.
        ConfigError: not TOML, an unknown section or key (named with the nearest known one), a value of another type or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"no config file {path}; give --config an existing TOML file, or leave it out for the defaults") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config file {path} is not TOML: {error}") from error
    return parse_config(document)


def parse_config(document: Mapping[str, Any]) -> ServerConfig:
    """Settings from a parsed TOML document; errors as in `load_config`."""
    sections: dict[str, Any] = {}
    for name, values in document.items():
        if name not in _SECTIONS:
            raise ConfigError(f"unknown config section [{name}]{_nearest(name, _SECTIONS)}; known: {', '.join(_SECTIONS)}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"config key {name!r} must be a section, [{name}], got {values!r}")
        sections[name] = _parse_section(name, _SECTIONS[name], values)
    return ServerConfig(**sections)


def _parse_section(section: str, kind: Any, values: Mapping[str, Any]) -> Any:
    fields = {each.name: str(each.type) for each in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"unknown config key {section}.{key}{_nearest(key, fields)}; known: {', '.join(fields)}")
        wanted = _KINDS[fields[key]]
        # bool is a subclass of int: `threads = true` must not mean one thread.
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise ConfigError(f"config key {section}.{key} must be of type {fields[key]}, got {value!r}")
    return kind(**values)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = nearest(name, known)
    return f", did you mean {near!r}?" if near else ""


def _require(condition: bool, key: str, got: object, allowed: str) -> None:
    """Raise ConfigError unless `condition` holds; NaN fails every comparison and so is refused."""
    if not condition:
        raise ConfigError(f"{key} must be {allowed}, got {got!r}")
