"""Both adapters take what a stream and a connection take, by the same names and with the same defaults."""

from __future__ import annotations

import inspect
from typing import Any

import augclient
import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorflow")
import augclient.tensorflow
import augclient.torch


def keywords(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_the_adapters_arguments_are_those_of_stream_and_connect() -> None:
    stream, connect = keywords(augclient.client.Server.stream), keywords(augclient.connect)
    for name in ("stride", "writable"):  # of the workers, and of what a framework's arrays allow
        del stream[name]
    del connect["wait_s"]  # as long as reconnect_s
    wanted = stream | connect | {"passes": "continue"}
    assert keywords(augclient.torch.BatchDataset.__init__) == wanted
    assert keywords(augclient.tensorflow.dataset) == wanted


def test_a_connections_arguments_go_with_an_address(toy: Any, running: Any) -> None:
    with augclient.connect(running.address) as server, pytest.raises(augclient.errors.RequestError, match="they go with an address"):
        augclient.tensorflow.dataset(server, augclient.Recipe(), patch=(3, 5, 7), batch_size=4, token="secret")
    data = augclient.tensorflow.dataset(
        running.address,
        augclient.Recipe(),
        patch=(3, 5, 7),
        batch_size=4,
        steps=1,
        token="secret",
        receiver="grpcio",
    )
    assert len(list(data)) == 1
    assert running.servicer.metadata[-1]["authorization"] == "Bearer secret"
