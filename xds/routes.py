"""Routes: one exact path a server, and ext_authz is told which server that is.

A path never says who is called: `context_extensions` of the route that matched does. Whatever matches no
server's route reaches a catch-all that names none, so that ext_authz still gives the reason.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.rbac import v3 as rbac
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.extensions.filters.http.rbac import v3 as http_rbac
from envoy_data_plane.envoy.extensions.filters.http.stateful_session import v3 as stateful_session
from envoy_data_plane.envoy.extensions.http.stateful_session.envelope import v3 as envelope
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google import protobuf as gp

from pdp import headers, reasons
from pdp.deployment import Deployment, Listener
from xds.authoring import MESH, exact, extension, packed, seconds
from xds.clusters import cluster_name
from xds.filters import CORS, EXT_AUTHZ, MCP, RBAC, STATEFUL_SESSION
from xds.listeners import MAX_STREAM_SECONDS
from xds.replies import direct, refusal
from xds.resource import Kind, Reference, Resource
from xds.splice import splice, spliced_any, typed

METHODS = ("POST", "GET", "DELETE", "OPTIONS")
# A stream that says nothing for this long is cut; the servers send a ping more often than that.
_STREAM_IDLE_SECONDS = 900
_METADATA_PATH = "/.well-known/oauth-protected-resource"

_CORS_REQUEST_HEADERS = (
    headers.AUTHORIZATION,
    "content-type",
    "accept",
    headers.PROTOCOL_VERSION,
    headers.SESSION,
    "mcp-method",
    "mcp-name",
    "last-event-id",
    "traceparent",
    "tracestate",
)
_CORS_EXPOSED_HEADERS = (headers.SESSION, "www-authenticate", headers.DECISION, "x-request-id")


@dataclass(frozen=True, slots=True)
class ServerRoutes:
    """All that one server's routes on one listener are made from."""

    listener: str
    server: str
    path: str | None
    """The server's own MCP endpoint; None where it has none or isn't in force: the route stays, so that
    ext_authz gives the reason, and behind it is no cluster.
    """
    reach: frozenset[str]
    """SPIFFE IDs."""
    resource_url: str
    issuers: tuple[str, ...]
    replicas: bool = False
    """Whether the server may have several: then a session stays with the one that opened it."""


def server_routes(given: ServerRoutes) -> bytes:
    """One server's routes on one listener, serialized as fields of a virtual host."""
    return splice(route.VirtualHost, routes=[_call(given), _describe(given)])


def _call(given: ServerRoutes) -> bytes:
    filters = {EXT_AUTHZ: _named(given.listener, given.server)}
    action: dict[str, bytes] = {}
    if given.path is None:
        action["direct_response"] = _unavailable()
    else:
        to = cluster_name(given.server)
        action["route"] = splice(route.RouteAction, _shared_action(), cluster=to, prefix_rewrite=given.path)
        if given.listener == MESH and given.reach:
            filters[RBAC] = _only(given.reach)
        if given.replicas:
            filters[STATEFUL_SESSION] = _sessions_stay()
    return splice(
        route.Route,
        name=f"{given.server}/mcp",
        match=splice(route.RouteMatch, path=f"/{given.server}/mcp"),
        typed_per_filter_config=filters,
        **action,
    )


def _describe(given: ServerRoutes) -> bytes:
    """RFC 9728 section 3: the metadata of `https://host/NAME/mcp` is between host and path."""
    body = splice(core.DataSource, inline_string=_metadata(given.resource_url, given.issuers))
    return splice(
        route.Route,
        _metadata_route(given.listener),
        name=f"{given.server}/metadata",
        match=splice(route.RouteMatch, _get_only(), path=f"{_METADATA_PATH}/{given.server}/mcp"),
        direct_response=splice(route.DirectResponseAction, _ok(), body=body),
    )


def route_configuration(
    listener: str, door: Listener, deployment: Deployment, servers: Iterable[bytes], clusters: Iterable[str]
) -> Resource:
    """The routes of one listener: `servers` are what `server_routes` gave, `clusters` what those use."""
    host = splice(
        route.VirtualHost,
        name=listener,
        domains=list(domains(deployment.public_url, door)),
        routes=[_method_refusal(listener), _health(listener)],
        typed_per_filter_config=_cors(deployment.cors_origins) if listener != MESH else {},
    )
    last = splice(route.VirtualHost, routes=[_catch_all(listener)])
    body = splice(route.RouteConfiguration, name=listener, virtual_hosts=b"".join((host, *servers, last)))
    uses: list[Reference] = [(Kind.CLUSTER, name) for name in clusters]
    return Resource.of(Kind.ROUTE, listener, body, uses)


def domains(public_url: str, door: Listener) -> tuple[str, ...]:
    """The hosts that a listener answers to, without port; any other finds no route."""
    hosts = {urlsplit(public_url).hostname or "", *door.hosts}
    if not door.address.unix:
        hosts.add(door.address.host)
    if door.address.is_local:
        hosts.add("localhost")
    return tuple(sorted(_authority(host) for host in hosts if host and not _is_any(host)))


def _authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _named(listener: str, server: str | None) -> bytes:
    """Tell ext_authz which server this is, and by which door the call came."""
    context = {"listener": listener} if server is None else {"server": server, "listener": listener}
    settings = splice(
        ext_authz.CheckSettings,
        # A map of strings: an entry's value is as length-delimited as a message.
        context_extensions={key: value.encode() for key, value in context.items()},
    )
    return spliced_any(
        ext_authz.ExtAuthzPerRoute, splice(ext_authz.ExtAuthzPerRoute, check_settings=settings)
    )


def _only(reach: frozenset[str]) -> bytes:
    """RBAC for one route: exactly these workloads pass."""
    policies = b"".join(map(_policy, sorted(reach)))
    rules = splice(http_rbac.Rbac, rules=policies)
    return spliced_any(http_rbac.RbacPerRoute, splice(http_rbac.RbacPerRoute, rbac=rules))


@cache
def _sessions_stay() -> bytes:
    """A session of 2025-11-25 lives in the memory of the replica that opened it.

    On the way out Envoy puts that replica's address before the server's `mcp-session-id`; on the way in it
    takes it off again and goes there, if it is still one of the cluster's. Where it is gone the call goes to
    another, which answers 404, and the client begins anew, as MCP wants it: so this isn't `strict`.
    """
    state = envelope.EnvelopeSessionState(header=envelope.EnvelopeSessionStateHeader(name=headers.SESSION))
    config = stateful_session.StatefulSession(
        session_state=extension("envoy.http.stateful_session.envelope", state)
    )
    return typed(stateful_session.StatefulSessionPerRoute(stateful_session=config))


@cache
def _policy(spiffe_id: str) -> bytes:
    principal = rbac.Principal(authenticated=rbac.PrincipalAuthenticated(principal_name=exact(spiffe_id)))
    policy = rbac.Policy(permissions=[rbac.Permission(any=True)], principals=[principal])
    return bytes(rbac.Rbac(policies={spiffe_id: policy}))


@cache
def _shared_action() -> bytes:
    """No timeout, or event streams are cut; no retry, because a call may have had its effect."""
    return bytes(
        route.RouteAction(
            timeout=seconds(0),
            idle_timeout=seconds(_STREAM_IDLE_SECONDS),
            max_stream_duration=route.RouteActionMaxStreamDuration(
                max_stream_duration=seconds(MAX_STREAM_SECONDS)
            ),
        )
    )


@cache
def _unavailable() -> bytes:
    return bytes(refusal(reasons.SERVER_UNAVAILABLE))


def _metadata(resource_url: str, issuers: Sequence[str]) -> str:
    """RFC 9728 section 2: where a client learns which issuer to ask for a token."""
    return json.dumps(
        {
            "resource": resource_url,
            "authorization_servers": list(issuers),
            "bearer_methods_supported": ["header"],
        }
    )


@cache
def _metadata_route(listener: str) -> bytes:
    return bytes(
        route.Route(typed_per_filter_config=_unfiltered(listener), response_headers_to_add=[_json()])
    )


@cache
def _get_only() -> bytes:
    return bytes(route.RouteMatch(headers=[route.HeaderMatcher(name=":method", string_match=exact("GET"))]))


@cache
def _ok() -> bytes:
    return bytes(route.DirectResponseAction(status=200))


def _json() -> core.HeaderValueOption:
    return core.HeaderValueOption(
        header=core.HeaderValue(key="content-type", value="application/json"),
        append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _unfiltered(listener: str) -> dict[str, gp.Any]:
    """Free a route of every check. Only for exact paths that Envoy answers by itself."""
    names = (MCP, EXT_AUTHZ, RBAC) if listener == MESH else (MCP, EXT_AUTHZ)
    return {name: packed(route.FilterConfig(disabled=True)) for name in names}


@cache
def _method_refusal(listener: str) -> bytes:
    """First of all: TRACE, PUT and the rest go nowhere, whatever the path."""
    allowed = matcher.RegexMatcher(regex="|".join(METHODS))
    other = route.HeaderMatcher(
        name=":method", string_match=matcher.StringMatcher(safe_regex=allowed), invert_match=True
    )
    allow = core.HeaderValueOption(header=core.HeaderValue(key="allow", value=", ".join(METHODS)))
    return bytes(
        route.Route(
            name="method",
            match=route.RouteMatch(prefix="/", headers=[other]),
            direct_response=refusal(reasons.HTTP_METHOD_NOT_ALLOWED),
            response_headers_to_add=[allow],
            typed_per_filter_config=_unfiltered(listener),
        )
    )


@cache
def _health(listener: str) -> bytes:
    return bytes(
        route.Route(
            name="healthz",
            match=route.RouteMatch(
                path="/healthz", headers=[route.HeaderMatcher(name=":method", string_match=exact("GET"))]
            ),
            direct_response=direct(200, {"status": "ok"}),
            typed_per_filter_config=_unfiltered(listener),
        )
    )


@cache
def _catch_all(listener: str) -> bytes:
    """Asks ext_authz with no server, for the reason; answers 404 by itself should that ever allow."""
    shared = bytes(
        route.Route(
            name="unknown",
            match=route.RouteMatch(prefix="/"),
            direct_response=refusal(reasons.HOST_UNKNOWN),
        )
    )
    return splice(route.Route, shared, typed_per_filter_config={EXT_AUTHZ: _named(listener, None)})


@cache
def _cors(origins: tuple[str, ...]) -> dict[str, bytes]:
    if not origins:
        return {}
    policy = cors.CorsPolicy(
        allow_origin_string_match=[exact(origin) for origin in origins],
        allow_methods=", ".join(METHODS),
        allow_headers=", ".join(_CORS_REQUEST_HEADERS),
        expose_headers=", ".join(_CORS_EXPOSED_HEADERS),
        max_age="600",
        allow_credentials=False,
        forward_not_matching_preflights=False,
    )
    return {CORS: typed(policy)}
