"""What must hold within one policy file beyond the types of its fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pdp.deployment_file import DeploymentFile, deployment_faults
from pdp.document import Path
from pdp.fault import Fault
from pdp.problem import quoted
from pdp.schema import (
    GroupPart,
    LocksFile,
    OrganizationFile,
    PolicyFile,
    ReviewersFile,
    ReviewsFile,
    RulePart,
    ServerFile,
    SurfacesFile,
    ToolPart,
)
from pdp.signature import public_key

RESERVED_SERVER_NAMES = frozenset({"organization"})
"""A review's subject has a server's name or this one."""


def faults(model: PolicyFile) -> list[Fault]:
    """All that is wrong within a file whose fields are each well-formed."""
    if isinstance(model, OrganizationFile):
        return list(_organization(model))
    if isinstance(model, SurfacesFile):
        return list(_surfaces(model))
    if isinstance(model, ServerFile):
        return list(_server(model))
    if isinstance(model, LocksFile):
        return list(_locks(model))
    if isinstance(model, ReviewsFile):
        return list(_reviews(model))
    if isinstance(model, ReviewersFile):
        return list(_reviewers(model))
    if isinstance(model, DeploymentFile):
        return list(deployment_faults(model))
    return []


def _repeated(where: str, key: str, values: Iterable[str]) -> Iterator[Fault]:
    """Ids are quoted in logs and denials: two rules of one name could not be told apart."""
    counts: Counter[str] = Counter()
    for index, value in enumerate(values):
        counts[value] += 1
        if counts[value] == 2:
            yield Fault((where, index, key), f"the {key} {quoted(value)} stands here twice")


def _one_of(part: object, path: Path, keys: tuple[str, ...], what: str) -> Iterator[Fault]:
    said = [key for key in keys if getattr(part, key) is not None]
    if len(said) != 1:
        found = f"this one says {' and '.join(said)}" if said else "this one says none"
        yield Fault(path, f"{what} says one of {', '.join(keys)}; {found}")


def _organization(model: OrganizationFile) -> Iterator[Fault]:
    yield from _repeated("issuers", "name", (issuer.name for issuer in model.issuers))
    yield from _repeated("issuers", "issuer", (issuer.issuer for issuer in model.issuers))
    for index, issuer in enumerate(model.issuers):
        yield from _one_of(issuer, ("issuers", index), ("jwks_uri", "jwks_file"), "an issuer")
    for name, group in model.business_groups.items():
        yield from _group(name, group)
    yield from _repeated("guardrails", "id", (guardrail.id for guardrail in model.guardrails))
    for index, guardrail in enumerate(model.guardrails):
        if not guardrail.deny.model_fields_set:
            hint = "say what it forbids, such as {side_effect: write}"
            yield Fault(("guardrails", index, "deny"), "this guardrail would forbid everything", hint)
    if "production" not in model.reviews.required:
        yield Fault(
            ("reviews", "required"), "the reviews that production needs are missing", "production: [security]"
        )
    if model.request_access is not None and "{group}" not in model.request_access:
        yield Fault(("request_access",), "expected an address with {group} in it")


def _group(name: str, group: GroupPart) -> Iterator[Fault]:
    ways = [key for key in ("any_of", "all_of", "users", "claims") if getattr(group, key) is not None]
    path = ("business_groups", name)
    if len(ways) > 1:
        yield Fault(path, f"a group is made in one way; this one says {' and '.join(ways)}")
    elif not ways and group.issuer is None:
        hint = "name the issuer to mean every user of it: {issuer: sso}"
        yield Fault(path, "a group without any_of, all_of, users or claims holds everybody", hint)


def _surfaces(model: SurfacesFile) -> Iterator[Fault]:
    for name, surface in model.surfaces.items():
        path = ("surfaces", name)
        yield from _one_of(surface, path, ("spiffe", "client"), "a surface")
        if surface.client is not None and surface.user_clients:
            yield Fault(
                (*path, "user_clients"), "user_clients are for surfaces on the mesh", "keep client alone"
            )
        for channel, count in Counter(surface.channels.values()).items():
            if count > 1:
                message = f"two channels of {name} have the id {quoted(channel)}"
                yield Fault((*path, "channels"), message)


def shared_identities(model: SurfacesFile, default_issuer: str) -> Iterator[Fault]:
    """One identity is one surface; else which rules apply would depend on the order of the file.

    Apart from `faults`, because the default issuer stands in org.yaml.
    """
    spiffe: dict[str, str] = {}
    clients: dict[tuple[str, str], str] = {}
    brought = {
        (surface.issuer or default_issuer, client): name
        for name, surface in model.surfaces.items()
        for client in surface.user_clients
    }
    for name, surface in model.surfaces.items():
        path = ("surfaces", name)
        if surface.spiffe is not None and spiffe.setdefault(surface.spiffe, name) != name:
            yield Fault(path, f"{spiffe[surface.spiffe]} has the SPIFFE ID of {name} already")
        if surface.client is None:
            continue
        client = (surface.issuer or default_issuer, surface.client)
        if clients.setdefault(client, name) != name:
            yield Fault(path, f"{clients[client]} has the client of {name} already")
        if client in brought:
            message = f"{brought[client]} brings users of the client of {name} over the mesh"
            yield Fault(path, message, "a token made for a mesh surface must be worthless off the mesh")


def _server(model: ServerFile) -> Iterator[Fault]:
    if model.name in RESERVED_SERVER_NAMES:
        yield Fault(("name",), f"no server may be called {quoted(model.name)}")
    yield from _repeated("access", "id", (rule.id for rule in model.access))
    for index, rule in enumerate(model.access):
        yield from _rule(("access", index), rule)
    for name, tool in model.tools.items():
        yield from _tool(("tools", name), tool)
    for name, policy in model.tool_policies.items():
        if not policy.model_fields_set:
            message = f"the tool policy {quoted(name)} asks for nothing"
            yield Fault(("tool_policies", name), message, "say groups, roles or channels")


def _rule(path: Path, rule: RulePart) -> Iterator[Fault]:
    if rule.groups is None and rule.services is None:
        message = f"the rule {quoted(rule.id)} says neither groups nor services"
        yield Fault(path, message, "groups: for users, services: for callers without a user")
    if rule.groups is not None and rule.services is not None:
        message = f"the rule {quoted(rule.id)} says groups and services"
        yield Fault(
            path, message, "make it two rules: with a user only groups count, without one only services"
        )
    if rule.services is not None and rule.surfaces is not None:
        message = f"the rule {quoted(rule.id)} says services and surfaces"
        yield Fault((*path, "surfaces"), message, "services are the surfaces already", key=True)
    if not (rule.tools or rule.resources or rule.prompts):
        yield Fault((*path, "tools"), f"the rule {quoted(rule.id)} grants nothing", key=True)


def _tool(path: Path, tool: ToolPart) -> Iterator[Fault]:
    if tool.confirm == "approver" and not tool.approvers:
        yield Fault((*path, "confirm"), "an approver must be of some group", "add approvers: [group]")
    if tool.approvers and tool.confirm != "approver":
        yield Fault((*path, "approvers"), "approvers without confirm: approver", key=True)


def _locks(model: LocksFile) -> Iterator[Fault]:
    for index, lock in enumerate(model.locks):
        yield from _one_of(lock, ("locks", index), ("user", "token", "workload", "server"), "a lock")
        if lock.user is not None and not all(lock.user.partition(":")):
            hint = "the issuer's name, a colon and the sub: sso:00u7"
            yield Fault(("locks", index, "user"), f"{quoted(lock.user)} names no user", hint)


def _reviews(model: ReviewsFile) -> Iterator[Fault]:
    for index, approval in enumerate(model.approvals):
        if approval.expires <= approval.approved:
            yield Fault(("approvals", index, "expires"), "an approval that ends before it begins")


def _reviewers(model: ReviewersFile) -> Iterator[Fault]:
    for name, reviewer in model.reviewers.items():
        for index, key in enumerate(reviewer.keys):
            if public_key(key) is None:
                hint = "a line of an SSH .pub file: ssh-ed25519, ecdsa, or RSA of 2048 bits or more"
                yield Fault(("reviewers", name, "keys", index), "not a key that can be verified with", hint)
        if model.require_signatures and not reviewer.keys:
            message = f"{name} can approve nothing: signatures are required and no key is here"
            yield Fault(("reviewers", name), message, key=True)
