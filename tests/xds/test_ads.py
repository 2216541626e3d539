"""The service's own doors: who may connect, and what it does with those who may not."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from gatehouse.devca import DevCa, Pair
from gatehouse.state import State
from identity.principal import SpiffeId
from pdp.deployment import Address
from tests.support.envoy import eventually
from tests.xds.client import Client
from tests.xds.made import whole
from tests.xds.plane import Loop, Plane, running_plane
from xds.ads import SERVICE, AdsServer, AdsService, Tls
from xds.metrics import Metrics
from xds.resource import Kind

METHODS = ["StreamAggregatedResources", "DeltaAggregatedResources"]


@pytest.fixture
def ca(tmp_path: Path) -> DevCa:
    return DevCa(State(tmp_path))


def credentials(ca: DevCa, pair: Pair | None) -> grpc.ChannelCredentials:
    root = ca.state.server_ca.read_bytes()
    if pair is None:
        return grpc.ssl_channel_credentials(root)
    return grpc.ssl_channel_credentials(root, pair.key.read_bytes(), pair.certificate.read_bytes())


def gets_anything(port: int, ca: DevCa, pair: Pair | None) -> bool:
    with grpc.secure_channel(f"localhost:{port}", credentials(ca, pair)) as channel:
        client = Client(channel, delta=True)
        client.subscribe(Kind.CLUSTER)
        try:
            client.wait(lambda: bool(client.received) or client.ended is not None, "an answer or an end")
            return bool(client.received)
        finally:
            client.close()


def test_with_tls_a_client_must_show_a_certificate_of_the_authority(ca: DevCa, tmp_path: Path) -> None:
    server = ca.server_pair("xds")
    envoy = ca.x509_svid(SpiffeId.parse("spiffe://corp.example/ns/prod/sa/envoy"))
    stranger = DevCa(State(tmp_path / "other")).x509_svid(SpiffeId.parse("spiffe://corp.example/envoy"))
    tls = Tls(server.certificate, server.key, ca.x509_bundle("corp.example"))
    with running_plane(tls) as plane:
        plane.publish(whole(cluster={"a": "1"}))
        assert gets_anything(plane.port, ca, envoy)
        assert not gets_anything(plane.port, ca, None)
        assert not gets_anything(plane.port, ca, stranger)


def test_a_renewed_certificate_is_shown_to_the_next_client(ca: DevCa) -> None:
    server = ca.server_pair("xds")
    bundle = ca.x509_bundle("corp.example")
    with running_plane(Tls(server.certificate, server.key, bundle)) as plane:
        before = ssl.get_server_certificate(("127.0.0.1", plane.port), timeout=5)
        ca.server_pair("xds")
        eventually(
            lambda: ssl.get_server_certificate(("127.0.0.1", plane.port), timeout=5) != before, "the new one"
        )


def test_off_loopback_there_is_no_serving_without_tls() -> None:
    loop = Loop()

    async def bind() -> None:
        AdsServer(AdsService({}, Metrics(CollectorRegistry())), Address("0.0.0.0", 0))

    with pytest.raises(ValueError, match="TLS is required"):
        loop.run(bind())
    loop.close()


def test_a_port_that_is_taken_is_an_error(plane: Plane) -> None:
    async def bind() -> None:
        AdsServer(AdsService({}, Metrics(CollectorRegistry())), Address("127.0.0.1", plane.port))

    with pytest.raises(OSError, match=str(plane.port)):
        plane.loop.run(bind())


@pytest.mark.parametrize("delta", [False, True])
def test_an_unknown_role_is_refused(plane: Plane, delta: bool) -> None:
    plane.publish(whole(cluster={"a": "1"}))
    with grpc.insecure_channel(f"127.0.0.1:{plane.port}") as channel:
        client = Client(channel, delta=delta, role="somebody")
        client.subscribe(Kind.CLUSTER)
        client.wait(lambda: client.ended is not None, "the end")
        assert client.ended is grpc.StatusCode.PERMISSION_DENIED
        assert client.received == []
        client.close()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_request_is_refused(plane: Plane, method: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{plane.port}") as channel:
        call = channel.stream_stream(f"/{SERVICE}/{method}")(iter([b"\xff\xff\xff"]))
        with pytest.raises(grpc.RpcError):
            list(call)
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", METHODS)
def test_a_client_that_says_nothing_and_leaves(plane: Plane, method: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{plane.port}") as channel:
        assert list(channel.stream_stream(f"/{SERVICE}/{method}")(iter([]))) == []


@pytest.mark.parametrize("delta", [False, True])
def test_connected_counts_open_streams(plane: Plane, delta: bool) -> None:
    plane.publish(whole(cluster={"a": "1"}))
    with grpc.insecure_channel(f"127.0.0.1:{plane.port}") as channel:
        client = Client(channel, delta=delta)
        client.subscribe(Kind.CLUSTER)
        client.wait(lambda: bool(client.received), "clusters")
        assert plane.metric("gatehouse_xds_connected") == 1
        eventually(lambda: plane.metric("gatehouse_xds_pushes_total", type="cluster") == 1, "counted")
        client.close()
    eventually(lambda: plane.metric("gatehouse_xds_connected") == 0, "gone")
    assert plane.publication.watchers == 0
