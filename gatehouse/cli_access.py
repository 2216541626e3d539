"""`gatehouse token | svid | call | keys`: who somebody is, and what they may do."""

from __future__ import annotations

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatehouse.cli_options import JsonOutput, StateFolder, state_of
from gatehouse.console import give, give_json, say
from gatehouse.errors import REFUSED, UsageFailure

if TYPE_CHECKING:
    from gatehouse.answering import Respond
    from gatehouse.client import Outcome
    from identity.principal import JsonValue


class SvidType(StrEnum):
    """The two forms of a SPIFFE identity."""

    X509 = "x509"
    JWT = "jwt"


class ProtocolEra(StrEnum):
    """MCP versions that the client speaks."""

    SESSIONS = "2025-11-25"
    STATELESS = "2026-07-28"


def token(
    user: Annotated[str, typer.Option("--user", help="The token's `sub`.")],
    groups: Annotated[str | None, typer.Option("--groups", help="The issuer's groups, with commas.")] = None,
    roles: Annotated[str | None, typer.Option("--roles", help="Roles, with commas.")] = None,
    claim: Annotated[
        list[str] | None, typer.Option("--claim", help="NAME=VALUE; VALUE is JSON if it parses, else text.")
    ] = None,
    client: Annotated[str, typer.Option("--client", help="OAuth client it is issued to.")] = "ide-plugin",
    audience: Annotated[
        str | None, typer.Option("--audience", help="`aud` (default: the issuer's own).", show_default=False)
    ] = None,
    ttl: Annotated[int, typer.Option("--ttl", help="Seconds it lives; negative: it has expired.")] = 3600,
    issuer: Annotated[
        str | None,
        typer.Option("--issuer", help="An issuer of policy (default: the first).", show_default=False),
    ] = None,
    state: StateFolder = None,
) -> int:
    """Print a development token, signed with the key in the state folder. No server is needed.

    The default client, ide-plugin, is a surface off the mesh: its tokens work at the users' listener alone.
    """
    from gatehouse import tokens
    from gatehouse.issuers import issuer_named

    request = tokens.TokenRequest(
        user=user,
        groups=_names(groups),
        roles=_names(roles),
        client=client,
        audience=audience,
        ttl=ttl,
        claims=_claims(claim or []),
    )
    where = state_of(state)
    give(tokens.mint(where, issuer_named(where, issuer), request, time.time()))
    return 0


def svid(
    spiffe_id: Annotated[str, typer.Option("--id", help="SPIFFE ID, or its path within corp.example.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="OUT.pem and OUT.key (in a folder: svid.pem, svid.key), or the JWT's file.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[SvidType, typer.Option("--type", help="An X.509 certificate, or a JWT.")] = SvidType.X509,
    audience: Annotated[
        list[str] | None, typer.Option("--audience", help="Of a JWT-SVID; may be repeated.")
    ] = None,
    ttl: Annotated[int, typer.Option("--ttl", help="Seconds a JWT-SVID lives.")] = 300,
    state: StateFolder = None,
) -> int:
    """Make a development SVID. Prints the files of an X.509 one, or a JWT unless --out says a file."""
    from gatehouse.devca import DevCa, parse_id
    from gatehouse.state import write_private

    ca = DevCa(state_of(state))
    identity = parse_id(spiffe_id)
    if kind is SvidType.X509:
        pair = ca.x509_svid(identity, out)
        give(f"{pair.certificate}\n{pair.key}")
        return 0
    text = ca.jwt_svid(identity, audience or [], time.time(), ttl)
    if out is None:
        give(text)
    else:
        write_private(out, text)
        give(str(out))
    return 0


def call(
    server: Annotated[str, typer.Argument(help="The server's name, such as presto.")],
    tool: Annotated[str | None, typer.Argument(help="The tool; without one, the tools are listed.")] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="KEY=VALUE; VALUE is JSON if it parses, else text.")
    ] = None,
    user: Annotated[str | None, typer.Option("--as", help="A sample person.", show_default=False)] = None,
    bearer: Annotated[
        str | None,
        typer.Option("--token", help="A token of your own; - reads it from stdin.", show_default=False),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            "--service",
            help="SPIFFE ID to call as, by mTLS on the mesh; --as adds a user.",
            show_default=False,
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option("--client", help="OAuth client of the token that --as makes.", show_default=False),
    ] = None,
    era: Annotated[ProtocolEra, typer.Option("--era", help="MCP version to speak.")] = ProtocolEra.STATELESS,
    confirm: Annotated[
        bool | None,
        typer.Option(
            "--yes/--no",
            help="Answer what a tool asks before it runs (default: ask on the terminal).",
            show_default=False,
        ),
    ] = None,
    json_output: JsonOutput = False,
    state: StateFolder = None,
) -> int:
    """Call a tool through Envoy as a real MCP client. 0: done; 1: refused, or the tool failed; 2: usage."""
    from gatehouse.calling import Caller, call_server

    if user is not None and bearer is not None:
        raise UsageFailure("--as and --token exclude each other")
    caller = Caller(user, sys.stdin.read().strip() if bearer == "-" else bearer, service, client)
    respond = _responder(confirm)
    outcome = call_server(
        state_of(state), caller, server, tool, _claims(arguments or []), era=era.value, respond=respond
    )
    if json_output:
        give_json(outcome.as_json())
    elif outcome.ok:
        _show(outcome.result)
    else:
        say(_refusal(outcome))
        if respond is None and outcome.reason == "confirmation_required":
            say("  nobody is at a terminal: answer with --yes or --no")
    return 0 if outcome.ok else REFUSED


def _responder(confirm: bool | None) -> Respond | None:
    from gatehouse import answering

    if confirm is None:
        return answering.on_terminal()
    return answering.accept if confirm else answering.decline


keys = typer.Typer(
    help="Keys that sign identity assertions between Envoy and the servers.", no_args_is_help=True
)


class Rotation(StrEnum):
    """Steps of a rotation, in order."""

    ADD = "add"
    SIGN = "sign"
    RETIRE = "retire"


KeyFile = Annotated[
    Path | None,
    typer.Option("--keys", help="Private JWK set (default: the state folder's).", show_default=False),
]


@keys.command("new")
def keys_new(file: KeyFile = None, state: StateFolder = None) -> int:
    """Make a private JWK set of one new key, where there is none yet."""
    from gatehouse import identity_keys

    private = file or state_of(state).identity_private
    identity_keys.create(private)
    give(str(private))
    return 0


@keys.command("public")
def keys_public(file: KeyFile = None, state: StateFolder = None) -> int:
    """Print the public JWK set, for the servers to verify with."""
    from gatehouse import identity_keys

    give(identity_keys.public_set(file or state_of(state).identity_private))
    return 0


@keys.command("rotate")
def keys_rotate(
    step: Annotated[Rotation, typer.Argument(help="add, then sign, then retire.")],
    file: KeyFile = None,
    state: StateFolder = None,
) -> int:
    """Take one step of a rotation: publish the next key, sign with it, retire the old one.

    Between the steps wait until every server has read the public set again.
    """
    from gatehouse import identity_keys

    where = state_of(state)
    private = file or where.identity_private
    public = where.identity_public if file is None else None
    say(identity_keys.rotate(private, public, step.value))
    return 0


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _claims(pairs: list[str]) -> dict[str, JsonValue]:
    """`KEY=VALUE` pairs, values as JSON where they parse."""
    parsed: dict[str, JsonValue] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageFailure(f"{pair!r} is not KEY=VALUE")
        try:
            parsed[name] = json.loads(value)
        except ValueError:
            parsed[name] = value
    return parsed


def _show(result: JsonValue) -> None:
    if isinstance(result, str):
        give(result)
    elif isinstance(result, list) and all(isinstance(item, str) for item in result):
        give("\n".join(str(item) for item in result))
    else:
        give_json(result, indent=2)


def _refusal(outcome: Outcome) -> str:
    """Everything that the caller was told, a line each."""
    first = (
        f"refused: {outcome.reason}: {outcome.message}" if outcome.reason else f"failed: {outcome.message}"
    )
    lines = [
        ("what to do", outcome.help),
        ("ask", outcome.support),
        ("request access", outcome.request_access),
        ("decision", outcome.decision_id),
    ]
    return "\n".join([first, *(f"  {name}: {value}" for name, value in lines if value)])
