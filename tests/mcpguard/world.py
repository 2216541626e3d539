"""A small company for tests: its policy folder, reviewed as it must be, and its people."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from identity.assertion import Assertion
from identity.principal import SpiffeId, User
from pdp.digest import organization_digest
from pdp.load import load_folder

ORGANIZATION = """\
apiVersion: gatehouse/v1
kind: Organization
trust_domains: [corp.example]
issuers:
  - name: sso
    issuer: https://sso.corp.example
    jwks_uri: https://sso.corp.example/jwks
    audiences: [mcp]
    algorithms: [ES256]
    claims: {groups: groups, roles: roles, client: azp}
business_groups:
  ads:     {any_of: [ads-eng, ads-sales]}
  ads-eng: {any_of: [ads-eng]}
  finance: {any_of: [fin]}
reviews:
  required: {production: [security], experimental: []}
  valid_for: 180d
request_access: https://access.corp.example/{group}
"""
SURFACES = """\
apiVersion: gatehouse/v1
kind: Surfaces
surfaces:
  ide: {client: ide-plugin, environment: dev, owner: devtools}
  ai-chat:
    {spiffe: spiffe://corp.example/ns/prod/sa/ai-chat, user_clients: [ai-chat-web], environment: dev,
     owner: a}
  chat-bot:
    {spiffe: spiffe://corp.example/ns/prod/sa/chat-bot, user_clients: [chat-bot], environment: dev, owner: a,
     channels: {spark-help: C0LAN2Q65}}
  report-bot: {spiffe: spiffe://corp.example/ns/prod/sa/report-bot, environment: dev, owner: f}
"""
TOY = """\
apiVersion: gatehouse/v1
kind: Server
name: toy
title: Toy
description: For tests.
owner: {team: toys, support: "#toy-help"}
lifecycle: experimental
environment: dev
listing_requires: user
access:
  - {id: people, surfaces: [ide], groups: [ads], tools: all, resources: ["toy://open"], prompts: [greet]}
  - {id: channel, surfaces: [chat-bot], channels: [spark-help], groups: [ads], tools: [open_tool]}
  - {id: reports, services: [report-bot], tools: [open_tool]}
tools:
  open_tool:    {side_effect: none, risk: low}
  eng_tool:     {side_effect: none, risk: low, policy: eng-only}
  quiet_tool:   {side_effect: none, risk: low, policy: eng-only}
  other_tool:   {side_effect: none, risk: low}
  confirm_tool: {side_effect: none, risk: low, confirm: caller}
  ask_tool:     {side_effect: none, risk: low}
  absent_tool:  {side_effect: none, risk: low}
tool_policies:
  eng-only: {groups: [ads-eng]}
"""
REVIEWERS = """\
apiVersion: gatehouse/v1
kind: Reviewers
reviewers:
  dana@corp.example: {kinds: [security]}
"""

EVA = User("sso", "eva", client="ide-plugin")
"""An ads engineer."""
SAM = User("sso", "sam", client="ide-plugin")
"""An ads salesperson."""
REPORT_BOT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/report-bot")
CHAT_BOT = SpiffeId.parse("spiffe://corp.example/ns/prod/sa/chat-bot")


class World:
    """A policy folder below `root`, in force."""

    def __init__(self, root: Path) -> None:
        self.policies = root / "policies"
        self.reviewers = root / "reviewers.yaml"
        self.reviewers.write_text(REVIEWERS)
        for folder in ("approved", "servers", "reviews/security"):
            (self.policies / folder).mkdir(parents=True)
        for folder in ("", "approved"):
            (self.policies / folder / "org.yaml").write_text(ORGANIZATION)
            (self.policies / folder / "surfaces.yaml").write_text(SURFACES)
        self._approve_organization()
        self.write_server(TOY)

    def write_server(self, text: str, name: str = "toy") -> None:
        """Write one server's text at once, as an editor that renames does."""
        path = self.policies / "servers" / f"{name}.yaml"
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)

    def write_locks(self, *lines: str) -> None:
        head = "apiVersion: gatehouse/v1\nkind: Locks\nlocks:\n"
        (self.policies / "locks.yaml").write_text(head + "".join(f"  - {line}\n" for line in lines))

    def _approve_organization(self) -> None:
        folder = load_folder(self.policies, self.reviewers)
        org, surfaces = folder.organization, folder.surfaces
        assert org is not None
        assert org.model is not None, org.problems
        assert surfaces is not None
        assert surfaces.model is not None, surfaces.problems
        digest = organization_digest(org.model, surfaces.model)
        for name, text in (("org.yaml", ORGANIZATION), ("surfaces.yaml", SURFACES)):
            (self.policies / "approved" / name).write_text(f"# approved {digest}\n{text}")
        today = datetime.now(UTC).date()
        (self.policies / "reviews/security/organization.yaml").write_text(
            "apiVersion: gatehouse/v1\nkind: Reviews\napprovals:\n"
            f"  - {{digest: '{digest}', ticket: SEC-1, approver: dana@corp.example,"
            f" approved: {today - timedelta(days=1)}, expires: {today + timedelta(days=90)}}}\n"
        )


def assertion(
    user: User | None = EVA,
    *,
    workload: SpiffeId | None = None,
    groups: frozenset[str] | None = None,
    server: str = "toy",
    channel_id: str | None = None,
    expires_in: float = 3600,
) -> Assertion:
    """What ext_authz would say of this caller; a user's groups go by who it is, unless given."""
    if user is not None:
        user = User(user.issuer, user.subject, user.client, expires=time.time() + expires_in)
    if groups is None:
        groups = frozenset({"ads", "ads-eng"} if user and user.subject == "eva" else {"ads"} if user else ())
    return Assertion(
        server=server,
        user=user,
        workload=workload,
        groups=groups,
        surface="ide" if workload is None else workload.path.rpartition("/")[2],
        channel=None,
        channel_id=channel_id,
        policy="sha256:" + "0" * 64,
    )
