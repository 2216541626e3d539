"""The headers that cross Gatehouse's borders, in lower case as HTTP/2 has them."""

from __future__ import annotations

USER = "x-forwarded-user"
ISSUER = "x-forwarded-issuer"
GROUPS = "x-forwarded-groups"
ROLES = "x-forwarded-roles"
CLIENT = "x-forwarded-client"
SURFACE = "x-forwarded-surface"
CHANNEL = "x-forwarded-channel"
IDENTITY = "x-forwarded-identity"
"""The signed assertion of all the others: the only one that a server trusts."""

FORWARDED = (USER, ISSUER, GROUPS, ROLES, CLIENT, SURFACE, CHANNEL, IDENTITY)
"""Set by ext_authz on every allow, all of them, empty where there is nothing; stripped from every client."""

AUTHORIZATION = "authorization"
ASSERTED_CHANNEL = "x-mcp-channel"
"""The channel's id, from a surface that asserts channels."""

CONSUMED = (AUTHORIZATION, ASSERTED_CHANNEL)
"""Read by ext_authz and dropped on an allow: no server ever sees a user's token."""

PROTOCOL_VERSION = "mcp-protocol-version"
SESSION = "mcp-session-id"
METHOD = "mcp-method"
NAME = "mcp-name"
CONTENT_LENGTH = "content-length"

READ = (
    AUTHORIZATION,
    ASSERTED_CHANNEL,
    PROTOCOL_VERSION,
    SESSION,
    METHOD,
    NAME,
    CONTENT_LENGTH,
)
"""Every request header that ext_authz looks at: Envoy need send it no other (`allowed_headers`)."""

DECISION = "x-gatehouse-decision"
"""The decision's id, on every answer of ext_authz."""
