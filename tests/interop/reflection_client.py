"""A client that knows an address and nothing else: what can be called, and with which messages, it asks the server.

usage: python reflection_client.py ADDRESS REQUEST_JSON

Prints JSON lines: the dataset, sample 0 of the request, then every batch of it. Nothing of augserver or augclient is imported.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ITEM_BYTES = {"float32": 4, "float16": 2, "uint8": 1}
INFRASTRUCTURE = "grpc."  # health and reflection: services of gRPC's own


def find_methods(channel: grpc.Channel) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
    """Name -> what calls it with a request given as JSON, for all methods of the one service that is not gRPC's own."""
    database = ProtoReflectionDescriptorDatabase(channel)
    [service] = [name for name in database.get_services() if not name.startswith(INFRASTRUCTURE)]
    described = descriptor_pool.DescriptorPool(database).FindServiceByName(service)

    def caller(method: Any) -> Callable[[Mapping[str, Any]], Any]:
        request, answer = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        kind = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = kind(f"/{service}/{method.name}", request.SerializeToString, answer.FromString)
        return lambda fields: call(json_format.ParseDict(fields, request()), timeout=60)

    return {method.name: caller(method) for method in described.methods if not method.client_streaming}


def assemble(parts: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """What to print of each batch: its shape, and digests of its bytes."""
    for part in parts:
        if part.HasField("header"):
            header, received = part.header, 0
            image = bytearray(math.prod(header.image_shape) * ITEM_BYTES[header.image_dtype])
            label = bytearray(math.prod(header.label_shape) if header.label_shape else 0)
        for whole, offset, some in ((image, part.image_offset, part.image), (label, part.label_offset, part.label)):
            whole[offset : offset + len(some)] = some
            received += len(some)
        if part.last:
            yield {
                "step": part.step,
                "complete": received == len(image) + len(label),
                "image_shape": list(header.image_shape),
                "label_shape": list(header.label_shape),
                "volumes": [sample.volume for sample in header.samples],
                "image": hashlib.sha256(image).hexdigest(),
                "label": hashlib.sha256(label).hexdigest(),
            }


def main(address: str, request: Mapping[str, Any]) -> None:
    """Call what reads, and print what came."""
    of_one = {key: value for key, value in request.items() if key not in ("batch_size", "steps", "delivery", "part_bytes")}
    with grpc.insecure_channel(address) as channel:
        methods = find_methods(channel)
        dataset = methods["GetDataset"]({})
        print(json.dumps({"fingerprint": dataset.fingerprint, "shapes": {each.id: list(each.shape) for each in dataset.volumes}}))
        for batch in [*assemble(iter([methods["GetSample"]({**of_one, "index": 0})])), *assemble(methods["StreamBatches"](request))]:
            print(json.dumps(batch))
    assert not {"augclient", "augserver"} & sys.modules.keys()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
