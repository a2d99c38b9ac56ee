"""Shares of batches: the shares of a fleet are the whole batches, byte for byte, and a share without meaning is refused."""

from __future__ import annotations

import re
from typing import Any

import grpc
import numpy as np
import pytest
from augclient.wire.rendezvous import order
from augclient.wire.v1 import augserver_pb2 as pb

FLEET = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]  # more than volumes: somebody has nothing to do
RECIPE = pb.Recipe(crop=pb.Recipe.Crop(mode="uniform"), noise=pb.Recipe.Noise(std=pb.Range(low=1, high=5)))


def batches(running: Any, **fields: Any) -> dict[int, list[tuple[pb.Sample, bytes, bytes]]]:
    """step -> (provenance, image, label) of each sample that came, through generated code."""
    request = pb.StreamBatchesRequest(**{"recipe": RECIPE, "patch": [5, 7, 11], "batch_size": 6, "steps": 4, "seed": 3} | fields)
    taken: dict[int, list[tuple[pb.Sample, bytes, bytes]]] = {}
    header, image, label = pb.BatchHeader(), b"", b""
    for part in running.stub.StreamBatches(request):
        if part.HasField("header"):
            header, image, label = part.header, b"", b""
        image, label = image + part.image, label + part.label
        if part.last:
            count = header.image_shape[0]
            assert count == header.label_shape[0] == len(header.samples)
            images = np.frombuffer(image, np.uint8).reshape(count, 5 * 7 * 11 * 4)
            labels = np.frombuffer(label, np.uint8).reshape(count, 5 * 7 * 11)
            taken[part.step] = [(s, i.tobytes(), lab.tobytes()) for s, i, lab in zip(header.samples, images, labels, strict=True)]
    return taken


@pytest.mark.parametrize("delivery", [pb.PARTS, pb.SAMPLES])
@pytest.mark.parametrize(("world", "rank"), [(1, 0), (2, 1)])
def test_shares_of_all_members_are_the_whole_batches(running: Any, delivery: int, world: int, rank: int) -> None:
    how = {"world": world, "rank": rank}
    whole = batches(running, **how)
    shares = [batches(running, share=pb.Share(members=FLEET, member=each), delivery=delivery, **how) for each in FLEET]
    assert all(list(share) == list(whole) for share in shares)  # every step is answered, be it by no sample
    for step, samples in whole.items():
        merged = [sample for share in shares for sample in share[step]]
        assert sorted(merged, key=lambda each: each[0].index) == samples
        assert sum(not share[step] for share in shares) >= 1


def test_a_share_holds_the_samples_of_the_volumes_that_the_member_owns(running: Any) -> None:
    whole = [sample.volume for samples in batches(running).values() for sample, *_ in samples]
    for member in FLEET:
        own = batches(running, share=pb.Share(members=FLEET, member=member))
        taken = [sample.volume for samples in own.values() for sample, *_ in samples]
        assert taken == [volume for volume in whole if order(FLEET, volume)[0] == member]


def test_stand_ins_send_what_the_late_members_would_have_sent(running: Any) -> None:
    late = {order(FLEET, volume)[0] for volume in ("case_1", "case_2")}
    rest = [member for member in FLEET if member not in late]
    due = [batches(running, share=pb.Share(members=FLEET, member=each)) for each in late]
    came = [batches(running, share=pb.Share(members=FLEET, member=each, instead_of=late)) for each in rest]
    for step in range(4):
        assert sorted((s for d in due for s in d[step]), key=lambda each: each[0].index) == sorted(
            (s for c in came for s in c[step]), key=lambda each: each[0].index
        )
    assert any(due[0].values())


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({}, r"share\.members must be 1 to 1024 different names, got 0"),
        ({"members": ["a", "b", "a"], "member": "a"}, r"got 3, 2 of them different"),
        ({"members": [str(k) for k in range(1025)], "member": "1"}, r"got 1025"),
        ({"members": ["a", ""], "member": "a"}, r"1 to 256 characters"),
        ({"members": ["a" * 257], "member": "a" * 257}, r"got one of 257"),
        ({"members": ["a", "b"], "member": "c"}, r"share\.member must be one of the 2 share\.members, got 'c'"),
        ({"members": ["a", "b"]}, r"got ''"),
        ({"members": ["a", "b"], "member": "a", "instead_of": ["c"]}, r"share\.instead_of"),
        ({"members": ["a", "b"], "member": "a", "instead_of": ["a"]}, r"share\.instead_of"),
    ],
)
def test_a_share_without_meaning_is_refused(running: Any, share: dict[str, Any], message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        batches(running, share=pb.Share(**share))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(message, error.details()), error.details()
    assert len(error.details()) < 600
