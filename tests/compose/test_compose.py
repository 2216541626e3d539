"""docker-compose.yml: built, started, called from the host through Envoy, broken and mended."""

from __future__ import annotations

import socket
from typing import cast

import pytest

from gatehouse.client import Era
from gatehouse.observe import wait_until
from identity.principal import JsonValue
from tests.compose.conftest import Stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

SERVERS = ("presto", "spark", "knowledge", "airflow")
SERVICES = ("issuer", "extauthz", "xds", *SERVERS, "envoy")
QUERY = {"sql": "SELECT 6 * 7 AS answer"}
BACK_SECONDS = 20.0


def refused(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("era", list(Era))
def test_a_client_on_the_host_gets_rows_through_envoy(stack: Stack, era: Era) -> None:
    outcome = stack.call("run_query", QUERY, era=era)
    assert outcome.ok, outcome.message
    assert "42" in str(outcome.result)


def test_a_user_of_no_group_is_refused_with_the_reason(stack: Stack) -> None:
    outcome = stack.call("run_query", QUERY, user="hana")
    assert (outcome.status, outcome.reason) == (403, "group_not_allowed")
    assert outcome.decision_id is not None
    assert outcome.decision_id in stack.do("logs", "--no-log-prefix", "extauthz")


@pytest.mark.parametrize(
    ("server", "tool", "shows"),
    [
        ("spark", "list_applications", "local-1795383804511"),
        ("knowledge", "search", "ads/roas-playbook.md"),
        ("airflow", "list_dags", "clean_prices"),
    ],
)
def test_every_other_server_answers_from_its_samples(
    stack: Stack, server: str, tool: str, shows: str
) -> None:
    arguments = {"query": "return on ad spend"} if server == "knowledge" else {}
    outcome = stack.call(tool, arguments, server=server)
    assert outcome.ok, outcome.message
    assert shows in str(outcome.result)


def test_no_token_is_no_entry(stack: Stack) -> None:
    assert stack.call("run_query", QUERY, user=None).status == 401


def test_a_service_comes_in_by_its_svid_and_no_further_than_policy_says(stack: Stack) -> None:
    bot = ("--service", "ns/prod/sa/report-bot", "--json")
    assert stack.docker("run", "--rm", "-T", "cli", "call", "presto", "list_tables", *bot).returncode == 0
    no = stack.docker("run", "--rm", "-T", "cli", "call", "presto", "run_query", "sql=SELECT 1", *bot)
    assert no.returncode == 1
    assert '"status": 403' in no.stdout


def test_only_envoys_listeners_can_be_reached_from_outside(stack: Stack) -> None:
    published = [
        (port.URL, port.TargetPort)
        for container in stack.compose.get_containers()
        for port in container.Publishers or ()
        if port.PublishedPort
    ]
    assert sorted(published) == [("127.0.0.1", 8443), ("127.0.0.1", 8444)]
    assert not refused("127.0.0.1", stack.users_port)
    assert not refused(stack.address, 8443)
    for port in (9003, 9011, 9012, 9101, 9102, 9103, 9104, 9901):
        assert refused(stack.address, port)
        assert stack.docker("exec", "-T", "presto", "python", "-c", CONNECT.format(port)).returncode == 0


CONNECT = "import socket; socket.create_connection(('127.0.0.1', {}), 2)"
"""The counterpart: that port is open, within the pod."""


@pytest.mark.parametrize("service", [*SERVICES, "pod", "setup"])
def test_every_container_runs_without_privileges(stack: Stack, service: str) -> None:
    found = stack.inspect(service)
    config = cast("dict[str, JsonValue]", found["Config"])
    host = cast("dict[str, JsonValue]", found["HostConfig"])
    assert config["User"] == "10001:10001"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] is None
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_is_healthy_by_its_own_check(stack: Stack, service: str) -> None:
    assert stack.compose.get_container(service).Health == "healthy"


SECRETS = {
    "ca/servers.key": (),
    "ca/corp.example.key": (),
    "issuer/keys.jwks": ("issuer",),
    "identity/private.jwks": ("extauthz",),
    "tls/users.key": ("xds",),
}


@pytest.mark.parametrize("service", SERVICES)
def test_a_process_sees_its_own_secrets_alone(stack: Stack, service: str) -> None:
    listed = stack.do("exec", "-T", service, "sh", "-c", f"cd /state && ls {' '.join(SECRETS)} 2>&1 || true")
    seen = {line for line in listed.splitlines() if "cannot access" not in line}
    assert seen == {secret for secret, readers in SECRETS.items() if service in readers}


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_cannot_ask_ext_authz_nor_the_control_plane(stack: Stack, server: str) -> None:
    assert "xds.sock" in stack.do("exec", "-T", "envoy", "ls", "/run/gatehouse")
    assert stack.do("exec", "-T", server, "ls", "/run/gatehouse") == ""


def test_a_lock_is_in_force_without_a_restart(stack: Stack) -> None:
    assert stack.call("list_tables", user="fay").ok
    lock = ("gatehouse", "lock", "--user", "sso:fay", "--why", "INC-1")
    stack.do("run", "--rm", "-T", "--no-deps", "setup", *lock)
    assert (
        wait_until(lambda: stack.call("list_tables", user="fay").reason == "locked", BACK_SECONDS) is not None
    )
    assert stack.call("list_tables").ok


def test_without_ext_authz_nobody_gets_in_until_it_is_back(stack: Stack) -> None:
    assert stack.call("list_tables").ok
    stack.do("kill", "extauthz")
    try:
        assert stack.call("list_tables").status == 503
    finally:
        stack.do("start", "extauthz")
    assert wait_until(lambda: stack.call("list_tables").ok, BACK_SECONDS) is not None


def test_without_the_control_plane_traffic_goes_on(stack: Stack) -> None:
    stack.do("kill", "xds")
    try:
        assert stack.call("list_tables").ok
    finally:
        stack.do("start", "xds")


def test_envoy_itself_can_be_restarted(stack: Stack) -> None:
    stack.do("restart", "envoy")
    assert wait_until(lambda: stack.call("list_tables").ok, BACK_SECONDS) is not None


KEPT = "issuer/keys.jwks identity/private.jwks ca/servers.key ca/corp.example.key policies/org.yaml"


def test_starting_again_keeps_the_keys_and_the_policies(stack: Stack) -> None:
    look = ("run", "--rm", "-T", "--no-deps", "setup", "sh", "-c", f"cd /state && sha256sum {KEPT}")
    before = stack.do(*look)
    stack.do("up", "--detach", "--wait")
    assert stack.do(*look) == before
    assert wait_until(lambda: stack.call("list_tables").ok, BACK_SECONDS) is not None
