"""Generated resources as one static bootstrap, for `envoy --mode validate`, which judges all of them."""

from __future__ import annotations

from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.google import protobuf as gp

from xds.resource import Kind, Resource, ResourceSet


def static_bootstrap(resources: ResourceSet) -> bytes:
    """What ADS would have brought, in one file: discovered parts are put where they are discovered."""
    return bytes(
        bootstrap.Bootstrap(
            static_resources=bootstrap.BootstrapStaticResources(
                clusters=[_cluster(r, resources) for r in resources.of_kind(Kind.CLUSTER).values()],
                listeners=[_listener(r.body, resources) for r in resources.of_kind(Kind.LISTENER).values()],
                secrets=[tls.Secret.parse(r.body) for r in resources.of_kind(Kind.SECRET).values()],
            )
        )
    )


def _cluster(resource: Resource, resources: ResourceSet) -> cluster.Cluster:
    message = cluster.Cluster.parse(resource.body)
    if message.type is cluster.ClusterDiscoveryType.EDS:
        message.type = cluster.ClusterDiscoveryType.STATIC
        message.eds_cluster_config = None
        message.load_assignment = endpoint.ClusterLoadAssignment.parse(
            resources.of_kind(Kind.ENDPOINT)[resource.name].body
        )
    if message.transport_socket is not None:
        message.transport_socket = _static_secrets(message.transport_socket)
    return message


def _listener(body: bytes, resources: ResourceSet) -> listener.Listener:
    message = listener.Listener.parse(body)
    (chain,) = message.filter_chains
    (only,) = chain.filters
    assert only.typed_config is not None
    manager = only.typed_config.unpack()
    assert isinstance(manager, hcm.HttpConnectionManager)
    assert manager.rds is not None
    routes = resources.of_kind(Kind.ROUTE)[manager.rds.route_config_name]
    manager.rds = None
    manager.route_config = route.RouteConfiguration.parse(routes.body)
    only.typed_config = gp.Any.pack(manager)
    if chain.transport_socket is not None:
        chain.transport_socket = _static_secrets(chain.transport_socket)
    return message


def _static_secrets(socket: core.TransportSocket) -> core.TransportSocket:
    """Without a source, a secret's name is one of the bootstrap's own."""
    assert socket.typed_config is not None
    context = socket.typed_config.unpack()
    assert isinstance(context, tls.DownstreamTlsContext | tls.UpstreamTlsContext)
    common = context.common_tls_context
    assert common is not None
    named = [*common.tls_certificate_sds_secret_configs, common.validation_context_sds_secret_config]
    if common.combined_validation_context is not None:
        named.append(common.combined_validation_context.validation_context_sds_secret_config)
    for one in named:
        if one is not None:
            one.sds_config = None
    socket.typed_config = gp.Any.pack(context)
    return socket
