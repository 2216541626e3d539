"""The access log: one JSON line a request to Envoy's stdout, with the decision and without any credential."""

from __future__ import annotations

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream
from envoy_data_plane.google import protobuf as gp

from xds.authoring import JsonValue, packed

_DECISION = ("decision_id", "decision", "reason", "rule", "user", "surface", "server", "tool", "policy")

# An allow-list: no header of the request but these, and never the query, which could carry a token. What a
# client can make as long as it likes is cut, so that even a token in a path isn't one in the log.
_FIELDS = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ):200%",
    "authority": "%REQ(:AUTHORITY):200%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "milliseconds": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "route": "%ROUTE_NAME%",
    "upstream": "%UPSTREAM_HOST%",
    "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "workload": "%DOWNSTREAM_PEER_URI_SAN%",
    "user_agent": "%REQ(USER-AGENT):200%",
    "mcp_method": "%DYNAMIC_METADATA(envoy.filters.http.mcp:method):64%",
}


def access_log(listener: str) -> accesslog.AccessLog:
    """The log of one listener; what ext_authz decided is under its own names."""
    fields: dict[str, JsonValue] = {"log": "access", "listener": listener, **_FIELDS}
    for name in _DECISION:
        fields[name] = f"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{name}):200%"
    return accesslog.AccessLog(
        name="envoy.access_loggers.stdout",
        typed_config=packed(
            stream.StdoutAccessLog(
                log_format=core.SubstitutionFormatString(
                    json_format=gp.Struct.from_dict(fields), omit_empty_values=True
                )
            )
        ),
    )
