"""Where Envoy connects to: ext_authz, and each server. What servers share is serialized once (splice.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.clusters.common.dns import v3 as common_dns
from envoy_data_plane.envoy.extensions.clusters.dns import v3 as dns
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream
from envoy_data_plane.envoy.type import v3 as http
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from pdp.deployment import Address, ClientTls, Endpoint, Service
from xds.authoring import (
    EXT_AUTHZ_CLUSTER,
    address_of,
    from_ads,
    needs_dns,
    packed,
    seconds,
    secret,
    tls_floor,
)
from xds.resource import Kind, Reference, Resource
from xds.secrets import authority_name, certificate_name
from xds.splice import splice

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Python servers drop an idle connection after 5 s; letting go first leaves no request on a dying one.
_SERVER_IDLE_SECONDS = 4


def cluster_name(server: str) -> str:
    return f"server-{server}"


def ext_authz_cluster(service: Service) -> Resource:
    """The check's cluster: every replica, those left out that don't answer the health check.

    A killed replica is noticed at once by its closed connection and let back in by a check each 250 ms. With
    none healthy they are all tried (panic below 1 %), so that a lone one needs no check to be back.
    """
    message = _shared_cluster(http2=True)
    message.name = EXT_AUTHZ_CLUSTER
    if any(map(needs_dns, service.addresses)):
        message.cluster_type = _dns(refresh=1)
    else:
        message.type = cluster.ClusterDiscoveryType.STATIC
    message.connect_timeout = seconds(0.25)
    message.load_assignment = _assignment(EXT_AUTHZ_CLUSTER, service.addresses)
    message.health_checks = [_health_check()]
    message.common_lb_config = cluster.ClusterCommonLbConfig(healthy_panic_threshold=http.Percent(value=1))
    uses: list[Reference] = []
    if service.tls is not None:
        message.transport_socket = _upstream_tls(service.tls, service.addresses[0].host, EXT_AUTHZ_CLUSTER)
        uses += _tls_uses(service.tls, EXT_AUTHZ_CLUSTER)
    return Resource.of(Kind.CLUSTER, EXT_AUTHZ_CLUSTER, bytes(message), uses)


def server_resources(server: str, where: Endpoint) -> tuple[Resource, ...]:
    """One server's cluster and, where its addresses need no DNS, its endpoints beside it."""
    name = cluster_name(server)
    named = any(map(needs_dns, where.addresses))
    uses: list[Reference] = []
    parts: dict[str, bytes] = {}
    if where.tls is not None:
        parts["transport_socket"] = _serialized_tls(where.tls, where.addresses[0].host)
        uses += _tls_uses(where.tls, None)
    assignment = _spliced_assignment(name, where.addresses)
    if named:
        parts["load_assignment"] = assignment
    else:
        uses.append((Kind.ENDPOINT, name))
    body = splice(cluster.Cluster, _server_cluster(named), name=name, **parts)
    made = Resource.of(Kind.CLUSTER, name, body, uses)
    return (made,) if named else (made, Resource.of(Kind.ENDPOINT, name, assignment))


@cache
def _server_cluster(named: bool) -> bytes:
    """What every server's cluster has in common: HTTP/1.1, as the Python servers speak it."""
    message = _shared_cluster(http2=False)
    message.connect_timeout = seconds(1)
    if named:
        message.cluster_type = _dns(refresh=5)
    else:
        message.type = cluster.ClusterDiscoveryType.EDS
        message.eds_cluster_config = cluster.ClusterEdsClusterConfig(eds_config=from_ads())
    return bytes(message)


def _shared_cluster(*, http2: bool) -> cluster.Cluster:
    options = upstream.HttpProtocolOptionsExplicitHttpConfig(
        http_protocol_options=None if http2 else core.Http1ProtocolOptions(),
        http2_protocol_options=_http2() if http2 else None,
    )
    idle = seconds(_SERVER_IDLE_SECONDS) if not http2 else seconds(3600)
    protocol = upstream.HttpProtocolOptions(
        explicit_http_config=options,
        common_http_protocol_options=core.HttpProtocolOptions(idle_timeout=idle),
    )
    # A stream that waits for events is a request that stays open: the limit is on what one server may hold.
    limit = cluster.CircuitBreakersThresholds(
        max_connections=4096, max_pending_requests=1024, max_requests=4096, max_retries=0
    )
    return cluster.Cluster(
        typed_extension_protocol_options={_HTTP_OPTIONS: packed(protocol)},
        circuit_breakers=cluster.CircuitBreakers(thresholds=[limit]),
    )


def _http2() -> core.Http2ProtocolOptions:
    # A replica that is frozen or cut off closes no connection: pings find it.
    return core.Http2ProtocolOptions(
        connection_keepalive=core.KeepaliveSettings(interval=seconds(5), timeout=seconds(1))
    )


def _health_check() -> core.HealthCheck:
    return core.HealthCheck(
        timeout=seconds(0.5),
        interval=seconds(1),
        no_traffic_interval=seconds(1),
        unhealthy_interval=seconds(0.25),
        unhealthy_threshold=2,
        healthy_threshold=1,
        initial_jitter=seconds(0.05),
        grpc_health_check=core.HealthCheckGrpcHealthCheck(authority=EXT_AUTHZ_CLUSTER),
    )


def _dns(refresh: float) -> cluster.ClusterCustomClusterType:
    """Host names, all of whose addresses are used; looked up each `refresh` seconds, a failed one sooner."""
    return cluster.ClusterCustomClusterType(
        name="envoy.clusters.dns",
        typed_config=packed(
            dns.DnsCluster(
                dns_refresh_rate=seconds(refresh),
                dns_failure_refresh_rate=dns.DnsClusterRefreshRate(
                    base_interval=seconds(0.25), max_interval=seconds(1)
                ),
                dns_lookup_family=common_dns.DnsLookupFamily.ALL,
            )
        ),
    )


def _assignment(name: str, addresses: Sequence[Address]) -> endpoint.ClusterLoadAssignment:
    return endpoint.ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            endpoint.LocalityLbEndpoints(
                lb_endpoints=[
                    endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address_of(address)))
                    for address in addresses
                ]
            )
        ],
    )


def _spliced_assignment(name: str, addresses: Sequence[Address]) -> bytes:
    """What `_assignment` gives, serialized at a tenth of the time."""
    lb_endpoints = [
        splice(
            endpoint.LbEndpoint,
            endpoint=splice(endpoint.Endpoint, address=bytes(address_of(address))),
        )
        for address in addresses
    ]
    locality = splice(endpoint.LocalityLbEndpoints, lb_endpoints=lb_endpoints)
    return splice(endpoint.ClusterLoadAssignment, cluster_name=name, endpoints=locality)


@cache
def _serialized_tls(client: ClientTls, host: str) -> bytes:
    return bytes(_upstream_tls(client, host, None))


def _upstream_tls(client: ClientTls, host: str, owner: str | None) -> core.TransportSocket:
    """TLS to a peer whose certificate must hold its name; ours is shown where `owner` has one."""
    name = client.server_name or host
    is_dns = needs_dns(Address(name))
    san = tls.SubjectAltNameMatcherSanType
    named = tls.SubjectAltNameMatcher(
        san_type=san.DNS if is_dns else san.IP_ADDRESS, matcher=matcher.StringMatcher(exact=name)
    )
    proof = owner is not None and client.certificate is not None
    context = tls.UpstreamTlsContext(
        sni=name if is_dns else "",
        common_tls_context=tls.CommonTlsContext(
            tls_params=tls_floor(),
            alpn_protocols=["h2"] if owner is not None else ["http/1.1"],
            tls_certificate_sds_secret_configs=[secret(certificate_name(owner))] if proof and owner else [],
            combined_validation_context=tls.CommonTlsContextCombinedCertificateValidationContext(
                default_validation_context=tls.CertificateValidationContext(
                    match_typed_subject_alt_names=[named]
                ),
                validation_context_sds_secret_config=secret(authority_name(client.ca)),
            ),
        ),
    )
    return core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _tls_uses(client: ClientTls, owner: str | None) -> list[Reference]:
    uses: list[Reference] = [(Kind.SECRET, authority_name(client.ca))]
    if owner is not None and client.certificate is not None:
        uses.append((Kind.SECRET, certificate_name(owner)))
    return uses
