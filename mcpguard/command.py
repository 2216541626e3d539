"""The command line of a server: what `python -m servers.NAME` takes."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mcp.server.mcpserver import MCPServer

from mcpguard import logs
from mcpguard.confirmation_setup import ConfirmationOptions
from mcpguard.ingest import Ingest
from mcpguard.limits import Limits
from mcpguard.listener import StartError
from mcpguard.payloads import LEVELS
from mcpguard.serving import serve
from mcpguard.settings import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


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
    add(
        "--strict",
        action="store_true",
        help="refuse to start where code and policy name different tools, or a tool is not fully described",
    )
    _add_confirmations(parser)
    _add_limits(parser)
    _add_logs(parser)
    _add_usage(parser)
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


def _add_limits(parser: argparse.ArgumentParser) -> None:
    add, usual = (
        parser.add_argument_group("limits (a tool's own @limits stands before them)").add_argument,
        Limits(),
    )
    add(
        "--deadline",
        type=_positive,
        default=usual.seconds,
        metavar="SECONDS",
        help="for one call of a tool (default: %(default)g)",
    )
    add(
        "--calls-per-caller",
        type=_count,
        default=usual.per_caller,
        metavar="N",
        help="calls of one user or service at once (default: %(default)s)",
    )
    add(
        "--calls-per-tool",
        type=_count,
        default=usual.at_once,
        metavar="N",
        help="calls of one tool at once (default: %(default)s)",
    )
    add(
        "--result-bytes",
        type=_count,
        default=usual.result_bytes,
        metavar="N",
        help="of one result as JSON (default: %(default)s)",
    )


def _add_logs(parser: argparse.ArgumentParser) -> None:
    add, usual = parser.add_argument_group("logs and traces").add_argument, Settings()
    add("--log-level", choices=_LEVELS, default="info", help="(default: %(default)s)")
    add(
        "--log-payloads",
        choices=LEVELS,
        default=usual.payloads,
        help="whose arguments and results are logged, secrets left out (default: %(default)s)",
    )
    add(
        "--log-payload-size",
        type=_count,
        default=usual.payload_limit,
        metavar="N",
        help="characters of the arguments, and as many of the result (default: %(default)s)",
    )
    add(
        "--redact",
        action="append",
        default=[],
        metavar="FIELD",
        help="a field whose values are secret too; may be given several times",
    )
    add(
        "--otlp",
        metavar="URL",
        help="send traces and metrics to this OpenTelemetry collector (OTLP over HTTP)",
    )


def _add_usage(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("usage events and inventory").add_argument
    add("--usage-file", type=Path, metavar="FILE", help="append them here, a line of JSON each")
    add("--usage-ingest", metavar="URL", help="post them here too: the registry's ingest address")
    add(
        "--usage-credential",
        type=Path,
        metavar="FILE",
        help="a bearer token for it; read anew each time, so that it may be renewed",
    )
    add("--usage-ca", type=Path, metavar="FILE", help="CA of the registry's certificate, PEM")
    add("--usage-certificate", type=Path, metavar="FILE", help="certificate to show it, PEM")
    add("--usage-key", type=Path, metavar="FILE", help="that certificate's private key, PEM")
    add(
        "--usage-spool",
        type=Path,
        metavar="DIR",
        help="where events wait that it doesn't have yet (default: in this process)",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("a number greater than zero")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("a whole number greater than zero")
    return value


def _settings(options: argparse.Namespace) -> Settings:
    """Build what the options say.

    Raises:
        StartError: they don't fit together.

    """
    said = (options.usage_credential, options.usage_ca, options.usage_certificate, options.usage_key)
    if options.usage_ingest is None and any((*said, options.usage_spool)):
        raise StartError("--usage-credential, -ca, -certificate, -key and -spool need --usage-ingest")
    return Settings(
        limits=Limits(
            options.deadline, options.calls_per_tool, options.calls_per_caller, options.result_bytes
        ),
        payloads=options.log_payloads,
        payload_limit=options.log_payload_size,
        redact=tuple(options.redact),
        usage_file=options.usage_file,
        ingest=Ingest(options.usage_ingest, *said) if options.usage_ingest is not None else None,
        spool=options.usage_spool,
        otlp=options.otlp,
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
    try:
        settings = _settings(options)
        logs.configure(_LEVELS[options.log_level], settings.redactor())
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
            settings=settings,
            tls_certificate=options.tls_certificate,
            tls_key=options.tls_key,
            client_ca=options.client_ca,
        )
    except StartError as error:
        sys.exit(f"{server}: {error}")
    sys.exit(0)
