"""What the stack of docker-compose.yml needs before it starts: keys, a development CA, the policies.

It runs at every `docker compose up`: keys and policies that are there stay, certificates are renewed. The
folder /state is laid out as `gatehouse up` does it, so that `gatehouse token` works from it; every folder of
secrets in it is a volume of its own, and what everybody may read lies beside them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import yaml

from gatehouse import bootstrap, identity_keys, issuers, keys, working_policy
from gatehouse.console import say
from gatehouse.devca import DevCa
from gatehouse.errors import Failure
from gatehouse.local import GATEWAY_SVID
from gatehouse.shipped import POLICIES, shipped
from gatehouse.state import State, write
from pdp.deployment import load_deployment
from pdp.problem import PolicyError

HERE = Path(__file__).parent
PUBLISHED = os.environ.get("GATEHOUSE_USERS_PORT") or "8443"
"""The port on the host, which clients' URLs and so tokens' audiences name."""


def main() -> int:
    """Write everything; safe to repeat."""
    state = State(Path("/state"))
    try:
        trust = state.root / "trust"
        trust.mkdir(exist_ok=True)
        _policies(state)
        _keys(state, trust)
        _certificates(state, trust)
        _places(state)
        _bootstrap(state)
    except PolicyError as error:
        say(f"setup: {error}")
        return 1
    except Failure as failure:
        say(f"setup: {failure}" + (f"\n  {failure.hint}" if failure.hint else ""))
        return failure.code
    return 0


def _policies(state: State) -> None:
    working_policy.write_reviewers(state, policies=None)
    working_policy.refresh(state, shipped(POLICIES), state.reviewers, time.time(), say)


def _keys(state: State, trust: Path) -> None:
    """The issuer's key, and the one that signs identity assertions; its public half is for servers."""
    keys.load_or_make(state.issuer_keys, "RS256")
    identity_keys.ensure(state)
    shutil.copy(state.identity_public, trust / "identity.jwks")


def _certificates(state: State, trust: Path) -> None:
    facts = issuers.policy_facts(state.policies, state.reviewers)
    issuers.record(state, facts.issuers)
    ca = DevCa(state)
    for domain in facts.trust_domains:
        shutil.copy(ca.x509_bundle(domain), trust)
        shutil.copy(ca.jwt_bundle(domain), trust)
    ca.server_pair("users")
    ca.server_pair("mesh", GATEWAY_SVID.format(trust_domain=facts.trust_domains[0]))
    shutil.copy(state.server_ca, trust)


def _places(state: State) -> None:
    """Where things run: for the processes, and for `gatehouse call`, which runs within the pod."""
    deployment = yaml.safe_load((HERE / "deployment.yaml").read_bytes())
    deployment["public_url"] = f"https://127.0.0.1:{PUBLISHED}"
    write(state.deployment, yaml.safe_dump(deployment, sort_keys=False))
    within = {"users": "https://127.0.0.1:8443", "mesh": "https://127.0.0.1:8444"}
    write(state.stack, json.dumps(within))


def _bootstrap(state: State) -> None:
    """Envoy's bootstrap, with its admin page on a Unix socket and the two pages of it that others read."""
    bootstrap.write_bootstrap(state, "127.0.0.1:9901", load_deployment(state.deployment))
    document = yaml.safe_load(state.bootstrap.read_bytes())
    added = yaml.safe_load((HERE / "pages.yaml").read_bytes())
    document["node"]["id"] = "compose"
    document["admin"] = added["admin"]
    document["static_resources"]["clusters"] += added["static_resources"]["clusters"]
    document["static_resources"]["listeners"] = added["static_resources"]["listeners"]
    write(state.bootstrap, yaml.safe_dump(document, sort_keys=False))


if __name__ == "__main__":
    sys.exit(main())
