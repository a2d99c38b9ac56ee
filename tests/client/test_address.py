"""Addresses: what connect() takes, a stream reaches; what it cannot reach is refused with the way out."""

from __future__ import annotations

import augclient
import pytest
from augclient import errors
from augclient.wire.address import Address, parse_address

RECIPE = augclient.Recipe()


@pytest.mark.parametrize(
    ("text", "host", "target", "authority"),
    [
        ("gpu-node:50051", "gpu-node", "dns:///gpu-node:50051", "gpu-node:50051"),
        ("my_service:1", "my_service", "dns:///my_service:1", "my_service:1"),
        ("dns:gpu-node:50051", "gpu-node", "dns:///gpu-node:50051", "gpu-node:50051"),
        ("dns:50051", "dns", "dns:///dns:50051", "dns:50051"),
        ("dns:///a.svc.cluster.local:2", "a.svc.cluster.local", "dns:///a.svc.cluster.local:2", "a.svc.cluster.local:2"),
        ("192.0.2.7:65535", "192.0.2.7", "ipv4:192.0.2.7:65535", "192.0.2.7:65535"),
        ("ipv4:192.0.2.7:1", "192.0.2.7", "ipv4:192.0.2.7:1", "192.0.2.7:1"),
        ("[::1]:50051", "::1", "ipv6:[::1]:50051", "[::1]:50051"),
        ("ipv6:[2001:db8::7]:1", "2001:db8::7", "ipv6:[2001:db8::7]:1", "[2001:db8::7]:1"),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", "ipv6:[fe80::1%25eth0]:1", "[fe80::1]:1"),
        ("bücher.example:1", "xn--bcher-kva.example", "dns:///xn--bcher-kva.example:1", "xn--bcher-kva.example:1"),
        ("name.example.:1", "name.example.", "dns:///name.example.:1", "name.example.:1"),
    ],
)
def test_an_address_is_a_host_and_a_port_whatever_stands_before_it(text, host, target, authority):
    address = parse_address(text)
    assert (address.host, address.target, address.authority) == (host, target, authority)
    assert address.every == text.startswith("dns:///")
    assert not address.path


@pytest.mark.parametrize(
    ("text", "path", "target"),
    [
        ("unix:/run/aug.sock", "/run/aug.sock", "unix:/run/aug.sock"),
        ("unix:///run/aug.sock", "/run/aug.sock", "unix:/run/aug.sock"),
        ("unix:here.sock", "here.sock", "unix:here.sock"),
        ("unix-abstract:aug", "\0aug", "unix-abstract:aug"),
    ],
)
def test_a_unix_socket_is_a_path(text, path, target):
    assert parse_address(text) == Address(path=path)
    assert parse_address(text).target == target
    assert parse_address(text).authority == "localhost"


@pytest.mark.parametrize(
    ("text", "way_out"),
    [
        ("https://gpu-node:50051", "pass 'gpu-node:50051' and tls=True"),
        ("grpcs://gpu-node:50051/", "pass 'gpu-node:50051' and tls=True"),
        ("http://gpu-node:50051/", "pass 'gpu-node:50051'"),
        ("tcp://gpu-node:50051", "pass 'gpu-node:50051'"),
        ("dns://192.0.2.1/gpu-node:50051", "pass 'dns:///gpu-node:50051'"),
        ("xds:///gpu-node", "scheme 'xds' is not known"),
        ("passthrough:///127.0.0.1:1", "scheme 'passthrough' is not known"),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", r"given as a list: \['127.0.0.1:1', '127.0.0.1:2'\]"),
        ("ipv4:gpu-node:1", "stands before a numeric address"),
        ("ipv6:192.0.2.1:1", "stands before a numeric address"),
        ("::1:50051", r"stands in brackets: '\[::1\]:50051'"),
        ("[gpu-node]:1", "only an IPv6 address stands in brackets"),
        ("[::1]", "host:port"),
        ("gpu-node", "host:port"),
        ("gpu-node:http", "host:port"),
        ("gpu-node:0", "host:port"),
        ("gpu-node:70000", "host:port"),
        ("gpu-node:50051/", "host:port"),
        ("user@gpu-node:1", "no name of a host"),
        ("gpu node:1", "no name of a host"),
        ("a..b:1", "no name of a host"),
        (f"{'x' * 70}.y:80", "no name of a host"),
        ("dns:///", "host:port"),
        ("unix:", "1 to 107 bytes"),
        ("unix://run/aug.sock", "three slashes"),
        (f"unix:/{'x' * 120}", "1 to 107 bytes"),
    ],
)
def test_what_cannot_be_reached_is_refused_by_connect_with_the_way_out(text, way_out):
    with pytest.raises(errors.ConfigError, match=way_out) as caught:
        augclient.connect([text])
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ipv4:127.0.0.1:{}", "localhost:{}", "dns:localhost:{}", "dns:///localhost:{}"])
def test_what_connect_takes_a_stream_and_a_volume_reach(toy, running, form):
    with augclient.connect(form.format(running.port), timeout_s=5) as server:
        batches = list(server.stream(RECIPE, patch=(3, 5, 7), batch_size=2, steps=3, reconnect_s=0, transport="grpc"))
        assert [batch.step for batch in batches] == [0, 1, 2]
        assert server.volume("case_1").label.shape == (5, 7, 11)
