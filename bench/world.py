"""A large company's policy folder: so many servers, with ten access rules each, all reviewed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pdp.digest import organization_digest, server_digest
from pdp.load import load_folder
from pdp.schema import PolicyFile, ServerFile
from pdp.source import Source, read

Kind = TypeVar("Kind", bound=PolicyFile)

RULES = 10
GROUPS = 300
USER_GROUPS = tuple(f"idp-{n}" for n in range(200))
"""The issuer groups of the user in these measurements."""

ORGANIZATION = """\
apiVersion: gatehouse/v1
kind: Organization
trust_domains: [corp.example]
issuers:
  - name: sso
    issuer: https://sso.corp.example
    jwks_uri: https://sso.corp.example/jwks
    audiences: [mcp]
    algorithms: [ES256, RS256]
    claims: {groups: groups, roles: roles, client: azp}
business_groups:
"""
TAIL = """\
reviews:
  required: {production: [security], experimental: []}
  valid_for: 180d
request_access: https://access.corp.example/{group}
guardrails:
  - {id: prod-not-to-experiments, deny: {surface_environment: prod, server_lifecycle: experimental}, why: reviewed only}
  - {id: services-never-write, deny: {caller: service, side_effect: [write, destroy]}, why: a person answers}
"""
SURFACES = """\
apiVersion: gatehouse/v1
kind: Surfaces
surfaces:
  ide: {client: ide-plugin, environment: prod, owner: devtools}
  ai-chat: {spiffe: spiffe://corp.example/ns/prod/sa/ai-chat, user_clients: [ai-chat-web], environment: prod, owner: assistants}
"""
REVIEWERS = """\
apiVersion: gatehouse/v1
kind: Reviewers
reviewers:
  bench@corp.example: {kinds: [security]}
"""


def server_name(number: int) -> str:
    return f"server-{number:04}"


def server_text(number: int, *, rules: int = RULES, salt: int = 0) -> str:
    """One server's policy: the last rule is the one that lets the measured user in."""
    lines = [
        "apiVersion: gatehouse/v1",
        "kind: Server",
        f"name: {server_name(number)}",
        f"title: Server {number}",
        "description: One of many.",
        'owner: {team: platform, support: "#help"}',
        "lifecycle: production",
        "environment: prod",
        "listing_requires: user",
        "access:",
    ]
    for rule in range(rules):
        group = f"team-{(number + rule + salt) % 100 + 200}" if rule < rules - 1 else f"team-{number % 200}"
        lines.append(f"  - {{id: rule-{rule}, surfaces: [ide, ai-chat], groups: [{group}], tools: all}}")
    lines.append("tools:")
    lines += [f"  tool_{n}: {{side_effect: none, risk: low}}" for n in range(8)]
    return "\n".join(lines) + "\n"


def write(root: Path, servers: int, *, rules: int = RULES) -> Path:
    """Write the proposals below `root` and the reviewers beside it; returns the reviewers' file."""
    (root / "servers").mkdir(parents=True)
    groups = "".join(f"  team-{n}: {{any_of: [idp-{n}]}}\n" for n in range(GROUPS))
    (root / "org.yaml").write_text(ORGANIZATION + groups + TAIL)
    (root / "surfaces.yaml").write_text(SURFACES)
    for number in range(servers):
        (root / "servers" / f"{server_name(number)}.yaml").write_text(server_text(number, rules=rules))
    reviewers = root.parent / "reviewers.yaml"
    reviewers.write_text(REVIEWERS)
    approve_all(root, reviewers)
    return reviewers


def approve_all(root: Path, reviewers: Path) -> None:
    """Approve every proposal at once; `pdp.approve` does it one by one, and loads the folder each time."""
    folder = load_folder(root, reviewers)
    assert folder.organization is not None
    assert folder.surfaces is not None
    organization = organization_digest(_model(folder.organization), _model(folder.surfaces))
    for file in ("org.yaml", "surfaces.yaml"):
        _approve(root, file, "organization", organization)
    for name, source in folder.servers.items():
        _approve(root, f"servers/{name}.yaml", name, server_digest(_model(source)))


def change(root: Path, number: int, salt: int) -> None:
    """Change the rules of one server, reviewed."""
    (root / "servers" / f"{server_name(number)}.yaml").write_text(server_text(number, salt=salt))
    _approve_server(root, number)


def add(root: Path, number: int) -> str:
    """Add one server, reviewed; gives its name. What it took until now is not part of a measurement."""
    change(root, number, 0)
    return server_name(number)


def _approve_server(root: Path, number: int) -> None:
    """Approve one proposal, without loading the folder around it."""
    name = server_name(number)
    file = f"servers/{name}.yaml"
    source = read(file, (root / file).read_bytes(), ServerFile)
    _approve(root, file, name, server_digest(_model(source)))


def _model(source: Source[Kind]) -> Kind:
    if source.model is None:
        raise AssertionError(source.problems)
    return source.model


def _approve(root: Path, file: str, subject: str, digest: str) -> None:
    approved = root / "approved" / file
    approved.parent.mkdir(parents=True, exist_ok=True)
    approved.write_text(f"# approved {digest}\n{(root / file).read_text()}")
    today = datetime.now(UTC).date()
    review = root / "reviews" / "security" / f"{subject}.yaml"
    review.parent.mkdir(parents=True, exist_ok=True)
    review.write_text(
        "apiVersion: gatehouse/v1\nkind: Reviews\napprovals:\n"
        f"  - {{digest: '{digest}', ticket: SEC-1, approver: bench@corp.example, "
        f"approved: {today}, expires: {today + timedelta(days=180)}}}\n"
    )
