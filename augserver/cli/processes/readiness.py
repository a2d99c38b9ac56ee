"""Say that a server is ready: one line of JSON for the process that started it (`--ready-fd`), one sentence for people."""

from __future__ import annotations

import os

from augclient.serving_child import Ready

from augserver.cli.notices import print_line, say
from augserver.errors import ConfigError


def check_ready_fd(descriptor: int | None) -> None:
    """Keep the descriptor from programs that this process starts: that it is closed says that this process has ended.

    Raises:
        ConfigError: it is not open.
    """
    if descriptor is None:
        return
    try:
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise ConfigError(
            f"--ready-fd {descriptor}: {error.strerror}; name a descriptor that is open for writing, such as 3 after `3>ready.json`"
        ) from error


def announce(ready: Ready, descriptor: int | None, sentence: str = "") -> None:
    """Tell both; whoever does not listen any more keeps nobody from being served.

    Args:
        descriptor: of --ready-fd; stays open.
        sentence: for people, where it is not `ready`'s own.
    """
    if descriptor is not None:
        try:
            os.write(descriptor, ready.to_line().encode())
        except OSError as error:
            say(f"augserver: --ready-fd {descriptor} cannot be written ({error.strerror}); serving all the same")
    print_line(sentence or str(ready))
