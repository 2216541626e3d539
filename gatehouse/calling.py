"""`gatehouse call`: from what a person typed to a call with the right address and credentials."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from gatehouse import client, tokens
from gatehouse.answering import WAIT, Respond, ask
from gatehouse.devca import DevCa, parse_id
from gatehouse.errors import Failure, UsageFailure
from gatehouse.issuers import issuer_named
from gatehouse.people import CLIENTS, request_for
from gatehouse.state import State, read_json
from gatehouse.tokens import DEFAULT_CLIENT
from identity.principal import JsonValue


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """Who calls. It has no `repr`: a token may be in it."""

    user: str | None
    token: str | None
    service: str | None
    client: str | None


def call_server(
    state: State,
    caller: Caller,
    server: str,
    tool: str | None,
    arguments: Mapping[str, JsonValue],
    *,
    era: str,
    respond: Respond | None = None,
) -> client.Outcome:
    """Call a tool of the stack that runs from `state`, through Envoy."""
    running = running_stack(state)
    call = client.Call(
        _url(running, server, mesh=caller.service is not None),
        tool,
        arguments,
        client.Era(era),
        seconds=WAIT if respond is ask else client.SECONDS,
        respond=respond,
    )
    return client.perform(call, _credentials(state, caller), state.server_ca)


def running_stack(state: State) -> dict[str, JsonValue]:
    """The addresses of the stack that runs from this folder."""
    if not state.stack.exists():
        raise Failure(
            f"no stack runs from {state.root}", "start one with `gatehouse up`, or name its --state"
        )
    stack = read_json(state.stack)
    if not isinstance(stack, dict):
        raise Failure(f"{state.stack} does not hold addresses", "start the stack again")
    return stack


def _url(stack: Mapping[str, JsonValue], server: str, *, mesh: bool) -> str:
    """The server's address. One that policy doesn't name has an address all the same: Envoy says why not."""
    base = stack["mesh" if mesh else "users"]
    if base is None:
        raise UsageFailure("the deployment has no mesh listener", "leave --service out")
    return f"{base}/{server}/mcp"


def _credentials(state: State, caller: Caller) -> client.Credentials:
    certificate = None
    default_client = DEFAULT_CLIENT
    if caller.service is not None:
        identity = parse_id(caller.service)
        certificate = DevCa(state).x509_svid(identity)
        default_client = CLIENTS.get(str(identity), DEFAULT_CLIENT)
    token = caller.token
    if caller.user is not None:
        request = request_for(caller.user, caller.client or default_client, None, tokens.DEFAULT_TTL)
        token = tokens.mint(state, issuer_named(state, None), request, time.time())
    return client.Credentials(token, certificate)
