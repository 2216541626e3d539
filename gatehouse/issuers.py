"""Whom the development issuer stands in for: the issuers of the policy that the stack runs with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from gatehouse.errors import Failure, UsageFailure
from gatehouse.local import PolicyFacts
from gatehouse.shipped import POLICIES, shipped
from gatehouse.state import State, read_json, write
from gatehouse.tokens import DevIssuer
from pdp.load import load_folder
from pdp.schema import IssuerPart


def policy_facts(policies: Path, reviewers: Path) -> PolicyFacts:
    """What a deployment must fit, read from what is proposed; nothing where org.yaml can't be read."""
    try:
        organization = load_folder(policies, reviewers).organization
    except OSError as error:
        raise Failure(f"cannot read the policies in {policies}: {error.strerror}") from error
    if organization is None or organization.model is None:
        return PolicyFacts((), ())
    return PolicyFacts(
        trust_domains=organization.model.trust_domains,
        issuers=tuple(_dev_issuer(issuer) for issuer in organization.model.issuers),
        foreign_keys=frozenset(issuer.name for issuer in organization.model.issuers if _at_hand(issuer)),
    )


def record(state: State, issuers: Sequence[DevIssuer]) -> None:
    """Keep whom tokens are signed for, so that `gatehouse token` needs no running stack."""
    write(state.issuers, json.dumps([asdict(issuer) for issuer in issuers], indent=2))


def issuer_named(state: State, name: str | None) -> DevIssuer:
    """The issuer of this name, by default the first: of the stack's policy, or of the shipped one before any.

    Raises:
        UsageFailure: policy names no such issuer.

    """
    known = _recorded(state) or policy_facts(shipped(POLICIES), state.reviewers).issuers
    for issuer in known:
        if name in (None, issuer.name):
            return issuer
    raise UsageFailure(f"policy names no issuer {name!r}", f"known: {', '.join(i.name for i in known)}")


def _recorded(state: State) -> tuple[DevIssuer, ...]:
    if not state.issuers.exists():
        return ()
    raw = read_json(state.issuers)
    if not isinstance(raw, list):
        raise Failure(f"{state.issuers} does not list issuers", "delete it: `gatehouse up` writes a new one")
    return tuple(DevIssuer(**{**item, "require": tuple(item["require"])}) for item in raw)


def _dev_issuer(issuer: IssuerPart) -> DevIssuer:
    return DevIssuer(
        name=issuer.name,
        issuer=issuer.issuer,
        audience=min(issuer.audiences, default="mcp"),
        groups=issuer.claims.groups,
        roles=issuer.claims.roles,
        client=issuer.claims.client,
        require=issuer.require,
    )


def _at_hand(issuer: IssuerPart) -> bool:
    """Whether policy itself says where to read this issuer's keys on this machine."""
    if issuer.jwks_file is not None:
        return True
    return urlsplit(issuer.jwks_uri or "").hostname in ("127.0.0.1", "localhost")
