"""Ask a server for its health over gRPC, as orchestrators do: exit code 0 if it is SERVING, else 1 and the reason on stderr.

    python health.py 127.0.0.1:50051 [--tls-ca FILE [--tls-name NAME] [--tls-cert FILE --tls-key FILE]]

A probe needs no token: health is open to whoever reaches the port. With TLS it trusts --tls-ca; --tls-name is what the certificate is
for, since the probe calls by address; where the server asks for certificates (mTLS) the probe shows --tls-cert.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 4.0  # below the five seconds after which the engine gives up, so that the reason is told


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Ask a server for its health over gRPC.")
    parser.add_argument("address")
    parser.add_argument("--tls-ca", type=Path)
    parser.add_argument("--tls-name")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    given = parser.parse_args()
    with _channel(given) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            print(f"health: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return 0
    print(f"health: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}", file=sys.stderr)
    return 1


def _channel(given: argparse.Namespace) -> grpc.Channel:
    if given.tls_ca is None:
        return grpc.insecure_channel(given.address)
    pem = [None if path is None else path.read_bytes() for path in (given.tls_ca, given.tls_key, given.tls_cert)]
    options = [("grpc.ssl_target_name_override", given.tls_name)] if given.tls_name else []
    return grpc.secure_channel(given.address, grpc.ssl_channel_credentials(*pem), options)


if __name__ == "__main__":
    sys.exit(main())
