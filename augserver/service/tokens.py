"""Bearer tokens and what each may do, from a file that may change while the server runs.

    [trainer-a]                       # a name for the log; never leaves the server
    sha256 = "9f86d081..."            # of the token, as `augserver token` prints it; or token = "...", in a file that others cannot read
    rights = ["read", "warp"]         # read: dataset, volumes, batches, samples; warp: own arrays; admin: both, and reflection

A changed file takes effect with the next call. One that cannot be understood changes nothing and is logged, so that a slip of the
editor neither opens the server nor closes it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augserver.errors import ConfigError, NotFoundError
from augserver.store.machine_fault import is_machine_fault

RIGHTS = ("read", "warp", "admin")
MIN_TOKEN_CHARS = 16  # what is shorter can be tried out over the network

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token came with a call.

    Attributes:
        name: of its table in the token file.
        rights: of RIGHTS.
    """

    name: str
    rights: frozenset[str]

    def may(self, right: str) -> bool:
        """Whether the caller has `right`; "admin" has every one."""
        return right in self.rights or "admin" in self.rights


class TokenFile:
    """The tokens of one file. Thread-safe.

    Args:
        path: a TOML file as drawn above.
    Raises:
        NotFoundError: there is no such file.
        ConfigError: it cannot be understood, names no token, or holds plain tokens and others can read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = self._refused = _version(path)
        self._callers = _read(path)

    def find(self, token: str) -> Caller | None:
        """Whose token this is; None: nobody's. Looks at the file's time on every call (2 us)."""
        with self._lock:
            self._reload_if_changed()
            # By the digest of what came: the time this takes says nothing about the tokens.
            return self._callers.get(_digest(token))

    def _reload_if_changed(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        try:
            self._callers = _read(self._path)
        except (ConfigError, NotFoundError) as error:
            if version != self._refused:
                _log.error("the tokens stay as they were: %s", error)
            self._refused = version
            if error.__cause__ is not None and is_machine_fault(error.__cause__):
                return  # a descriptor was missing, say: the next call looks again
        else:
            _log.info("the tokens were read again: %d of them", len(self._callers))
        self._version = version


def _version(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; None where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _read(path: Path) -> Mapping[str, Caller]:
    """sha256 of each token -> its caller."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            document = tomllib.load(file)
    except FileNotFoundError as error:
        raise NotFoundError(f"no token file {path}; make one with `augserver token NAME >> {path.name}`") from error
    except OSError as error:
        raise ConfigError(f"token file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"token file {path} is not TOML: {error}") from error
    if not document:
        raise ConfigError(f"token file {path} names no token: nobody could call; add one with `augserver token NAME >> {path.name}`")
    callers: dict[str, Caller] = {}
    for name, entry in document.items():
        digest, caller = _read_entry(path, name, entry, closed=not mode & (stat.S_IRWXG | stat.S_IRWXO))
        if digest in callers:
            raise ConfigError(f"token file {path}: [{name}] and [{callers[digest].name}] have the same token; give each its own")
        callers[digest] = caller
    return callers


def _read_entry(path: Path, name: str, entry: Any, *, closed: bool) -> tuple[str, Caller]:
    where = f"token file {path}: [{name}]"
    if not isinstance(entry, Mapping) or not entry.keys() <= {"token", "sha256", "rights"} or ("token" in entry) == ("sha256" in entry):
        raise ConfigError(f"{where} must be a table of `rights` and either `sha256` or `token`")
    rights = entry.get("rights")
    if not isinstance(rights, list) or not rights or not all(each in RIGHTS for each in rights):
        raise ConfigError(f"{where}.rights must be a list of {', '.join(RIGHTS)}, got {rights!r}")
    caller = Caller(name, frozenset(rights))
    if "sha256" in entry:
        digest = entry["sha256"]
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ConfigError(f"{where}.sha256 must be 64 hexadecimal digits in lower case, as `augserver token` prints them")
        return digest, caller
    token = entry["token"]
    if not isinstance(token, str) or len(token) < MIN_TOKEN_CHARS or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(f"{where}.token must be at least {MIN_TOKEN_CHARS} printable ASCII characters without spaces")  # and is not shown
    if not closed:
        raise ConfigError(f"{where}.token is a secret in plain text, and others can read the file: chmod 600 it, or keep its sha256 there")
    return _digest(token), caller
