"""The HTTP filters, in their order, and the connection manager's hardening around them.

Order is data here: see `http_filters`. Each measure has a test through a real Envoy.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.rbac import v3 as rbac
from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.extensions.filters.http.mcp import v3 as mcp
from envoy_data_plane.envoy.extensions.filters.http.rbac import v3 as http_rbac
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.http.stateful_session import v3 as stateful_session
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early
from envoy_data_plane.envoy.type import v3 as http
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from pdp import headers
from xds.authoring import EXT_AUTHZ_CLUSTER, MESH, exact, extension, packed, seconds

CORS = "envoy.filters.http.cors"
MCP = "envoy.filters.http.mcp"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
RBAC = "envoy.filters.http.rbac"
STATEFUL_SESSION = "envoy.filters.http.stateful_session"
ROUTER = "envoy.filters.http.router"

MAX_BODY_BYTES = 1024 * 1024

# What no client may bring: ours by name (so that this list can't fall behind `pdp.headers`), whatever poses
# as a proxy's word by prefix, and what frameworks take for another path, method or client address.
_STRIPPED_NAMES = (
    *headers.FORWARDED,
    headers.DECISION,
    "forwarded",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "proxy",
)
_STRIPPED_PREFIXES = ("x-forwarded", "x_forwarded", "x-envoy-", "x-gatehouse-")

# All that ext_authz may change; without this it could set `:authority` and more. Envoy refuses a regex of
# over 100 RE2 instructions, which rules out naming all of `pdp.headers`; a test holds them to these two.
MUTABLE = f"^(x-forwarded-[a-z]+|{'|'.join((*headers.CONSUMED, headers.DECISION))})$"
IMMUTABLE = "^x-forwarded-(for|host|port|proto|prefix)$"


def http_filters(listener: str) -> list[hcm.HttpFilter]:
    """The chain of one listener.

    CORS first, or MCP refuses every preflight. MCP before ext_authz, which reads what it found in the body.
    RBAC after ext_authz: it holds the mesh surfaces' reach a second time, and the refusal with a reason and a
    line in the decision log comes first. Stateful sessions last: each route says whether it has any, and what
    stands before sees `mcp-session-id` as the client sent it.
    """
    chain = [(CORS, cors.Cors()), (MCP, _mcp()), (EXT_AUTHZ, _ext_authz())]
    if listener == MESH:
        # No policies: whatever route doesn't say who may pass lets nobody pass.
        chain.append((RBAC, http_rbac.Rbac(rules=rbac.Rbac())))
    chain.append((STATEFUL_SESSION, stateful_session.StatefulSession()))
    chain.append((ROUTER, router.Router(suppress_envoy_headers=True)))
    return [hcm.HttpFilter(name=name, typed_config=packed(config)) for name, config in chain]


def strip_forged_headers() -> core.TypedExtensionConfig:
    """Before anything else sees the request: then even an empty `CheckResponse` lets nothing forged in."""
    remove = rules.HeaderMutation
    mutations = [remove(remove=name) for name in _STRIPPED_NAMES]
    mutations += [
        remove(
            remove_on_match=rules.HeaderMutationRemoveOnMatch(
                key_matcher=matcher.StringMatcher(prefix=prefix, ignore_case=True)
            )
        )
        for prefix in _STRIPPED_PREFIXES
    ]
    return extension(
        "envoy.http.early_header_mutation.header_mutation", early.HeaderMutation(mutations=mutations)
    )


def _mcp() -> mcp.Mcp:
    return mcp.Mcp(
        traffic_mode=mcp.McpTrafficMode.REJECT_NO_MCP,
        reject_duplicate_keys=True,
        max_request_body_size=MAX_BODY_BYTES,
    )


def _ext_authz() -> ext_authz.ExtAuthz:
    return ext_authz.ExtAuthz(
        grpc_service=core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EXT_AUTHZ_CLUSTER),
            timeout=seconds(0.5),
        ),
        transport_api_version=core.ApiVersion.V3,
        failure_mode_allow=False,
        status_on_error=http.HttpStatus(code=http.StatusCode.ServiceUnavailable),
        include_peer_certificate=True,
        include_tls_session=True,
        validate_mutations=True,
        encode_raw_headers=True,
        emit_filter_state_stats=True,
        enable_dynamic_metadata_ingestion=True,
        max_denied_response_body_bytes=4096,
        enforce_response_header_limits=True,
        metadata_context_namespaces=[MCP],
        # One byte tells whether there is a body. The MCP filter lets a GET or DELETE pass with a body that
        # nobody has read, and of a chunked one, or one in HTTP/2, no header tells.
        with_request_body=ext_authz.BufferSettings(
            max_request_bytes=1, allow_partial_message=True, pack_as_bytes=True
        ),
        disallowed_headers=matcher.ListStringMatcher(patterns=[exact("cookie")]),
        decoder_header_mutation_rules=rules.HeaderMutationRules(
            disallow_all=True,
            allow_expression=matcher.RegexMatcher(regex=MUTABLE),
            disallow_expression=matcher.RegexMatcher(regex=IMMUTABLE),
        ),
    )
