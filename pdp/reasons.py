"""Every reason a call is refused for: one table, the same in responses, logs, metrics, docs and tests.

`docs/reasons.md` is generated from it. A code never changes its meaning; a new meaning is a new code.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One row: a stable code, the HTTP status it answers with, what it means, what to do about it."""

    code: str
    status: int
    meaning: str
    remedy: str

    def __str__(self) -> str:
        return self.code


REASONS: dict[str, Reason] = {}


def _reason(code: str, status: int, meaning: str, remedy: str) -> Reason:
    reason = Reason(code, status, meaning, remedy)
    REASONS[code] = reason
    return reason


_CLIENT_BUG = "Mend the client: the request breaks HTTP, JSON-RPC or MCP."
_SIGN_IN = "Get a new token from the issuer and try again."
_ASK_ACCESS = "Ask for access at the address in the answer, or ask the owning team."
_ISSUER_BUG = "Ask whoever runs the token issuer: it signs tokens outside what policy accepts."
_MESH = "Ask the platform team: the workload's certificate or token is not as SPIFFE asks."

# 1. The request is well-formed
MALFORMED_REQUEST = _reason(
    "malformed_request", 400, "The request is not one that can be judged.", _CLIENT_BUG
)
MALFORMED_HEADER = _reason(
    "malformed_header",
    400,
    "A header that policy reads is repeated, not ASCII, or not of its form.",
    _CLIENT_BUG,
)
MALFORMED_BODY = _reason(
    "malformed_body", 400, "The body is cut short, or is not one JSON-RPC message.", _CLIENT_BUG
)
MALFORMED_MCP = _reason(
    "malformed_mcp", 400, "The MCP headers and the body do not say the same.", _CLIENT_BUG
)

# 2. Credentials are valid where present, and present where the listener demands them
CREDENTIALS_REQUIRED = _reason(
    "credentials_required", 401, "The call carries no credentials.", "Sign in and send the token as a bearer."
)
TOKEN_MALFORMED = _reason("token_malformed", 401, "The token is not a strictly formed signed JWT.", _SIGN_IN)
TOKEN_ALGORITHM = _reason(
    "token_algorithm", 401, "The token's algorithm is not one that its issuer may use.", _ISSUER_BUG
)
TOKEN_ISSUER_UNKNOWN = _reason(
    "token_issuer_unknown",
    401,
    "The token's issuer is not one that policy trusts.",
    "Sign in with the company's issuer.",
)
TOKEN_KEY_UNKNOWN = _reason(
    "token_key_unknown", 401, "The issuer publishes no key as the token names it.", _SIGN_IN
)
TOKEN_SIGNATURE = _reason("token_signature", 401, "The token's signature does not verify.", _SIGN_IN)
TOKEN_EXPIRED = _reason("token_expired", 401, "The token has expired.", _SIGN_IN)
TOKEN_NOT_YET_VALID = _reason(
    "token_not_yet_valid",
    401,
    "The token is not valid yet.",
    "Check the clocks of the issuer and of this service.",
)
TOKEN_LIFETIME = _reason(
    "token_lifetime", 401, "The token lives longer than policy accepts of its issuer.", _ISSUER_BUG
)
TOKEN_AUDIENCE = _reason(
    "token_audience",
    401,
    "The token was made for somebody else.",
    "Ask the issuer for a token whose resource is this server's URL.",
)
TOKEN_CLAIMS = _reason(
    "token_claims", 401, "A claim that policy requires is absent or not of its type.", _ISSUER_BUG
)
TOKEN_GROUPS_OVERAGE = _reason(
    "token_groups_overage",
    401,
    "The issuer left the groups out because there are too many.",
    "Ask the issuer's owner to send only groups that this application needs.",
)
SVID_MALFORMED = _reason("svid_malformed", 401, "The SVID is not formed as SPIFFE asks.", _MESH)
SVID_UNTRUSTED = _reason(
    "svid_untrusted",
    401,
    "The SVID's trust domain is not one that policy trusts, or no key of it verifies.",
    _MESH,
)
SVID_EXPIRED = _reason("svid_expired", 401, "The SVID has expired.", _MESH)
SVID_AUDIENCE = _reason("svid_audience", 401, "The JWT-SVID was made for somebody else.", _MESH)
SVID_AMBIGUOUS = _reason(
    "svid_ambiguous",
    401,
    "The certificate holds more than one identity, or the token names another one.",
    _MESH,
)
LOCKED = _reason(
    "locked",
    403,
    "This user, token, workload or server is locked.",
    "Ask the security team; the decision id says which lock it is.",
)
KEYS_UNAVAILABLE = _reason(
    "keys_unavailable",
    503,
    "The issuer's keys could not be fetched yet.",
    "Try again in a minute; nothing is wrong with the token.",
)

# 3. The surface is known and consistent
SURFACE_UNKNOWN = _reason(
    "surface_unknown",
    403,
    "The call comes from no surface that policy knows.",
    "Ask the security team to review your client as a surface.",
)
SURFACE_CLIENT_MISMATCH = _reason(
    "surface_client_mismatch",
    403,
    "The surface brought a token that was made for another client.",
    "Forward only tokens that were issued to this surface's own client.",
)
CHANNEL_MALFORMED = _reason("channel_malformed", 400, "X-Mcp-Channel is not a channel id.", _CLIENT_BUG)

# 4. The server is known and in force
SERVER_UNKNOWN = _reason(
    "server_unknown", 403, "No server has this address.", "Look the address up in the registry."
)
SERVER_NOT_APPROVED = _reason(
    "server_not_approved",
    403,
    "The server's policy lacks a review.",
    "Ask the owning team; `gatehouse policy status` says which review is missing.",
)
REVIEW_EXPIRED = _reason(
    "review_expired",
    403,
    "A review that the server needs has lapsed.",
    "Ask the owning team to have it reviewed again.",
)

# 5. No guardrail forbids it
GUARDRAIL = _reason(
    "guardrail",
    403,
    "An organisation-wide guardrail forbids this.",
    "No access rule can lift it; ask the security team.",
)

# 6. An access rule allows it
METHOD_NOT_ALLOWED = _reason(
    "method_not_allowed",
    403,
    "This MCP method is not open to this caller.",
    "Use tools; other methods need a rule that grants them.",
)
SURFACE_NOT_ALLOWED = _reason(
    "surface_not_allowed", 403, "This server is not open to calls from here.", _ASK_ACCESS
)
GROUP_NOT_ALLOWED = _reason(
    "group_not_allowed", 403, "None of the caller's groups may use this server from here.", _ASK_ACCESS
)
CHANNEL_NOT_ALLOWED = _reason(
    "channel_not_allowed",
    403,
    "This server is open only in certain channels.",
    "Ask in a channel that is meant for it.",
)
TOOL_NOT_IN_RULE = _reason(
    "tool_not_in_rule", 403, "The rules that fit this caller do not grant this tool.", _ASK_ACCESS
)
RESOURCE_NOT_ALLOWED = _reason(
    "resource_not_allowed", 403, "The rules that fit this caller do not grant this resource.", _ASK_ACCESS
)
PROMPT_NOT_ALLOWED = _reason(
    "prompt_not_allowed", 403, "The rules that fit this caller do not grant this prompt.", _ASK_ACCESS
)
LISTING_NEEDS_USER = _reason(
    "listing_needs_user",
    401,
    "Listing this server's tools needs a signed-in user.",
    "Send the user's token with the request.",
)

# 7. In the server, and in preflight
TOOL_UNKNOWN = _reason(
    "tool_unknown", 403, "Policy names no such tool of this server.", "List the tools and use one of them."
)
TOOL_POLICY_MISMATCH = _reason(
    "tool_policy_mismatch",
    403,
    "The server's code and its policy name different rules for this tool.",
    "Ask the owning team to make `@authorize_tool` and the policy agree.",
)
TOOL_GROUP_REQUIRED = _reason(
    "tool_group_required", 403, "This tool is for another business group.", _ASK_ACCESS
)
TOOL_ROLE_REQUIRED = _reason(
    "tool_role_required", 403, "This tool needs a role that the caller lacks.", _ASK_ACCESS
)
TOOL_CHANNEL_REQUIRED = _reason(
    "tool_channel_required",
    403,
    "This tool works only in certain channels.",
    "Ask in a channel that is meant for it.",
)
CONFIRMATION_REQUIRED = _reason(
    "confirmation_required",
    403,
    "The tool runs only after a person confirms it, and nobody did.",
    "Use a client that can ask its user.",
)
CONFIRMATION_DECLINED = _reason(
    "confirmation_declined",
    403,
    "The person who was asked declined; nothing ran.",
    "Don't call it again unless that person asks for it.",
)
CONFIRMATION_CANCELLED = _reason(
    "confirmation_cancelled",
    403,
    "The person who was asked closed the question without an answer; nothing ran.",
    "Call the tool again if it is still wanted: a new question is asked.",
)
CONFIRMATION_EXPIRED = _reason(
    "confirmation_expired",
    403,
    "The question was not answered in time; nothing ran.",
    "Call the tool again and answer within two minutes.",
)
CONFIRMATION_REPLAYED = _reason(
    "confirmation_replayed",
    403,
    "This confirmation was used or answered already; it counts once.",
    "Look at what the first call did; call the tool again without the old state to be asked anew.",
)
CONFIRMATION_MISMATCH = _reason(
    "confirmation_mismatch",
    403,
    "The call is not the one that was confirmed: tool, arguments or surface differ.",
    "Call the tool again without the old state: what runs is exactly what is confirmed.",
)
CONFIRMATION_WRONG_USER = _reason(
    "confirmation_wrong_user",
    403,
    "Somebody else was asked for this confirmation.",
    "Call the tool again without the old state: only who calls can confirm.",
)
CONFIRMATION_POLICY_CHANGED = _reason(
    "confirmation_policy_changed",
    403,
    "Policy changed between the question and the answer; nothing ran.",
    "Call the tool again: the question is asked under the policy in force now.",
)
CONFIRMATION_INVALID = _reason(
    "confirmation_invalid",
    403,
    "The confirmation is not one that this server asked for.",
    "Call the tool again without the old state; if it lasts, the server's replicas share no keys or records.",
)
CONFIRMATION_UNAVAILABLE = _reason(
    "confirmation_unavailable",
    503,
    "Confirmations can't be recorded at the moment, so nothing ran.",
    "Try again in a minute; if it lasts, ask the owning team.",
)
IDENTITY_REQUIRED = _reason(
    "identity_required",
    401,
    "The call did not come through Envoy: it carries no identity assertion.",
    "Call the server at its public address.",
)
IDENTITY_INVALID = _reason(
    "identity_invalid",
    401,
    "The identity assertion does not verify, is too old or is for another server.",
    "Call the server at its public address; if you did, ask the platform team.",
)

# Nobody can decide
POLICY_UNAVAILABLE = _reason(
    "policy_unavailable",
    503,
    "No policy is in force yet.",
    "Try again in a minute; `gatehouse policy check` says what is wrong.",
)
INTERNAL_ERROR = _reason(
    "internal_error",
    503,
    "The check failed, so the call is refused.",
    "Report the decision id to the platform team.",
)
TOO_MANY_GROUPS = _reason(
    "too_many_groups",
    403,
    "The caller is in more business groups than headers can carry.",
    "Ask the security team to name fewer groups in policy.",
)

# Envoy itself refuses, and ext_authz was not asked or did not answer
HTTP_METHOD_NOT_ALLOWED = _reason(
    "http_method_not_allowed", 405, "MCP uses POST, GET, DELETE and OPTIONS only.", _CLIENT_BUG
)
HOST_UNKNOWN = _reason(
    "host_unknown",
    404,
    "No server has this address: the host name or the path is not one of this gateway's.",
    "Use the address that the registry gives.",
)
REQUEST_TOO_LARGE = _reason(
    "request_too_large",
    413,
    "The request is larger than the gateway accepts.",
    "Send less at once; a body has at most 1 MiB.",
)
CHECK_UNAVAILABLE = _reason(
    "check_unavailable",
    503,
    "The policy service does not answer, so the call is refused.",
    "Try again in a few seconds; if it lasts, give the request id to the platform team.",
)
SERVER_UNAVAILABLE = _reason(
    "server_unavailable",
    503,
    "The server does not answer, or runs nowhere at the moment.",
    "Try again in a minute; if it lasts, ask the owning team.",
)
