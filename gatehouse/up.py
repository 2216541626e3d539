"""`gatehouse up`: prepares the state folder, starts the stack, says where it is, stays until stopped."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gatehouse import bootstrap, identity_keys, issuers, observe, programs, registered, stack, working_policy
from gatehouse.console import give_json, say
from gatehouse.devissuer import WARNING
from gatehouse.errors import Failure
from gatehouse.local import Local, localize
from gatehouse.processes import Command
from gatehouse.shipped import DEPLOYMENT, POLICIES, shipped
from gatehouse.stack import Plan
from gatehouse.state import DEFAULT, State, make_private_folder, write
from gatehouse.supervisor import START_SECONDS, Supervisor
from identity.principal import JsonValue
from pdp.deployment import load_deployment
from pdp.load import load_folder

_KEYS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    state: State
    policies: Path | None = None
    deployment: Path | None = None
    reviewers: Path | None = None
    servers: bool = True
    restart: bool = True


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that answers."""

    plan: Plan
    supervisor: Supervisor
    names: tuple[str, ...]
    """Servers that policy names."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why no policy is in force; none where one is."""
        return working_policy.problems(self.plan.policies, self.plan.reviewers)

    @property
    def addresses(self) -> dict[str, JsonValue]:
        found = stack.addresses(self.plan, self.names, self.supervisor.pids)
        problems: list[JsonValue] = [*self.problems]
        return {"ready": not problems, "problems": problems, **found}

    def write_addresses(self) -> None:
        """Keep STATE/stack.json true; pids change when a component is started again."""
        write(self.plan.state.stack, json.dumps(self.addresses, indent=2))


def up(options: Options, *, json_output: bool) -> int:
    """Run the stack until Ctrl-C or SIGTERM, which is how it ends well."""
    stop_on_sigterm()
    try:
        with running(options) as live:
            if json_output:
                give_json(live.addresses)
            say_where(live)
            live.supervisor.watch(live.write_addresses)
    except KeyboardInterrupt:
        say("stopped")
    return 0


def stop_on_sigterm() -> None:
    """Let SIGTERM do what Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def running(options: Options) -> Iterator[Running]:
    """A stack that answers, for as long as the context lasts."""
    options.state.prepare()
    with _alone(options.state):
        plan = prepare(options)
        try:
            with Supervisor(say, restart=options.restart) as supervisor:
                live = Running(plan, supervisor, _named(plan.policies, plan.reviewers))
                _start(live)
                live.write_addresses()
                yield live
        finally:
            options.state.stack.unlink(missing_ok=True)


@contextmanager
def _alone(state: State) -> Iterator[None]:
    """Hold the state folder: two stacks in one would overwrite each other's files."""
    with (state.root / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(
                f"another stack runs from {state.root}", "stop it, or name another --state"
            ) from error
        yield


def prepare(options: Options) -> Plan:
    """Write every file that the processes read, and choose every port."""
    state = options.state
    reviewers = options.reviewers or state.reviewers
    policies = options.policies or state.policies
    registered.forget_lost(state, say)
    if options.reviewers is None:
        working_policy.write_reviewers(state, policies=options.policies)
    if options.policies is None:
        linked = {server.name: server.policy for server in registered.servers(state)}
        working_policy.refresh(state, shipped(POLICIES), reviewers, time.time(), say, linked=linked)
    elif not policies.is_dir():
        raise Failure(f"there is no policy folder {policies}")
    facts = issuers.policy_facts(policies, reviewers)
    if facts.issuers:
        issuers.record(state, facts.issuers)
    identity_keys.ensure(state)
    startable = _startable(options, policies, reviewers)
    local = localize(
        options.deployment or shipped(DEPLOYMENT),
        state,
        facts,
        move_ports=options.deployment is None,
        listening=startable.__contains__,
        added=[server.name for server in registered.servers(state) if server.name in startable],
    )
    deployment = load_deployment(local.path)
    bootstrap.write_bootstrap(state, local.envoy_admin, deployment)
    _say_moved(local)
    ours = tuple(name for name in deployment.endpoints if name in startable)
    for name in ours:
        make_private_folder(state.data(name))
    iss = facts.issuers[0].issuer if facts.issuers else f"http://{local.issuer}"
    return Plan(state, policies, reviewers, local, deployment, iss, ours)


def _startable(options: Options, policies: Path, reviewers: Path) -> frozenset[str]:
    """Servers that this machine can run and that policy knows. Why another isn't started is said."""
    if not options.servers:
        return frozenset()
    known, named = programs.known(options.state), _named(policies, reviewers)
    for name in programs.missing():
        if name in named:
            say(f"  {name} is not started: it needs `pip install 'gatehouse[{name}]'`")
    for server in registered.servers(options.state):
        if server.name not in named:
            say(f"  {server.name} is not started: {policies} has no servers/{server.name}.yaml")
    return frozenset(known).intersection(named)


def _say_moved(local: Local) -> None:
    for before, after in local.moved.items():
        say(f"  {before} is taken on this machine: using {after}")


def _start(live: Running) -> None:
    """Start everything; the servers meanwhile, since no other part waits for them."""
    plan, supervisor = live.plan, live.supervisor
    say(f"  {WARNING}")
    with _timed(plan.first):
        supervisor.start(*plan.first)
    began = time.monotonic()
    with _timed(plan.core):
        supervisor.begin(*plan.guarded)
        supervisor.start(*plan.core)
    problems = live.problems
    for problem in problems:
        say(f"  policy: {problem}")
    with _timed((plan.envoy,)):
        supervisor.start(plan.envoy)
        _await_envoy(live, in_force=not problems)
    _await_servers(live, began)
    if problems:
        say("  no policy is in force: every call is refused until it is mended")


def _await_servers(live: Running, began: float) -> None:
    """Wait for the MCP servers. One that fails is said and tried again; the stack is there without it."""
    if not live.plan.servers:
        return
    say(f"  waiting for {', '.join(live.plan.servers)} …")
    failed = []
    for name in live.plan.servers:
        try:
            live.supervisor.ready(name, began + START_SECONDS)
        except Failure as failure:
            failed.append(name)
            say(f"  {failure}")
    up = [name for name in live.plan.servers if name not in failed]
    if up:
        say(f"  {', '.join(up)} up after {time.monotonic() - began:.1f} s")


def _await_envoy(live: Running, *, in_force: bool) -> None:
    """Wait until a call would be answered as policy says; without a policy, until Envoy is there."""
    plan, until = live.plan, live.supervisor.until
    admin, metrics = plan.local.envoy_admin, f"http://{plan.local.extauthz_metrics}/metrics"
    if not in_force:
        until(lambda: stack.envoy_answers(admin), "envoy")
        return
    until(lambda: observe.policy_digest(metrics) is not None, "extauthz")
    until(lambda: stack.envoy_listens(admin, plan.deployment), "envoy")
    if observe.wait_until(lambda: observe.has_keys(metrics), _KEYS_SECONDS) is None:
        say("  an issuer's keys are not there yet: its tokens are answered 503 until they are")


@contextmanager
def _timed(commands: tuple[Command, ...]) -> Iterator[None]:
    names = ", ".join(command.name for command in commands)
    began = time.monotonic()
    say(f"  starting {names} …")
    yield
    say(f"  {names} up after {time.monotonic() - began:.1f} s")


def _named(policies: Path, reviewers: Path) -> tuple[str, ...]:
    """Servers that policy names, in force or not."""
    folder = load_folder(policies, reviewers)
    return tuple(sorted({*folder.servers, *folder.approved_servers}))


def say_where(live: Running) -> None:
    """Where everything listens, for a person."""
    plan, found = live.plan, live.addresses
    rows = [("users", f"{found['users']}  TLS, JWT")]
    if found["mesh"]:
        rows.append(("mesh", f"{found['mesh']}  mutual TLS, SPIFFE"))
    rows += [(name, plan.deployment.resource_url(name)) for name in _placed(live)]
    rows += [
        ("development issuer", str(found["jwks"])),
        ("ext_authz", f"{found['extauthz']}  {found['extauthz_metrics']}"),
        ("control plane", f"{found['xds']}  {found['xds_metrics']}"),
        ("Envoy's admin page", str(found["envoy_admin"])),
        ("policy", str(plan.policies)),
        ("decisions", str(plan.state.decisions)),
        ("usage", str(plan.state.usage)),
        ("logs", str(plan.state.logs)),
        ("CA of the listeners", str(plan.state.server_ca)),
    ]
    say("\nThe stack is up:")
    for name, where in rows:
        say(f"  {name:<22}{where}")
    example = _example(live)
    say(f"\nTry:  {command()} {example}" if example else "")
    say("Ctrl-C stops it.\n")


def _placed(live: Running) -> list[str]:
    """Servers that policy names and the deployment places."""
    return [name for name in live.plan.deployment.endpoints if name in live.names]


def _example(live: Running) -> str | None:
    """A call that there is something to answer; of a server that isn't ours, what it lists."""
    known, placed = programs.known(live.plan.state), _placed(live)
    if not placed:
        return None
    name = next(iter(live.plan.servers), placed[0])
    arguments = known[name].example if name in live.plan.servers else ("--as", "ana")
    return shlex.join(("call", name, *arguments, *state_flag(live.plan.state)))


def state_flag(state: State) -> tuple[str, ...]:
    """How the state folder is told to another command; nothing where it is the usual one."""
    return () if state.root == DEFAULT else ("--state", os.fspath(state.root))


def command() -> str:
    """How this very command is called from where the user is: make doesn't put .venv/bin on their PATH."""
    if shutil.which("gatehouse"):
        return "gatehouse"
    here = Path(sys.executable).parent / "gatehouse"
    shortest = min(os.path.relpath(here), str(here), key=len)
    return shortest if here.exists() else f"{sys.executable} -m gatehouse"
