"""A whole stack with all its servers and the fixture, and a Node to run other people's clients with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gatehouse import registered
from gatehouse.devca import DevCa, parse_id
from gatehouse.issuers import issuer_named
from gatehouse.people import CLIENTS, NOTEBOOK, request_for
from gatehouse.state import State
from gatehouse.tokens import mint
from tests.clients import node as nodes
from tests.support.envoy import free_port, running_envoy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOUR = 3600
ANY_PORTS = """\
apiVersion: gatehouse/v1
kind: Deployment
public_url: https://127.0.0.1:0
listeners:
  users: {address: "127.0.0.1:0", tls: {certificate: users.pem, key: users.key}}
  mesh: {address: "127.0.0.1:0"}
endpoints:
  presto: {address: "127.0.0.1:0"}
  spark: {address: "127.0.0.1:0"}
  knowledge: {address: "127.0.0.1:0"}
  airflow: {address: "127.0.0.1:0"}
ext_authz: {addresses: ["127.0.0.1:0"]}
control_plane: {address: "127.0.0.1:0"}
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fetch things from PyPI and npm only where that is asked for, by `-m clients`."""
    if "clients" in config.option.markexpr.replace("not clients", ""):
        return
    skip = pytest.mark.skip(reason="fetches Node and clients from PyPI and npm: run `make test-clients`")
    for item in items:
        if item.get_closest_marker("clients") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def node() -> nodes.Node:
    try:
        return nodes.installed()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Node can't be fetched: {error}: {str(error.stderr)[-400:]}")


@dataclass(frozen=True)
class Stack:
    """What `gatehouse up` says of itself."""

    state: State
    addresses: dict[str, Any]

    def token(self, user: str, client: str = "ide-plugin") -> str:
        issuer = issuer_named(self.state, None)
        return mint(self.state, issuer, request_for(user, client, None, HOUR), time.time())


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("clients")
    state, log = State(folder / "state"), folder / "up.log"
    for name in ("fixture_server.py", "fixture_rounds.py", "fixture.yaml"):
        shutil.copy(HERE / name, folder)
    fixture = registered.Registered("fixture", folder / "fixture_server.py", folder / "fixture.yaml")
    registered.register(state, fixture)
    (folder / "deployment.yaml").write_text(ANY_PORTS)
    up = [sys.executable, "-m", "gatehouse", "up", "--json", "--state", str(state.root)]
    up += ["--deployment", str(folder / "deployment.yaml")]
    with log.open("w") as stderr:
        process = subprocess.Popen(up, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Stack(state, json.loads(line))
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def fixture_url(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The fixture server through the stack's Envoy, for a client that can show no credentials.

    Another Envoy before it adds them, the notebook's certificate and a user's token, and nothing else.
    """
    mesh = urlsplit(stack.addresses["mesh"])
    pair = DevCa(stack.state).x509_svid(parse_id(NOTEBOOK))
    token, port = stack.token("dino", CLIENTS[NOTEBOOK]), free_port()
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": os.fspath(pair.certificate)},
                    "private_key": {"filename": os.fspath(pair.key)},
                }
            ],
            "validation_context": {"trusted_ca": {"filename": os.fspath(stack.state.server_ca)}},
        },
    }
    authorization = {"header": {"key": "authorization", "value": f"Bearer {token}"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",  # noqa: E501
        "stat_prefix": "hop",
        "stream_idle_timeout": "0s",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "hop",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "gateway", "timeout": "0s"}}],
                    "request_headers_to_add": [authorization],
                }
            ]
        },
    }
    config = {
        "admin": {"address": _address("127.0.0.1", free_port())},
        "static_resources": {
            "listeners": [
                {
                    "name": "hop",
                    "address": _address("127.0.0.1", port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "gateway",
                    "type": "STATIC",
                    "transport_socket": {"name": "tls", "typed_config": tls},
                    "load_assignment": {
                        "cluster_name": "gateway",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {"endpoint": {"address": _address("127.0.0.1", mesh.port or 0)}}
                                ]
                            }
                        ],
                    },
                }
            ],
        },
    }
    with running_envoy(config, tmp_path_factory.mktemp("hop")):
        yield f"http://127.0.0.1:{port}/fixture/mcp"


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
