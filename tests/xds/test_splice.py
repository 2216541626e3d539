"""What is spliced is what envoy-data-plane would have written."""

from __future__ import annotations

import pytest
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.rbac import v3 as rbac
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.extensions.filters.http.rbac import v3 as http_rbac
from hypothesis import given
from hypothesis import strategies as st

from pdp.deployment import Address, Endpoint
from xds.authoring import exact, packed, seconds
from xds.clusters import server_resources
from xds.filters import EXT_AUTHZ, RBAC
from xds.resource import Kind
from xds.routes import ServerRoutes, server_routes
from xds.splice import splice, spliced_any, typed

TEXT = st.text(max_size=300)


@given(name=TEXT, items=st.lists(TEXT, max_size=5))
def test_strings_and_repeated_fields(name: str, items: list[str]) -> None:
    spliced = splice(route.VirtualHost, name=name, domains=items)
    assert route.VirtualHost.parse(spliced) == route.VirtualHost(name=name, domains=items)


@given(path=TEXT, key=TEXT.filter(bool))
def test_messages_and_maps(path: str, key: str) -> None:
    config = route.FilterConfig(disabled=True)
    spliced = splice(
        route.Route,
        match=splice(route.RouteMatch, path=path),
        typed_per_filter_config={key: typed(config)},
    )
    authored = route.Route(match=route.RouteMatch(path=path), typed_per_filter_config={key: packed(config)})
    assert route.Route.parse(spliced) == authored


def test_an_any_of_bytes_is_an_any_of_the_message() -> None:
    message = route.RouteMatch(path="/a")
    assert spliced_any(route.RouteMatch, bytes(message)) == typed(message)


def test_long_payloads() -> None:
    for size in (0, 1, 127, 128, 16_383, 16_384, 3_000_000):
        spliced = splice(core.DataSource, inline_string="x" * size)
        assert len(core.DataSource.parse(spliced).inline_string or "") == size


def test_a_field_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        splice(route.Route, nmae="typo")


def test_a_servers_routes_are_as_if_authored() -> None:
    bots = [f"spiffe://corp.example/{name}" for name in ("a", "b")]
    given_ = ServerRoutes("mesh", "presto", "/inner", frozenset(bots), "https://x/presto/mcp", ("https://i",))
    host = route.VirtualHost.parse(server_routes(given_))
    policies = {
        bot: rbac.Policy(
            permissions=[rbac.Permission(any=True)],
            principals=[rbac.Principal(authenticated=rbac.PrincipalAuthenticated(principal_name=exact(bot)))],
        )
        for bot in bots
    }
    settings = ext_authz.CheckSettings(context_extensions={"server": "presto", "listener": "mesh"})
    assert host.routes[0] == route.Route(
        name="presto/mcp",
        match=route.RouteMatch(path="/presto/mcp"),
        route=route.RouteAction(
            cluster="server-presto",
            prefix_rewrite="/inner",
            timeout=seconds(0),
            idle_timeout=seconds(900),
            max_stream_duration=route.RouteActionMaxStreamDuration(max_stream_duration=seconds(3600)),
        ),
        typed_per_filter_config={
            EXT_AUTHZ: packed(ext_authz.ExtAuthzPerRoute(check_settings=settings)),
            RBAC: packed(http_rbac.RbacPerRoute(rbac=http_rbac.Rbac(rules=rbac.Rbac(policies=policies)))),
        },
    )
    assert host.routes[1].match is not None
    assert host.routes[1].match.path == "/.well-known/oauth-protected-resource/presto/mcp"


def test_endpoints_are_as_if_authored() -> None:
    _, made = server_resources("presto", Endpoint((Address("10.0.0.1", 1), Address(unix="/run/x"))))
    assert made.kind is Kind.ENDPOINT
    addresses = [
        core.Address(socket_address=core.SocketAddress(address="10.0.0.1", port_value=1)),
        core.Address(pipe=core.Pipe(path="/run/x")),
    ]
    assert endpoint.ClusterLoadAssignment.parse(made.body) == endpoint.ClusterLoadAssignment(
        cluster_name="server-presto",
        endpoints=[
            endpoint.LocalityLbEndpoints(
                lb_endpoints=[
                    endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address)) for address in addresses
                ]
            )
        ],
    )
