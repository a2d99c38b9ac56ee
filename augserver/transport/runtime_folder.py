"""The folder of the Unix sockets: whose it is, what of it is stale, and a name in it.

A server's socket is FOLDER/augserver-<random>.sock, so servers share a folder, also from several containers. kill -9 leaves the file
behind; the next server to start in that folder takes it away. Who sweeps or binds holds a lock on the folder (flock, which dies with its
process), so a socket that is bound but does not listen yet is not taken for a stale one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from augserver.errors import ConfigError, StateError

_PREFIX, _SUFFIX = "augserver-", ".sock"
_MAX_PATH = 107  # bytes of sun_path, without its final zero


def default_folder() -> Path:
    """Where sockets of this user live by default: the user's runtime folder, which ends with the session, or one under /tmp."""
    user = os.geteuid()
    runtime = Path(f"/run/user/{user}")
    return runtime / "augserver" if runtime.is_dir() and runtime.stat().st_uid == user else Path(f"/tmp/augserver-{user}")


def open_folder(folder: Path, permissions: int) -> int:
    """Make the folder if it is not there, and make sure that nobody else can put sockets into it.

    Args:
        permissions: of a folder that is made, and the most that one which exists may have.
    Returns:
        A descriptor of the folder; close it.
    Raises:
        StateError: it cannot be made, is no folder, is another user's, or is open to more users than `permissions` says.
    """
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True, mode=permissions)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StateError(f"local.folder {folder} cannot be used: {error.strerror}; name another one, or set local.mode = 'off'") from error
    status = os.fstat(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & ~permissions & 0o777:
        os.close(descriptor)
        raise StateError(
            f"local.folder {folder} is of user {status.st_uid} with permissions {mode:03o}; due are user {os.geteuid()} and at most "
            f"{permissions:03o}, or others could listen in its place; name another folder, or set local.permissions"
        )
    return descriptor


def bind_socket(folder: Path, descriptor: int, backlog: int) -> tuple[socket.socket, Path]:
    """Take stale sockets away, then listen under a new name.

    Returns:
        A listening, non-blocking socket and its path.
    Raises:
        ConfigError: the path is too long for a Unix socket. StateError: it cannot be bound.
    """
    path = folder / f"{_PREFIX}{secrets.token_hex(6)}{_SUFFIX}"
    if len(os.fsencode(path)) > _MAX_PATH:
        raise ConfigError(
            f"local.folder {folder} is too long: a socket's path in it has {len(os.fsencode(path))} bytes, at most {_MAX_PATH}"
        )
    with _locked(descriptor):
        for other in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            if _is_stale(other):
                with contextlib.suppress(FileNotFoundError):
                    other.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            listener.bind(os.fspath(path))
            path.chmod(0o666)  # the folder's permissions and the peer's user decide
            listener.listen(backlog)
        except OSError as error:
            listener.close()
            raise StateError(f"cannot listen on {path}: {error.strerror}; name another local.folder, or set local.mode = 'off'") from error
    return listener, path


@contextlib.contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise StateError(f"local.folder cannot be locked (flock: {error.strerror}); name another one, or set local.mode = 'off'") from error
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_stale(path: Path) -> bool:
    """Whether this is a socket on which nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return stat.S_ISSOCK(path.lstat().st_mode)
        except OSError:
            return False  # a full backlog, or gone meanwhile
    return False
