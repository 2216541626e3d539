"""A container's health check: `health.py grpc ADDRESS` or `health.py http URL`; exit code 0 where it serves.

It is run every few seconds, so it imports only what the one check needs.
"""

from __future__ import annotations

import sys
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

SECONDS = 3.0


def grpc_serves(address: str) -> bool:
    """Whether the server at `address` says SERVING for itself as a whole (gRPC Health Checking Protocol)."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=False
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def http_serves(url: str) -> bool:
    """Whether a GET of `url` is answered with 200, asked directly, whatever proxy the environment names."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=SECONDS) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def main() -> int:
    """Check what the command line names."""
    match sys.argv[1:]:
        case ["grpc", address]:
            healthy = grpc_serves(address)
        case ["http", url]:
            healthy = http_serves(url)
        case _:
            print("usage: health.py grpc ADDRESS | http URL", file=sys.stderr)  # noqa: T201
            return 2
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
