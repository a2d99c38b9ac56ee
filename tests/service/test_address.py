"""Addresses: parsed strictly, closed by default."""

from __future__ import annotations

import re
import socket

import pytest

from augserver.config import SecurityConfig, parse_config
from augserver.errors import ConfigError, StateError
from augserver.service.address import Address, parse_address, parse_metrics_address, require_closed, require_free


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:50051", Address("127.0.0.1", 50051)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
    ],
)
def test_an_address_reads_back_as_it_was_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


NO_ADDRESS = ["", "50051", ":50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:٣"]
NO_HOST = ["::1:5", "[::1]", "1.2.3:5", "host.example:5", "[]:5"]


@pytest.mark.parametrize("text", NO_ADDRESS + NO_HOST)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_is_open_to_this_machine_alone(text: str) -> None:
    require_closed(parse_address(text), SecurityConfig(), insecure=False)


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "192.168.0.7:1"])
def test_an_open_address_needs_to_be_asked_for(text: str) -> None:
    address = parse_address(text)
    with pytest.raises(ConfigError, match=r"without encryption.*--insecure"):
        require_closed(address, SecurityConfig(token_file="tokens.toml"), insecure=False)
    with pytest.raises(ConfigError, match=r"to whoever asks.*--token-file"):
        require_closed(address, SecurityConfig(tls_cert="c", tls_key="k"), insecure=False)
    require_closed(address, SecurityConfig(), insecure=True)
    require_closed(address, SecurityConfig(tls_cert="c", tls_key="k", token_file="tokens.toml"), insecure=False)
    require_closed(address, SecurityConfig(tls_cert="c", tls_key="k", tls_client_ca="ca"), insecure=False)


@pytest.mark.parametrize("text", ["127.0.0.1:9", "[::1]:9"])
def test_metrics_on_loopback_need_no_word(text: str) -> None:
    assert str(parse_metrics_address(parse_config({"metrics": {"address": text}}))) == text
    assert parse_metrics_address(parse_config({})) is None


@pytest.mark.parametrize("text", ["0.0.0.0:9", "[::]:9", "192.168.0.7:9"])
def test_metrics_that_others_can_reach_need_to_be_asked_for(text: str) -> None:
    closed = {"tls_cert": "c", "tls_key": "k", "token_file": "tokens.toml"}  # which do not hold for metrics
    with pytest.raises(ConfigError, match=re.escape(f"metrics.address {text} can be reached from other machines")):
        parse_metrics_address(parse_config({"metrics": {"address": text}, "security": closed}))
    for section in ("metrics", "listen"):
        given: dict[str, dict[str, object]] = {"metrics": {"address": text}, "listen": {}}
        given[section]["insecure"] = True
        assert str(parse_metrics_address(parse_config(given))) == text


def test_a_port_that_is_taken_is_refused_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StateError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            require_free(Address("127.0.0.1", port))
    require_free(Address("127.0.0.1", port))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StateError, match=r"192\.0\.2\.1:50051"):  # TEST-NET-1 of RFC 5737
        require_free(Address("192.0.2.1", 50051))
