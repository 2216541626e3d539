"""The tour's calls as data: who calls what from where, and what reviewed policy makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import MappingProxyType

from gatehouse.answering import Choice
from gatehouse.client import Era
from gatehouse.people import AI_CHAT, CLIENTS, REPORT_BOT
from gatehouse.tokens import DEFAULT_CLIENT, DEFAULT_TTL
from identity.principal import JsonValue

OK = "ok"


class Way(Enum):
    """How a call reaches the server."""

    USERS = auto()
    """Envoy's users' listener."""
    MESH = auto()
    """Envoy's mesh listener, by mutual TLS with the service's X.509-SVID."""
    DIRECT = auto()
    """Straight to the server's own port, around Envoy."""
    SPOOFED = auto()
    """The users' listener, by raw HTTP, with identity headers that the client made up."""


@dataclass(frozen=True, slots=True)
class Row:
    """One call and what is expected of it: `OK`, or a reason's code."""

    who: str
    """As the table shows it."""
    surface: str
    tool: str
    expected: str
    user: str | None = None
    """A sample person, whose token is sent."""
    client: str = DEFAULT_CLIENT
    ttl: int = DEFAULT_TTL
    audience: str | None = None
    service: str | None = None
    """A SPIFFE ID: its X.509-SVID on the mesh, its JWT-SVID elsewhere."""
    way: Way = Way.USERS
    server: str = "presto"
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    era: Era = Era.STATELESS
    channel: str | None = None
    """The chat bot's channel, by its name in policy."""
    shows: str = ""
    """A text that the answer must hold."""
    hides: str = ""
    """A text that it must not hold."""
    answer: Choice | None = None
    """What the person says to a confirmation; None: the client can't ask anybody."""
    patience: float = 0.0
    """Seconds that the call is repeated until it goes as expected, where something has to happen first."""


SQL: Mapping[str, JsonValue] = MappingProxyType(
    {"sql": "SELECT region, sum(revenue_usd) FROM revenue JOIN campaigns USING (campaign_id) GROUP BY region"}
)
REVENUE: Mapping[str, JsonValue] = MappingProxyType(
    {"metric": "revenue", "start": "2026-01-01", "end": "2026-06-30", "dimensions": ["region"]}
)

ELSEWHERE = "https://elsewhere.example/mcp"

CALLS: tuple[Row, ...] = (
    Row("sam, a 2026-07-28 client", "ide", "run_query", OK, user="sam", arguments=SQL),
    Row("sam, a 2025-11-25 client", "ide", "run_query", OK, user="sam", arguments=SQL, era=Era.SESSIONS),
    Row("ana, Ads engineer", "ide", "get_revenue_metrics", OK, user="ana", arguments=REVENUE),
    Row(
        "sam, Ads salesperson",
        "ide",
        "get_revenue_metrics",
        "tool_group_required",
        user="sam",
        arguments=REVENUE,
    ),
    Row("hana, HR", "ide", "run_query", "group_not_allowed", user="hana", arguments=SQL),
    Row("nobody, no token", "ide", "run_query", "credentials_required", arguments=SQL),
    Row("ana, token expired", "ide", "run_query", "token_expired", user="ana", ttl=-120, arguments=SQL),
    Row(
        "ana, token for another",
        "ide",
        "run_query",
        "token_audience",
        user="ana",
        audience=ELSEWHERE,
        arguments=SQL,
    ),
    Row(
        "sam, as ana by headers",
        "ide",
        "get_revenue_metrics",
        "tool_group_required",
        user="sam",
        way=Way.SPOOFED,
        arguments=REVENUE,
    ),
    Row(
        "ana, around Envoy",
        "none",
        "run_query",
        "identity_required",
        user="ana",
        way=Way.DIRECT,
        arguments=SQL,
    ),
    Row("dino, to an experiment", "ide", "read_note", "guardrail", user="dino", server="scratchpad"),
    Row("report bot, X.509-SVID", "report-bot", "list_tables", OK, service=REPORT_BOT, way=Way.MESH),
    Row(
        "report bot, X.509-SVID",
        "report-bot",
        "run_query",
        "guardrail",
        service=REPORT_BOT,
        way=Way.MESH,
        arguments=SQL,
    ),
    Row("report bot, JWT-SVID", "report-bot", "list_tables", OK, service=REPORT_BOT),
    Row(
        "sam, brought by chat",
        "ai-chat",
        "run_query",
        OK,
        user="sam",
        client=CLIENTS[AI_CHAT],
        service=AI_CHAT,
        way=Way.MESH,
        arguments=SQL,
    ),
    Row(
        "sam, chat, token of ide",
        "ai-chat",
        "run_query",
        "surface_client_mismatch",
        user="sam",
        service=AI_CHAT,
        way=Way.MESH,
        arguments=SQL,
    ),
    Row("carl, contractor", "ide", "run_query", "guardrail", user="carl", arguments=SQL),
)
