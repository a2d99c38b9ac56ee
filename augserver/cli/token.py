"""`augserver token`: a new bearer token, and its entry for the server's token file."""

from __future__ import annotations

import hashlib
import re
import secrets

import click


@click.command()
@click.argument("name")
@click.option("--rights", default="read,warp", show_default=True, help="Of read, warp, admin: what its bearer may do.")
def token(name: str, rights: str) -> None:
    """Make a token for NAME.

    Its entry for `augserver serve --token-file` goes to stdout, to be appended to that file; the token itself goes to stderr, once: the
    file keeps only its sha256. A running server takes the entry in with its next call.
    """
    from augserver.errors import ConfigError
    from augserver.service.tokens import RIGHTS

    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ConfigError(f"NAME must be 1 to 64 of A-Z a-z 0-9 _ -, got {name!r}")
    named = rights.split(",")
    if not all(each in RIGHTS for each in named):
        raise ConfigError(f"--rights must be of {', '.join(RIGHTS)}, with commas between, got {rights!r}")
    secret = secrets.token_urlsafe(32)
    listed = ", ".join(f'"{each}"' for each in named)
    click.echo(f'[{name}]\nsha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"\nrights = [{listed}]')
    click.echo(f"the token, which is shown only here: {secret}", err=True)
