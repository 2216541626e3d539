"""Makes the tour's calls: a row in, what came of it out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import httpx

from gatehouse import tokens
from gatehouse.answering import Choice, Respond
from gatehouse.client import Answered, Call, Credentials, Outcome, perform, tls_context
from gatehouse.devca import DevCa, Pair
from gatehouse.issuers import issuer_named
from gatehouse.observe import wait_until
from gatehouse.people import CHANNELS, request_for
from gatehouse.state import State
from gatehouse.tour_calls import OK, Row, Way
from identity.principal import JsonValue, SpiffeId
from pdp import headers

LOG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    row: Row
    outcome: Outcome
    note: str = ""
    """What else went otherwise than expected, or what was measured."""
    failed: bool = False
    """A condition beside the outcome didn't hold."""

    @property
    def got(self) -> str:
        if self.outcome.ok:
            return OK
        return self.outcome.reason or (f"HTTP {self.outcome.status}" if self.outcome.status else "no answer")

    @property
    def as_expected(self) -> bool:
        return self.got == self.row.expected and not self.failed


class Bench:
    """Credentials and addresses for the rows of one stack."""

    def __init__(self, state: State, addresses: Mapping[str, JsonValue]) -> None:
        self.state = state
        self.addresses = addresses
        self._ca = DevCa(state)
        self._pairs: dict[SpiffeId, Pair] = {}

    def run(self, row: Row, repeat: Answered | None = None) -> Result:
        """Make the row's call; with `repeat`, begin with this answer of an earlier one."""
        if row.way is Way.SPOOFED:
            return self._spoofed(row)
        call = Call(
            self.url(row),
            row.tool,
            row.arguments,
            row.era,
            headers={headers.ASSERTED_CHANNEL: CHANNELS[row.channel]} if row.channel else {},
            respond=_responder(row.answer),
            repeat=repeat,
        )
        deadline = time.monotonic() + row.patience
        while True:
            outcome = perform(call, self._credentials(row), self.state.server_ca)
            result = _checked(Result(row, outcome))
            if result.as_expected or time.monotonic() > deadline:
                return result

    def url(self, row: Row) -> str:
        """The row's server, by its way."""
        if row.way is Way.DIRECT:
            direct = self.addresses["direct"]
            return str(direct[row.server]) if isinstance(direct, dict) else ""
        base = self.addresses["mesh" if row.way is Way.MESH else "users"]
        return f"{base}/{row.server}/mcp"

    def token(self, row: Row) -> str | None:
        """The bearer: the user's token, or the service's JWT-SVID off the mesh."""
        now = time.time()
        if row.user is not None:
            request = request_for(row.user, row.client, row.audience, row.ttl)
            return tokens.mint(self.state, issuer_named(self.state, None), request, now)
        if row.service is not None and row.way is not Way.MESH:
            resource = f"{self.addresses['users']}/{row.server}/mcp"
            return self._ca.jwt_svid(SpiffeId.parse(row.service), [resource], now)
        return None

    def _credentials(self, row: Row) -> Credentials:
        certificate = None
        if row.service is not None and row.way is Way.MESH:
            service = SpiffeId.parse(row.service)
            if service not in self._pairs:
                self._pairs[service] = self._ca.x509_svid(service)
            certificate = self._pairs[service]
        return Credentials(self.token(row), certificate)

    def _spoofed(self, row: Row) -> Result:
        """Send made-up identity headers; the row holds only if the server saw who really called."""
        forged = dict.fromkeys(headers.FORWARDED, "ana") | {
            headers.GROUPS: "ads-eng",
            headers.IDENTITY: str(self.token(replace(row, user="ana"))),
        }
        started = time.perf_counter()
        response = httpx.post(
            self.url(row),
            json=_tool_call(row),
            headers={
                **forged,
                "authorization": f"Bearer {self.token(row)}",
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": row.era.value,
                "mcp-method": "tools/call",
                "mcp-name": row.tool,
            },
            verify=tls_context(self.state.server_ca),
            trust_env=False,
        )
        elapsed = (time.perf_counter() - started) * 1000
        outcome = _raw_outcome(response, elapsed)
        seen = self.seen_by_server(outcome.decision_id)
        truth = f"sso:{row.user}"
        note = f"the server saw {seen}" if seen == truth else f"the server saw {seen}, not {truth}"
        return Result(row, outcome, note, failed=seen != truth)

    def seen_by_server(self, decision_id: str | None) -> str | None:
        """The user whom the Presto server names in its own log for this decision."""
        found: list[str] = []

        def look() -> bool:
            for line in (self.state.logs / "presto.log").read_text("utf-8").splitlines():
                entry = json.loads(line) if line.startswith("{") else {}
                if decision_id is not None and entry.get("decision_id") == decision_id:
                    found.append(str(entry.get("user")))
            return bool(found)

        wait_until(look, LOG_SECONDS)
        return found[-1] if found else None


def repeat_for(seconds: float, call: Callable[[], Result]) -> Result:
    """Make a call again and again for a while; the first unexpected result, else the last."""
    deadline = time.monotonic() + seconds
    while True:
        result = call()
        if not result.as_expected or time.monotonic() > deadline:
            return result


def _responder(answer: Choice | None) -> Respond | None:
    return None if answer is None else lambda _question: answer


def _checked(result: Result) -> Result:
    """An allowed call must have brought what it should: an empty answer would prove nothing."""
    row, outcome = result.row, result.outcome
    if not outcome.ok:
        return result
    found = outcome.result
    if isinstance(found, dict) and not any(isinstance(v, list | str) and v for v in found.values()):
        return replace(result, failed=True, note="the answer is empty")
    text = json.dumps(found, ensure_ascii=False)
    if row.shows not in text:
        return replace(result, failed=True, note=f"the answer lacks {row.shows!r}")
    if row.hides and row.hides in text:
        return replace(result, failed=True, note=f"the answer shows {row.hides!r}")
    if row.answer is not None and not outcome.asked:
        return replace(result, failed=True, note="nobody was asked")
    return replace(result, note=_proof(row))


def _proof(row: Row) -> str:
    """What an answer that passed has proven, where that is more than that it came."""
    if row.answer is not None:
        return "asked, and confirmed"
    if row.shows:
        return f"shows {row.shows}"
    return f"hides {row.hides}" if row.hides else ""


def _tool_call(row: Row) -> dict[str, JsonValue]:
    meta: dict[str, JsonValue] = {
        "io.modelcontextprotocol/protocolVersion": row.era.value,
        "io.modelcontextprotocol/clientInfo": {"name": "tour", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params: dict[str, JsonValue] = {"name": row.tool, "arguments": dict(row.arguments), "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def _raw_outcome(response: httpx.Response, milliseconds: float) -> Outcome:
    try:
        body = response.json()
    except ValueError:
        body = {}
    error = body.get("error") or {}
    data = error.get("data") or {}
    return Outcome(
        ok=response.is_success and not error,
        result=body.get("result"),
        message=str(error.get("message", "")),
        status=response.status_code,
        reason=data.get("reason"),
        decision_id=data.get("decision_id"),
        milliseconds=milliseconds,
    )
