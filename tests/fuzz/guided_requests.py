"""Coverage-guided fuzzing (atheris) of what reads a client's bytes, in this process: requests, items to warp, parts of batches.

    python tests/fuzz/guided_requests.py -runs=100000 -seed=1

Only errors of the tree may come out; anything else ends the run with the input that caused it.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["augserver", "augclient"]):
    from augclient.wire.parts import decode_part
    from augclient.wire.v1 import augserver_pb2 as pb

    from augserver.config import LimitConfig
    from augserver.errors import AugError
    from augserver.pipeline.byte_budget import ByteBudget
    from augserver.service.requests import RequestReader
    from augserver.service.warp_requests import read_items
    from augserver.store import Dataset, DatasetWriter

import numpy as np
from google.protobuf.message import DecodeError

sys.path.insert(0, str(Path(__file__).parent))
from wild_calls import make_request

KINDS = [(0x00, pb.StreamBatchesRequest), (0x50, pb.GetSampleRequest), (0x90, pb.WarpPart), (0xD0, pb.BatchPart)]
SEEDS = 300  # requests to begin with, so that the first mutations are of something that gets far


def make_dataset(path: Path) -> Dataset:
    """Two small volumes with labels."""
    with DatasetWriter(path, modality="ct", classes={1: "liver"}) as writer:
        for name in ("case_1", "case_2"):
            image, label = np.zeros((1, 8, 9, 10), np.int16), np.ones((8, 9, 10), np.uint8)
            writer.write(name, image, label, (1.0, 1.0, 1.0), np.eye(4)[[2, 1, 0, 3]], {})
        writer.finish()
    return Dataset.open(path)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        limits = LimitConfig(max_patch_voxels=100_000, max_batch_bytes=1 << 22)
        reader = RequestReader(make_dataset(Path(folder) / "toy.zarr"), limits, ("exact",))
        budget = ByteBudget(1 << 22, 1 << 22, section="warp")

        def read_one(data: bytes) -> None:
            kind, payload = data[:1], data[1:]
            with contextlib.suppress(AugError, DecodeError):
                if kind < b"\x40":
                    checked = reader.read_stream(pb.StreamBatchesRequest.FromString(payload))
                    for index in checked.spec.indices(checked.spec.start):
                        checked.spec.plan.address(index)
                elif kind < b"\x60":
                    reader.read_sample(pb.GetSampleRequest.FromString(payload))
                elif kind < b"\x80":
                    reader.read_volume(pb.GetVolumeRequest.FromString(payload))
                elif kind < b"\xc0":
                    with budget.open() as share:
                        for item in read_items(iter([payload]), limits=limits, share=share):
                            share.give(item.size_bytes)
                else:
                    decode_part(payload)

        corpus, rng = Path(folder) / "corpus", random.Random(1)
        corpus.mkdir()
        for number in range(SEEDS):
            kind, message = rng.choice(KINDS)
            (corpus / str(number)).write_bytes(bytes([kind]) + make_request(rng, message).SerializeToString())
        atheris.Setup([*sys.argv, str(corpus)], read_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
