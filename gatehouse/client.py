"""A real MCP client for one call: behind `gatehouse call`, and behind every row of the tour."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import cast

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    InputResponses,
    TextContent,
)
from pydantic import TypeAdapter

from gatehouse.answering import Answering, Respond
from gatehouse.devca import Pair
from identity.principal import JsonValue

SECONDS = 20.0
"""That one call may take."""
MAX_ROUNDS = 8
"""Times that one call is repeated with answers."""

_RESULT: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(CallToolResult | InputRequiredResult)


class Era(StrEnum):
    """The protocol version that the client speaks."""

    SESSIONS = "2025-11-25"
    STATELESS = "2026-07-28"

    @property
    def mode(self) -> str:
        """The SDK's `mode`: a handshake, or the version itself."""
        return "legacy" if self is Era.SESSIONS else self.value


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What the client shows. It has no `repr`: the token is in it."""

    token: str | None = None
    certificate: Pair | None = None
    """An X.509-SVID, for the mesh listener."""


@dataclass(frozen=True, slots=True, repr=False)
class Answered:
    """What a call of 2026-07-28 was repeated with: the server's state, and the answers to its questions."""

    state: str | None
    responses: InputResponses


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one tool; of `tools/list` where `tool` is None."""

    url: str
    tool: str | None
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    era: Era = Era.STATELESS
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SECONDS
    """For the whole of it."""
    respond: Respond | None = None
    """Answers what the server asks before it runs a tool; None: the client can't ask anybody."""
    repeat: Answered | None = None
    """Begin with this answer of an earlier call, in 2026-07-28."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `reason` is the code of a refusal."""

    ok: bool
    result: JsonValue = None
    """The tool's structured result, else its text; for a listing the tools' names."""
    message: str = ""
    status: int | None = None
    """The last HTTP status; None where no answer came."""
    reason: str | None = None
    decision_id: str | None = None
    help: str | None = None
    support: str | None = None
    request_access: str | None = None
    milliseconds: float = 0.0
    asked: tuple[str, ...] = ()
    """The questions that came before it."""
    answered: Answered | None = None
    """With what it was last repeated."""

    def as_json(self) -> JsonValue:
        """Everything that a reader wants to know of it, as an object."""
        known = asdict(replace(self, answered=None))
        return {name: value for name, value in known.items() if value is not None and value != ()}


def tls_context(server_ca: Path | None, certificate: Pair | None = None) -> ssl.SSLContext:
    """Trust the development CA, or the machine's own where None; show `certificate` where given."""
    context = ssl.create_default_context(cafile=server_ca)
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def perform(call: Call, credentials: Credentials, server_ca: Path | None) -> Outcome:
    """Make the call and say how it ended. A refusal, or a server that isn't there, is an outcome too."""
    logging.getLogger("mcp").setLevel(
        logging.CRITICAL
    )  # its warnings would stand between a person and the answer
    return anyio.run(_perform, call, credentials, tls_context(server_ca, credentials.certificate))


async def _perform(call: Call, credentials: Credentials, tls: ssl.SSLContext) -> Outcome:
    statuses: list[int] = []

    async def note(response: httpx2.Response) -> None:
        statuses.append(response.status_code)

    headers = dict(call.headers)
    if credentials.token is not None:
        headers["authorization"] = f"Bearer {credentials.token}"
    http = httpx2.AsyncClient(
        headers=headers,
        verify=tls,
        timeout=httpx2.Timeout(call.seconds),
        event_hooks={"response": [note]},
        trust_env=False,  # a proxy of the machine's has no way to loopback
    )
    started = time.perf_counter()
    answering = Answering(call.respond) if call.respond is not None else None
    talk = _Talk(call, answering)
    try:
        with anyio.fail_after(call.seconds):
            outcome = await talk.through(http)
    except* TimeoutError:
        outcome = Outcome(ok=False, message=f"no answer within {call.seconds:g} s")
    except* (MCPError, httpx2.HTTPError, OSError) as errors:
        # OSError: in TLS 1.3 a refused client certificate shows up as an alert at the first read.
        outcome = _failed(next(_leaves(errors)))
    elapsed = (time.perf_counter() - started) * 1000
    return replace(
        outcome,
        status=statuses[-1] if statuses else None,
        milliseconds=elapsed,
        asked=tuple(answering.asked) if answering is not None else (),
        answered=talk.answered,
    )


class _Talk:
    """One call, with the rounds that its questions take."""

    def __init__(self, call: Call, answering: Answering | None) -> None:
        self._call = call
        self._answering = answering
        self.answered: Answered | None = None

    async def through(self, http: httpx2.AsyncClient) -> Outcome:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(http)
            transport = streamable_http_client(self._call.url, http_client=http)
            client = await stack.enter_async_context(
                Client(transport, mode=self._call.era.mode, elicitation_callback=self._answering)
            )
            if self._call.tool is None:
                listed = await client.list_tools()
                return Outcome(ok=True, result=[tool.name for tool in listed.tools])
            return await self._rounds(client, self._call.tool)

    async def _rounds(self, client: Client, tool: str) -> Outcome:
        answered = self._call.repeat
        for _ in range(MAX_ROUNDS):
            # Not `client.call_tool`: it lists the tools after a call, to check the result's schema, and so
            # fails for a service that may call a tool of a server whose listing needs a user.
            params = CallToolRequestParams(
                name=tool,
                arguments=dict(self._call.arguments),
                input_responses=answered.responses if answered is not None else None,
                request_state=answered.state if answered is not None else None,
            )
            result = await client.session.send_request(CallToolRequest(params=params), _RESULT)
            if isinstance(result, CallToolResult):
                return _result(result)
            if self._answering is None:
                return Outcome(ok=False, message="the server asks a question, and nobody is here to answer")
            answers = await self._answering.all(result.input_requests or {})
            answered = self.answered = Answered(result.request_state, answers)
        return Outcome(ok=False, message=f"the server still asks after {MAX_ROUNDS} rounds")


def _result(result: CallToolResult) -> Outcome:
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    structured = cast("JsonValue", result.structured_content)
    return Outcome(ok=not result.is_error, result=text if structured is None else structured, message=text)


def _failed(error: BaseException) -> Outcome:
    """A refusal as Envoy, ext_authz and mcpguard phrase it, or the connection's own failure."""
    data = error.data if isinstance(error, MCPError) and isinstance(error.data, dict) else {}

    def text(name: str) -> str | None:
        value = data.get(name)
        return value if isinstance(value, str) else None

    return Outcome(
        ok=False,
        message=str(error) or type(error).__name__,
        reason=text("reason"),
        decision_id=text("decision_id"),
        help=text("help"),
        support=text("support"),
        request_access=text("request_access"),
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
