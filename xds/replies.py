"""What Envoy says by itself: direct responses, and Gatehouse's error body on Envoy's own refusals.

Refusals by ext_authz and answers of servers carry their own bodies and pass untouched: every mapper names the
response code details that only Envoy's own refusals have.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google import protobuf as gp

from pdp import reasons
from pdp.reasons import Reason
from xds.authoring import JsonValue, packed

_JSON = "application/json"
_REQUEST_ID = "%REQ(X-REQUEST-ID)%"
# JSON-RPC 2.0 section 5.1: -32000 to -32099 are the server's own; -32600 is an invalid request.
_RPC_CODES = {400: -32600, 401: -32001, 403: -32003}
_RPC_DEFAULT = -32000

_OWN = "!(response.code_details in ['ext_authz_denied', 'direct_response', 'via_upstream', 'cors_response'])"
# Which of Envoy's response code details mean which reason, as CEL; the first that holds decides. The status
# is the reason's, but for the last ones, which stand for too much.
_DETAILS: tuple[tuple[str, Reason], ...] = (
    ("response.code_details.startsWith('ext_authz_')", reasons.CHECK_UNAVAILABLE),
    ("response.code_details == 'mcp_body_too_large'", reasons.REQUEST_TOO_LARGE),
    ("response.code_details == 'mcp_mcp_header_mismatch'", reasons.MALFORMED_MCP),
    ("response.code_details.startsWith('mcp_')", reasons.MALFORMED_BODY),
    ("response.code_details.startsWith('rbac_access_denied')", reasons.SURFACE_NOT_ALLOWED),
    ("response.code_details == 'route_not_found'", reasons.HOST_UNKNOWN),
    ("response.code in [413, 431]", reasons.REQUEST_TOO_LARGE),
    ("response.code >= 500", reasons.SERVER_UNAVAILABLE),
    ("response.code >= 400", reasons.MALFORMED_REQUEST),
)


def error_body(reason: Reason, *, traced: bool) -> dict[str, JsonValue]:
    """The JSON-RPC error of `reason`; with `traced` it names Envoy's request id."""
    data: dict[str, JsonValue] = {"reason": reason.code, "help": reason.remedy}
    if traced:
        data["request_id"] = _REQUEST_ID
    code = _RPC_CODES.get(reason.status, _RPC_DEFAULT)
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": reason.meaning, "data": data}}


def direct(status: int, body: dict[str, JsonValue]) -> route.DirectResponseAction:
    """Answer with this JSON, asking nobody."""
    return route.DirectResponseAction(status=status, body_format=_json(body))


def refusal(reason: Reason) -> route.DirectResponseAction:
    return direct(reason.status, error_body(reason, traced=True))


def local_replies() -> hcm.LocalReplyConfig:
    """Our error body for whatever Envoy refuses by itself."""
    return hcm.LocalReplyConfig(mappers=[_mapper(condition, reason) for condition, reason in _DETAILS])


def _mapper(condition: str, reason: Reason) -> hcm.ResponseMapper:
    exact = "code_details" in condition
    expression = cel.ExpressionFilter(expression=f"({condition}) && {_OWN}")
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(
            extension_filter=accesslog.ExtensionFilter(
                name="envoy.access_loggers.extension_filters.cel", typed_config=packed(expression)
            )
        ),
        status_code=reason.status if exact else None,
        body_format_override=_json(error_body(reason, traced=True)),
    )


def _json(body: dict[str, JsonValue]) -> core.SubstitutionFormatString:
    return core.SubstitutionFormatString(json_format=gp.Struct.from_dict(body), content_type=_JSON)
