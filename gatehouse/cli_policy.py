"""`gatehouse policy ...` and `gatehouse lock`: what is in force, and how that changes."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from gatehouse.cli_options import JsonOutput, Policies, Reviewers, StateFolder, state_of
from gatehouse.console import give, give_json, say
from gatehouse.errors import REFUSED, UsageFailure

app = typer.Typer(help="What policy proposes, what is in force, and reviews.", no_args_is_help=True)


LockKind: TypeAlias = Literal["user", "token", "workload", "server"]


class SchemaKind(StrEnum):
    """Kinds of policy files."""

    ORGANIZATION = "organization"
    SURFACES = "surfaces"
    SERVER = "server"
    LOCKS = "locks"
    REVIEWS = "reviews"
    REVIEWERS = "reviewers"


@app.command()
def check(
    policies: Policies = None,
    reviewers: Reviewers = None,
    state: StateFolder = None,
    json_output: JsonOutput = False,
) -> int:
    """Check a policy folder: every problem with its file:line:column. 0: it can be enforced."""
    from gatehouse import reviewing

    where = reviewing.folders(policies, reviewers, state_of(state))
    found = reviewing.check(*where)
    if json_output:
        give_json(found.as_json())
    else:
        for line in (*found.problems, *(f"warning: {warning}" for warning in found.warnings)):
            give(line)
        if found.digest is not None:
            say(f"ok: {where[0]}: {found.servers} servers, {found.digest}")
    return 0 if found.digest is not None else REFUSED


@app.command()
def status(
    policies: Policies = None,
    reviewers: Reviewers = None,
    state: StateFolder = None,
    json_output: JsonOutput = False,
) -> int:
    """Say of each subject whether it is in force, until when, and which review is missing."""
    from gatehouse import reviewing

    rows = reviewing.status(*reviewing.folders(policies, reviewers, state_of(state)), time.time())
    if json_output:
        give_json([row.as_json() for row in rows])
    else:
        for row in rows:
            give(str(row))
    return 0 if all(row.open for row in rows) else REFUSED


@app.command()
def approve(
    subject: Annotated[str, typer.Argument(help="A server's name, or organization.")],
    approver: Annotated[str, typer.Option("--as", help="Who approves, as the reviewers' file names them.")],
    ticket: Annotated[str, typer.Option("--ticket", help="Where the review is written down.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", help="Kind of review (default: all that this reviewer may give).", show_default=False
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            help="A span such as 90d, or a time (default: as late as policy lets).",
            show_default=False,
        ),
    ] = None,
    policies: Policies = None,
    reviewers: Reviewers = None,
    state: StateFolder = None,
) -> int:
    """Approve a proposal as it stands. The last approval that it lacks puts it in force."""
    from gatehouse import approving, reviewing
    from gatehouse.moments import moment

    now = time.time()
    until = moment(expires, now) if expires else None
    wanted = approving.Approval(subject, approver, ticket, now, tuple(kind or ()), until)
    where = reviewing.folders(policies, reviewers, state_of(state), named=True)
    kinds, done = approving.approve(*where, wanted)
    give(f"approved {subject} for {', '.join(kinds)}: {done.digest}")
    reviewing.must_be_enforced(where, f"the approval of {subject} is written")
    if done.promoted:
        give(f"{subject} is in force: {', '.join(str(file) for file in done.files)}")
    else:
        give(f"not in force yet: it lacks {', '.join(sorted(done.missing))}")
    return 0


@app.command()
def schema(
    kind: Annotated[SchemaKind | None, typer.Argument(help="Print this kind's JSON Schema.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write every schema into this folder.", show_default=False)
    ] = None,
) -> int:
    """Print or write the JSON Schemas that editors check policy files with."""
    from pdp.publish import pages

    schemas = {Path(name).name: text for name, text in pages().items() if name.startswith("schema/")}
    if out is not None:
        for name, text in schemas.items():
            _write_page(out / name, text)
    elif kind is not None:
        give(schemas[f"{kind.value}.json"].rstrip())
    else:
        raise UsageFailure("say a kind, or --out FOLDER", f"kinds are {', '.join(SchemaKind)}")
    return 0


@app.command()
def reasons(
    code: Annotated[str | None, typer.Argument(help="One reason's code.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the page of all of them.", show_default=False)
    ] = None,
    json_output: JsonOutput = False,
) -> int:
    """Explain every reason a call is refused for, or one."""
    from pdp.publish import pages
    from pdp.reasons import REASONS

    if out is not None:
        _write_page(out, pages()["reasons.md"])
        return 0
    if code is not None and code not in REASONS:
        raise UsageFailure(f"no reason is called {code!r}", "`gatehouse policy reasons` lists them")
    chosen = [REASONS[code]] if code is not None else list(REASONS.values())
    if json_output:
        give_json(
            [{"code": r.code, "status": r.status, "meaning": r.meaning, "remedy": r.remedy} for r in chosen]
        )
        return 0
    for reason in chosen:
        give(f"{reason.code:<26}{reason.status}  {reason.meaning}\n{'':<31}{reason.remedy}")
    return 0


def _write_page(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    give(str(path))


def lock(
    why: Annotated[str, typer.Option("--why", help="The reason, such as an incident's number.")],
    user: Annotated[
        str | None, typer.Option("--user", help="ISSUER:SUB, such as sso:lena.", show_default=False)
    ] = None,
    token: Annotated[str | None, typer.Option("--token", help="A token's jti.", show_default=False)] = None,
    workload: Annotated[
        str | None, typer.Option("--workload", help="A SPIFFE ID.", show_default=False)
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="A server's name.", show_default=False)
    ] = None,
    until: Annotated[
        str, typer.Option("--until", help="A span such as 12h, or a time with its zone.")
    ] = "24h",
    by: Annotated[
        str | None, typer.Option("--by", help="Who locks (default: $USER).", show_default=False)
    ] = None,
    policies: Policies = None,
    reviewers: Reviewers = None,
    state: StateFolder = None,
) -> int:
    """Deny one user, token, workload or server at once, until a time. Needs no review."""
    from gatehouse import reviewing
    from gatehouse.moments import moment
    from pdp.locking import lock as write_lock

    named: dict[LockKind, str | None] = {
        "user": user,
        "token": token,
        "workload": workload,
        "server": server,
    }
    given = [(kind, subject) for kind, subject in named.items() if subject is not None]
    if len(given) != 1:
        raise UsageFailure("say exactly one of --user, --token, --workload, --server")
    kind, subject = given[0]
    now = time.time()
    end = moment(until, now)
    where = reviewing.folders(policies, reviewers, state_of(state), named=True)
    who = by or os.environ.get("USER") or "unknown"
    file = write_lock(*where, kind, subject, until=end, why=why, by=who, now=now)
    reviewing.must_be_enforced(where, f"the lock is written to {file}")
    give(f"{subject} is locked in {file}")
    return 0
