"""Settings: every wrong one is named, with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from augserver.config import ServerConfig, load_config, parse_config
from augserver.errors import ConfigError, NotFoundError


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text("[streams]\nlook_ahead = 5\n[listen]\nkeepalive_s = 3\n")
    config = load_config(path)
    assert config.streams.look_ahead == 5
    assert config.listen.keepalive_s == 3
    assert config.limits == ServerConfig().limits
    assert config.streams.max_streams == ServerConfig().streams.max_streams


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"stream": {}}, r"unknown config section \[stream\], did you mean 'streams'\?"),
        ({"streams": {"lookahead": 2}}, r"unknown config key streams\.lookahead, did you mean 'look_ahead'\?"),
        ({"streams": {"zzzzz": 2}}, r"unknown config key streams\.zzzzz; known: max_streams"),
        ({"streams": 3}, r"must be a section, \[streams\]"),
        ({"kernel": {"threads": True}}, r"kernel\.threads must be of type int, got True"),
        ({"kernel": {"threads": 1.5}}, r"kernel\.threads must be of type int, got 1\.5"),
        ({"kernel": {"threads": -1}}, r"kernel\.threads must be 0 to 1024, got -1"),
        ({"kernel": {"backend": "gpu"}}, r"kernel\.backend must be one of auto, cpu, cuda, got 'gpu'"),
        ({"streams": {"look_ahead": 65}}, r"streams\.look_ahead must be 0 to 64, got 65"),
        ({"streams": {"max_slot_bytes": 5}}, r"streams\.max_slot_bytes must be at least"),
        ({"cache": {"max_bytes": -1}}, r"cache\.max_bytes must be 0 or more bytes, got -1"),
        ({"limits": {"max_batch_size": 0}}, r"limits\.max_batch_size must be 1 to 2048, got 0"),
        ({"limits": {"part_bytes": 1}}, r"limits\.part_bytes must be min_part_bytes to max_part_bytes"),
        ({"limits": {"max_message_bytes": 1 << 31}}, r"limits\.max_message_bytes must be max_part_bytes \+ "),
        ({"listen": {"drain_s": float("nan")}}, r"listen\.drain_s must be 0\.1 to 3600 seconds, got nan"),
        ({"warp": {"depth": 0}}, r"warp\.depth must be 1 to 64, got 0"),
        ({"warp": {"max_bytes": 1 << 21}}, r"warp\.max_bytes must be at least warp\.max_stream_bytes = 1073741824, got 2097152"),
        ({"quarantine": {"max_volumes": -2}}, r"quarantine\.max_volumes must be 0 or more volumes, or -1 .*got -2"),
        ({"listen": {"insecure": 1}}, r"listen\.insecure must be of type bool, got 1"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(document: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(document)


@pytest.mark.parametrize(
    ("document", "volumes", "budget"),
    [({}, 1, 1), ({}, 99, 1), ({}, 150, 3), ({"max_volumes": 0}, 150, 0), ({"max_volumes": 7}, 5, 7)],
)
def test_a_fiftieth_of_the_dataset_may_be_lost_unless_a_number_is_given(document: dict[str, object], volumes: int, budget: int) -> None:
    assert parse_config({"quarantine": document}).quarantine.budget(volumes) == budget


def test_a_missing_or_unreadable_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no config file .*nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    path = tmp_path / "bad.toml"
    path.write_text("[streams\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)
