"""org.yaml, surfaces.yaml and locks.yaml to the indexes that `decide` looks things up in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from identity.principal import ClaimNames, Issuer, SpiffeId
from pdp.model import FOREVER, BusinessGroup, GroupIndex, Guardrail, Lock, Surface
from pdp.schema import (
    GroupPart,
    GuardrailPart,
    IssuerPart,
    LocksFile,
    OrganizationFile,
    SurfacePart,
    SurfacesFile,
)
from pdp.source import Source


@dataclass(frozen=True, slots=True)
class CompiledOrganization:
    """Everything of a snapshot that isn't about one server or a lock."""

    trust_domains: frozenset[str]
    issuers: tuple[Issuer, ...]
    groups: Mapping[str, BusinessGroup]
    group_index: Mapping[str, GroupIndex]
    surfaces: Mapping[str, Surface]
    surface_by_spiffe: Mapping[SpiffeId, Surface]
    surface_by_client: Mapping[tuple[str, str], Surface]
    guardrails: tuple[Guardrail, ...]
    request_access: str


def compile_organization(
    org: Source[OrganizationFile],
    file: OrganizationFile,
    surfaces: Source[SurfacesFile],
    surfaces_file: SurfacesFile,
) -> CompiledOrganization:
    """Both files, already free of problems."""
    default = file.issuers[0].name
    groups = {name: _group(org, name, part, default) for name, part in file.business_groups.items()}
    by_name = {name: _surface(surfaces, name, part, default) for name, part in surfaces_file.surfaces.items()}
    return CompiledOrganization(
        trust_domains=frozenset(file.trust_domains),
        issuers=tuple(_issuer(part) for part in file.issuers),
        groups=groups,
        group_index={part.name: _index(part.name, groups.values()) for part in file.issuers},
        surfaces=by_name,
        surface_by_spiffe={s.spiffe: s for s in by_name.values() if s.spiffe is not None},
        surface_by_client={(s.issuer, s.client): s for s in by_name.values() if s.client is not None},
        guardrails=tuple(_guardrail(org, index, part) for index, part in enumerate(file.guardrails)),
        request_access=file.request_access or "",
    )


def _issuer(part: IssuerPart) -> Issuer:
    return Issuer(
        name=part.name,
        issuer=part.issuer,
        audiences=frozenset(part.audiences),
        algorithms=frozenset(part.algorithms),
        jwks_uri=part.jwks_uri,
        jwks_file=part.jwks_file,
        claims=ClaimNames(part.claims.groups, part.claims.roles, part.claims.client),
        require=tuple(sorted(part.require)),
        max_lifetime=part.max_lifetime,
        extra_headers=frozenset(part.extra_headers),
    )


def _group(org: Source[OrganizationFile], name: str, part: GroupPart, default_issuer: str) -> BusinessGroup:
    return BusinessGroup(
        name=name,
        location=org.at("business_groups", name),
        issuer=part.issuer or default_issuer,
        any_of=frozenset(part.any_of or ()),
        all_of=frozenset(part.all_of or ()),
        users=frozenset(part.users or ()),
        claims={claim: frozenset(values) for claim, values in (part.claims or {}).items()},
        until=part.until.timestamp() if part.until is not None else FOREVER,
    )


def _index(issuer: str, groups: Iterable[BusinessGroup]) -> GroupIndex:
    mine = [group for group in groups if group.issuer == issuer]
    by_group: dict[str, set[str]] = {}
    by_subject: dict[str, set[str]] = {}
    for group in mine:
        for issuer_group in group.any_of:
            by_group.setdefault(issuer_group, set()).add(group.name)
        for subject in group.users:
            by_subject.setdefault(subject, set()).add(group.name)
    ways = ((group, bool(group.any_of or group.all_of or group.users or group.claims)) for group in mine)
    return GroupIndex(
        everyone=frozenset(group.name for group, narrowed in ways if not narrowed),
        by_group={name: frozenset(found) for name, found in by_group.items()},
        by_subject={name: frozenset(found) for name, found in by_subject.items()},
        all_of=tuple(group for group in mine if group.all_of),
        by_claims=tuple(group for group in mine if group.claims),
    )


def _surface(surfaces: Source[SurfacesFile], name: str, part: SurfacePart, default_issuer: str) -> Surface:
    return Surface(
        name=name,
        location=surfaces.at("surfaces", name),
        environment=part.environment,
        owner=part.owner,
        spiffe=SpiffeId.parse(part.spiffe) if part.spiffe is not None else None,
        client=part.client,
        issuer=part.issuer or default_issuer,
        user_clients=frozenset(part.user_clients),
        channels={channel_id: channel for channel, channel_id in part.channels.items()},
    )


def _asked(items: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if items is None else frozenset(items)


def _guardrail(org: Source[OrganizationFile], index: int, part: GuardrailPart) -> Guardrail:
    deny = part.deny
    return Guardrail(
        id=part.id,
        location=org.at("guardrails", index),
        why=part.why,
        shadow=part.mode == "shadow",
        surface_environment=_asked(deny.surface_environment),
        surface_kind=_asked(deny.surface_kind),
        surfaces=_asked(deny.surfaces),
        server_lifecycle=_asked(deny.server_lifecycle),
        server_environment=_asked(deny.server_environment),
        servers=_asked(deny.servers),
        caller=_asked(deny.caller),
        groups=_asked(deny.groups),
        side_effect=_asked(deny.side_effect),
        risk=_asked(deny.risk),
        tools=_asked(deny.tools),
    )


_LOCKED: tuple[Literal["user", "token", "workload", "server"], ...] = ("user", "token", "workload", "server")


def compile_locks(source: Source[LocksFile] | None) -> dict[tuple[str, str], Lock]:
    """Locks by what they lock; of several on one subject the one that lasts longest."""
    locks: dict[tuple[str, str], Lock] = {}
    for index, part in enumerate(source.model.locks if source is not None and source.model else ()):
        for kind in _LOCKED:
            subject = getattr(part, kind)
            if subject is None or source is None:
                continue
            until = part.until.timestamp()
            known = locks.get((kind, subject))
            if known is None or known.until < until:
                location = source.at("locks", index)
                locks[kind, subject] = Lock(kind, subject, until, part.why, part.by, location)
    return locks
