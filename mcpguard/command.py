"""The command line of a server: what `python -m servers.NAME` takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mcp.server.mcpserver import MCPServer

from mcpguard import logs
from mcpguard.confirmation_setup import ConfirmationOptions
from mcpguard.listener import StartError
from mcpguard.serving import serve


def arguments(server: str) -> argparse.ArgumentParser:
    """Return the options that every server takes; add a server's own to it and give `run` what it parsed."""
    parser = argparse.ArgumentParser(
        prog=f"python -m servers.{server}",
        description=f"Serve the MCP server {server} behind Envoy, guarded by reviewed policy.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--policies", type=Path, required=True, metavar="DIR", help="the policy folder")
    add("--reviewers", type=Path, required=True, metavar="FILE", help="who may approve what")
    add(
        "--identity-keys",
        type=Path,
        required=True,
        metavar="FILE",
        help="public keys of those who sign X-Forwarded-Identity, a JWK set",
    )
    add(
        "--listen",
        default="127.0.0.1:0",
        metavar="ADDRESS:PORT",
        help="loopback unless TLS is given; port 0 takes a free one (default: %(default)s)",
    )
    add("--tls-certificate", type=Path, metavar="FILE", help="certificate chain, PEM")
    add("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")
    add("--client-ca", type=Path, metavar="FILE", help="accept only clients with a certificate of this CA")
    add("--strict", action="store_true", help="refuse to start where code and policy name different tools")
    _add_confirmations(parser)
    return parser


def _add_confirmations(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("confirmations").add_argument
    add(
        "--confirmations",
        metavar="FILE",
        help="what was asked and answered: a SQLite file that replicas on one host share, or postgresql://… "
        "(default: kept in this process)",
    )
    add(
        "--confirmation-keys",
        type=Path,
        metavar="FILE",
        help="secrets that the replicas share, a line each; the first seals (default: a key of this process)",
    )
    add(
        "--confirmation-page",
        metavar="URL",
        help="https address with {server} and {id}, where clients without forms send their user",
    )


def run(
    mcp: MCPServer[Any],
    *,
    server: str,
    parsed: argparse.Namespace | None = None,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Serve as the command line says, and exit: 0 when stopped, 1 where it can't start, 2 on wrong usage."""
    options = parsed if parsed is not None else arguments(server).parse_args(argv)
    logs.configure()
    try:
        serve(
            mcp,
            server=server,
            policies=options.policies,
            reviewers=options.reviewers,
            identity_keys=options.identity_keys,
            listen=options.listen,
            strict=options.strict,
            confirmations=ConfirmationOptions(
                options.confirmations, options.confirmation_keys, options.confirmation_page
            ),
            tls_certificate=options.tls_certificate,
            tls_key=options.tls_key,
            client_ca=options.client_ca,
        )
    except StartError as error:
        sys.exit(f"{server}: {error}")
    sys.exit(0)
