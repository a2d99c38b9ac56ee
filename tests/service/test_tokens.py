"""The token file: read strictly, read again when it changes, and never quoted."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from augserver.errors import ConfigError, NotFoundError
from augserver.service.tokens import TokenFile

SECRET = "a-secret-of-some-length"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_token_is_found_by_its_digest_or_itself_and_by_nothing_else(tmp_path: Path) -> None:
    other = "another-secret-of-length"
    text = f'[a]\nsha256 = "{DIGEST}"\nrights = ["read"]\n[b]\ntoken = "{other}"\nrights = ["admin"]\n'
    tokens = TokenFile(write(tmp_path / "tokens.toml", text))
    reader, admin = tokens.find(SECRET), tokens.find(other)
    assert reader is not None
    assert admin is not None
    assert (reader.name, reader.may("read"), reader.may("warp"), reader.may("admin")) == ("a", True, False, False)
    assert (admin.name, admin.may("read"), admin.may("warp"), admin.may("admin")) == ("b", True, True, True)
    assert [tokens.find(text) for text in ("", DIGEST, SECRET[:-1], SECRET + " ", SECRET.upper())] == [None] * 5


REFUSED = [
    ("", "names no token"),
    ("[a", "not TOML"),
    ("a = 1", r"\[a\] must be a table"),
    (f'[a]\nsha256 = "{DIGEST}"', r"\[a\]\.rights must be a list of read, warp, admin, got None"),
    (f'[a]\nsha256 = "{DIGEST}"\nrights = ["write"]', r"got \['write'\]"),
    (f'[a]\nsha256 = "{DIGEST}"\nrights = []', r"\[a\]\.rights"),
    (f'[a]\nsha256 = "{DIGEST.upper()}"\nrights = ["read"]', "64 hexadecimal digits"),
    (f'[a]\nsha256 = "{DIGEST}"\ntoken = "{SECRET}"\nrights = ["read"]', "either"),
    ('[a]\ntoken = "short"\nrights = ["read"]', "at least 16"),
    (f'[a]\nsha256 = "{DIGEST}"\nrights = ["read"]\nextra = 1', "table of"),
    (f'[a]\nsha256 = "{DIGEST}"\nrights = ["read"]\n[b]\nsha256 = "{DIGEST}"\nrights = ["warp"]', "the same token"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_cannot_be_understood_is_refused_without_showing_a_secret(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        TokenFile(write(tmp_path / "tokens.toml", text))
    assert SECRET not in str(caught.value)
    assert "short" not in str(caught.value)


def test_a_plain_token_is_refused_in_a_file_that_others_can_read(tmp_path: Path) -> None:
    path = write(tmp_path / "tokens.toml", f'[a]\ntoken = "{SECRET}"\nrights = ["read"]', mode=0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        TokenFile(path)
    write(path, f'[a]\nsha256 = "{DIGEST}"\nrights = ["read"]', mode=0o644)
    assert TokenFile(path).find(SECRET) is not None


def test_no_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="augserver token"):
        TokenFile(tmp_path / "none.toml")


def test_a_changed_file_counts_from_the_next_call_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "tokens.toml", f'[a]\nsha256 = "{DIGEST}"\nrights = ["read"]')
    tokens = TokenFile(path)
    write(path, "[a")
    os.utime(path, ns=(1, 1))  # another time, even on a coarse clock
    assert tokens.find(SECRET) is not None
    assert tokens.find(SECRET) is not None
    assert caplog.text.count("the tokens stay as they were") == 1
    path.unlink()
    assert tokens.find(SECRET) is not None
    new = "quite-another-secret"
    write(path, f'[b]\ntoken = "{new}"\nrights = ["warp"]')
    os.utime(path, ns=(2, 2))
    found = tokens.find(new)
    assert found is not None
    assert found.name == "b"
    assert tokens.find(SECRET) is None


def test_the_command_makes_an_entry_that_its_token_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from augserver.cli import main

    with pytest.raises(SystemExit) as caught:
        main(["token", "trainer-a", "--rights", "read"])
    assert caught.value.code == 0
    entry, said = capsys.readouterr()
    secret = said.split()[-1]
    assert secret not in entry
    caller = TokenFile(write(tmp_path / "tokens.toml", entry, mode=0o644)).find(secret)
    assert caller is not None
    assert (caller.name, caller.rights) == ("trainer-a", {"read"})
    for arguments in (["no name"], ["a", "--rights", "read,fly"]):
        with pytest.raises(SystemExit) as caught:
            main(["token", *arguments])
        assert caught.value.code == ConfigError.exit_code
        assert capsys.readouterr().out == ""


def test_a_change_that_a_shortage_hid_counts_when_it_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "tokens.toml", f'[a]\nsha256 = "{DIGEST}"\nrights = ["read"]\n')
    tokens = TokenFile(path)
    write(path, f'[b]\nsha256 = "{hashlib.sha256(b"the next secret, longer").hexdigest()}"\nrights = ["read"]\n')

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as short:
        short.setattr(Path, "open", fail)
        assert tokens.find(SECRET) is not None  # as it was
        assert tokens.find(SECRET) is not None
    assert sum("the tokens stay as they were" in record.message for record in caplog.records) == 1
    assert tokens.find(SECRET) is None
    assert tokens.find("the next secret, longer") is not None
