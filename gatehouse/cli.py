"""The `gatehouse` command: its options, and nothing that they do.

What a command does is imported when it runs, so that `gatehouse --help` and shell completion stay quick.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from gatehouse import cli_access, cli_policy, cli_servers
from gatehouse.cli_options import Deployment, JsonOutput, Policies, Reviewers, StateFolder, state_of
from gatehouse.console import give, say
from gatehouse.errors import REFUSED, Failure

app = typer.Typer(
    name="gatehouse",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        give(f"gatehouse {version('gatehouse')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """The reviewable policy layer for MCP servers behind Envoy."""


@app.command(rich_help_panel="Stack")
def up(
    policies: Policies = None,
    deployment: Deployment = None,
    reviewers: Reviewers = None,
    state: StateFolder = None,
    servers: Annotated[
        bool,
        typer.Option("--servers/--no-servers", help="Start the MCP servers that the deployment places here."),
    ] = True,
    restart: Annotated[
        bool, typer.Option("--restart/--no-restart", help="Start a component again when it dies.")
    ] = True,
    json_output: JsonOutput = False,
) -> int:
    """Start the local stack: issuer, ext_authz, control plane, servers, Envoy. Ctrl-C stops it.

    Without --policies, a copy of the shipped policies in the state folder is used, approved by development
    reviewers. With --json, one line of JSON with every address comes once everything answers.
    """
    from gatehouse.up import Options
    from gatehouse.up import up as run_up

    options = Options(state_of(state), policies, deployment, reviewers, servers=servers, restart=restart)
    return run_up(options, json_output=json_output)


@app.command(rich_help_panel="Stack")
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the tour instead of staying up.")] = False,
    state: StateFolder = None,
) -> int:
    """Start the stack, make the calls of the tour through Envoy, and say how each went.

    Ends with 1 if a call went otherwise than expected.
    """
    from gatehouse.demo import demo as run_demo

    return run_demo(state_of(state), once=once)


app.command("new-server", rich_help_panel="Stack")(cli_servers.new_server)
app.add_typer(cli_policy.app, name="policy", rich_help_panel="Policy")
app.command(rich_help_panel="Policy")(cli_policy.lock)
app.command(rich_help_panel="Access")(cli_access.token)
app.command(rich_help_panel="Access")(cli_access.svid)
app.command(rich_help_panel="Access")(cli_access.call)
app.add_typer(cli_access.keys, name="keys", rich_help_panel="Access")


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns its exit code."""
    try:
        code = app(list(arguments), prog_name="gatehouse", standalone_mode=False)
    except Failure as failure:
        say(f"gatehouse: {failure}" + (f"\n  {failure.hint}" if failure.hint else ""))
        return failure.code
    except typer.TyperException as error:
        say(_usage(error))
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # nobody reads: the interpreter's last flush must not fail
        return REFUSED
    except Exception as error:
        # The one boundary: what a person can mend is a line; a defect keeps its traceback.
        from gatehouse.explain import explained

        line = explained(error)
        if line is None:
            raise
        say(f"gatehouse: {line}")
        return REFUSED
    return code if isinstance(code, int) else 0


def _usage(error: typer.TyperException) -> str:
    message = error.format_message()
    return message if "\n" in message or not message else f"gatehouse: {message.rstrip('.')} (see --help)"
