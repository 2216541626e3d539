"""Envoy's two doors: users with a JWT, and the mesh with an X.509-SVID."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls

from pdp.deployment import Listener
from xds.accesslog import access_log
from xds.authoring import (
    EXT_AUTHZ_CLUSTER,
    MESH,
    address_of,
    from_ads,
    packed,
    seconds,
    secret,
    tls_floor,
)
from xds.filters import MAX_BODY_BYTES, http_filters, strip_forged_headers
from xds.replies import local_replies
from xds.resource import Kind, Reference, Resource
from xds.secrets import MESH_TRUST, certificate_name

MAX_STREAM_SECONDS = 3600
_HEADERS_KIB = 48  # a token has at most 16 KiB


def listener_resource(name: str, door: Listener) -> Resource:
    """The listener called `name`; its routes are the route configuration of the same name."""
    uses: list[Reference] = [(Kind.ROUTE, name), (Kind.CLUSTER, EXT_AUTHZ_CLUSTER)]
    chain = listener.FilterChain(
        filters=[
            listener.Filter(
                name="envoy.filters.network.http_connection_manager",
                typed_config=packed(connection_manager(name)),
            )
        ],
        transport_socket_connect_timeout=seconds(10),
    )
    if door.tls is not None:
        chain.transport_socket = _downstream_tls(name)
        uses.append((Kind.SECRET, certificate_name(name)))
        if name == MESH:
            uses.append((Kind.SECRET, MESH_TRUST))
    message = listener.Listener(
        name=name,
        address=address_of(door.address),
        stat_prefix=name,
        filter_chains=[chain],
        # Room for one whole body and its headers; the MCP filter reads bodies before anything goes on.
        per_connection_buffer_limit_bytes=MAX_BODY_BYTES + 64 * 1024,
        # Otherwise a second Envoy binds the same port without a word, and takes half the traffic.
        enable_reuse_port=False,
    )
    return Resource.of(Kind.LISTENER, name, bytes(message), uses)


def connection_manager(name: str) -> hcm.HttpConnectionManager:
    """HTTP as strict as Envoy can be told to read it."""
    escaped = hcm.HttpConnectionManagerPathWithEscapedSlashesAction
    manager = hcm.HttpConnectionManager(
        stat_prefix=name,
        rds=hcm.Rds(config_source=from_ads(), route_config_name=name),
        http_filters=http_filters(name),
        early_header_mutation_extensions=[strip_forged_headers()],
        access_log=[access_log(name)],
        local_reply_config=local_replies(),
        # The path and the host are what routes say, or nothing.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=escaped.REJECT_REQUEST,
        strip_any_host_port=True,
        strip_trailing_host_dot=True,
        # Nobody is "internal": whoever connects is the remote address, and its request id is made here.
        use_remote_address=True,
        # An empty list means the private networks and loopback, so one that holds no client at all.
        internal_address_config=hcm.HttpConnectionManagerInternalAddressConfig(
            cidr_ranges=[core.CidrRange(address_prefix="255.255.255.255", prefix_len=32)]
        ),
        generate_request_id=True,
        always_set_request_id_in_response=True,
        max_request_headers_kb=_HEADERS_KIB,
        request_headers_timeout=seconds(10),
        request_timeout=seconds(60),
        stream_idle_timeout=seconds(300),
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=seconds(900),
            max_headers_count=100,
            max_stream_duration=seconds(MAX_STREAM_SECONDS),
            headers_with_underscores_action=(
                core.HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST
            ),
        ),
        http_protocol_options=core.Http1ProtocolOptions(accept_http_10=False, allow_chunked_length=False),
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=100,
            initial_stream_window_size=64 * 1024,
            initial_connection_window_size=1024 * 1024,
        ),
        forward_client_cert_details=hcm.HttpConnectionManagerForwardClientCertDetails.SANITIZE,
    )
    if name == MESH:
        _forward_workload(manager)
    return manager


def _forward_workload(manager: hcm.HttpConnectionManager) -> None:
    """Who the peer is goes on where Envoy itself verified it; what a client says of it never does."""
    details = hcm.HttpConnectionManagerForwardClientCertDetails
    manager.forward_client_cert_details = details.SANITIZE_SET
    manager.set_current_client_cert_details = hcm.HttpConnectionManagerSetCurrentClientCertDetails(uri=True)


def _downstream_tls(name: str) -> core.TransportSocket:
    mesh = name == MESH
    context = tls.DownstreamTlsContext(
        common_tls_context=tls.CommonTlsContext(
            tls_params=tls_floor(),
            tls_certificate_sds_secret_configs=[secret(certificate_name(name))],
            validation_context_sds_secret_config=secret(MESH_TRUST) if mesh else None,
            alpn_protocols=["h2", "http/1.1"],
        ),
        require_client_certificate=mesh,
        # A resumed session is not checked again: a certificate would outlive its hour.
        disable_stateless_session_resumption=mesh,
        disable_stateful_session_resumption=mesh,
    )
    return core.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))
