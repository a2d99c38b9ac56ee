"""A client that knows the address alone reads the same bytes: services, methods and messages come from server reflection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from augclient import connect
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

CLIENT = Path(__file__).with_name("reflection_client.py")
HOW = {"patch": [9, 21, 33], "seed": 5}


def run_client(address: str, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", str(CLIENT), address, json.dumps(request)], capture_output=True, text=True, timeout=90)


@pytest.mark.slow
def test_a_client_that_knows_the_address_alone_gets_dataset_sample_and_batches(open_address: str, ours: Any, recipe_json: Any) -> None:
    done = run_client(open_address, {**HOW, "batch_size": 3, "steps": 3, "recipe": recipe_json, "part_bytes": 16384})
    assert done.returncode == 0, done.stderr
    dataset, sample, *batches = [json.loads(line) for line in done.stdout.splitlines()]
    with connect(open_address) as server:
        ids = server.dataset().volumes
        assert dataset == {
            "fingerprint": server.dataset().fingerprint,
            "shapes": {each: list(server.volume(each).image.shape) for each in ids},
        }
    assert [sample] == ours(open_address, batch_size=1, steps=1, **HOW)
    assert batches == ours(open_address, batch_size=3, steps=3, **HOW)


@pytest.mark.slow
def test_its_error_names_the_field(open_address: str) -> None:
    done = run_client(open_address, {**HOW, "batch_size": 3, "recipe": {"gamma": {"exponent": {"low": 2, "high": 1}}}})
    assert done.returncode == 1
    assert "StatusCode.INVALID_ARGUMENT" in done.stderr
    assert "gamma works on the window's [0, 1]" in done.stderr


def test_without_a_token_a_guarded_server_does_not_even_say_what_it_serves(guarded: Any) -> None:
    with grpc.insecure_channel(guarded.address) as channel, pytest.raises(grpc.RpcError) as refused:
        ProtoReflectionDescriptorDatabase(channel).get_services()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
