"""What may stand in a policy file: one pydantic model per kind, closed to unknown keys.

These models are the file's edge and nothing more: `pdp.compile` turns them into `pdp.model`. The JSON Schemas
in `docs/schema/` are made of them (`published`), so the texts below are what an editor shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from pdp.fields import (
    PROSE,
    ChannelId,
    Digest,
    Duration,
    Flag,
    Label,
    Name,
    Number,
    OneOrSome,
    SelectionOf,
    SetOf,
    SomeOf,
    SpiffeText,
    Text,
    Time,
    TimeOrDay,
    ToolName,
    TrustDomain,
    WebAddress,
)

API_VERSION = "gatehouse/v1"

Algorithm = Literal["RS256", "PS256", "ES256", "ES384", "EdDSA"]
Environment = Literal["prod", "dev"]
Lifecycle = Literal["production", "experimental"]
Mode = Literal["enforce", "shadow"]
SideEffect = Literal["none", "write", "destroy"]
Risk = Literal["low", "medium", "high"]


class Part(BaseModel):
    """Anything with keys: closed, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PolicyFile(Part):
    """What every file begins with."""

    api_version: Annotated[Literal["gatehouse/v1"], Field(alias="apiVersion")]


class ClaimNamesPart(Part):
    """Where the issuer's tokens say what policy asks about: a claim's name, or a JSON Pointer into it."""

    groups: Label = "groups"
    roles: Label = "roles"
    client: Label = "azp"


class IssuerPart(Part):
    """A trusted token issuer. Its keys come from `jwks_uri` or `jwks_file`, one of them."""

    name: Name
    issuer: WebAddress
    """The exact `iss` of its tokens."""
    jwks_uri: WebAddress | None = None
    jwks_file: Label | None = None
    audiences: SetOf[Label] = ()
    """Accepted besides each server's own resource URL."""
    algorithms: SomeOf[Algorithm]
    claims: ClaimNamesPart = ClaimNamesPart()
    require: SetOf[Label] = ()
    """Claims without which a token is refused."""
    max_lifetime: Duration = 86_400
    """Longest time between a token's `iat` and `exp`."""
    extra_headers: SetOf[Label] = ()
    """JOSE header names accepted beside the usual ones."""


class GroupPart(Part):
    """A named set of one issuer's users, by exactly one of `any_of`, `all_of`, `users` and `claims`.

    With `issuer` alone: every valid user of it.
    """

    issuer: Name | None = None
    """By default the first issuer."""
    any_of: SomeOf[Label] | None = None
    """Groups of the issuer, any one of which is enough."""
    all_of: SomeOf[Label] | None = None
    """Groups of the issuer, all of which are needed."""
    users: SomeOf[Label] | None = None
    """Users by their `sub`."""
    claims: Annotated[dict[Label, SomeOf[Label]], Field(min_length=1)] | None = None
    """Claims and the values accepted; every claim named must have one."""
    until: Time | None = None
    """From then on nobody is in it."""


class ReviewRules(Part):
    """Which kinds of review a server needs, by its lifecycle, and how long one holds."""

    required: dict[Lifecycle, SetOf[Name]]
    """Kinds by lifecycle. A server that says `uses_genai` needs `genai` as well."""
    valid_for: Duration


class DenyPart(Part):
    """What a guardrail forbids. Keys are ANDed, items of a list ORed."""

    surface_environment: OneOrSome[Environment] | None = None
    surface_kind: OneOrSome[Literal["mesh", "client"]] | None = None
    surfaces: OneOrSome[Name] | None = None
    server_lifecycle: OneOrSome[Lifecycle] | None = None
    server_environment: OneOrSome[Environment] | None = None
    servers: OneOrSome[Name] | None = None
    caller: OneOrSome[Literal["user", "service"]] | None = None
    groups: OneOrSome[Name] | None = None
    side_effect: OneOrSome[SideEffect] | None = None
    risk: OneOrSome[Risk] | None = None
    tools: OneOrSome[ToolName] | None = None


class GuardrailPart(Part):
    """An organisation-wide deny that no access rule can override."""

    id: Name
    deny: DenyPart
    why: Text
    """One sentence; the caller who is refused reads it."""
    mode: Mode = "enforce"


class OrganizationFile(PolicyFile):
    """org.yaml: whom policy trusts, the business groups, reviews and guardrails."""

    kind: Literal["Organization"]
    trust_domains: SetOf[TrustDomain] = ()
    issuers: Annotated[tuple[IssuerPart, ...], Field(min_length=1)]
    """The first is the default."""
    business_groups: dict[Name, GroupPart] = {}
    reviews: ReviewRules
    request_access: WebAddress | None = None
    """Where a caller asks for access: an address with `{group}` in it."""
    guardrails: tuple[GuardrailPart, ...] = ()


class SurfacePart(Part):
    """Where calls come from: on the mesh by `spiffe`, off it by `client`; exactly one of them."""

    spiffe: SpiffeText | None = None
    user_clients: SetOf[Label] = ()
    """OAuth clients whose users a surface on the mesh may bring."""
    client: Label | None = None
    """The OAuth client that this surface, off the mesh, is."""
    issuer: Name | None = None
    """Whose client ids these are; by default the first issuer."""
    environment: Environment
    owner: Annotated[Text, PROSE] = ""
    channels: dict[Name, ChannelId] = {}
    """Channels that this surface asserts: the name in policy, and the id that it sends."""


class SurfacesFile(PolicyFile):
    """surfaces.yaml: where calls may come from."""

    kind: Literal["Surfaces"]
    surfaces: dict[Name, SurfacePart]


class OwnerPart(Part):
    """Who answers for a server."""

    team: Text
    support: Text
    """Where a refused caller asks; it stands in every denial."""


class RulePart(Part):
    """From these surfaces, users of these groups (or: these services) may use these tools.

    Keys are ANDed, items of a list ORed. `groups` and `services` exclude each other, and one is needed.
    """

    id: Name
    surfaces: SomeOf[Name] | None = None
    """By default any surface."""
    groups: SomeOf[Name] | None = None
    """Business groups; the call must bring a user of one."""
    services: SomeOf[Name] | None = None
    """Surfaces on the mesh that may call without a user."""
    channels: SomeOf[Name] | None = None
    """Channels, as the surfaces name them. By default anywhere."""
    tools: SelectionOf[ToolName]
    resources: SelectionOf[Label] = ()
    prompts: SelectionOf[Label] = ()
    mode: Mode = "enforce"
    """`shadow`: logged, never enforced."""


class ToolPart(Part):
    """One tool. A tool that isn't named is neither listed nor callable."""

    side_effect: SideEffect
    risk: Risk
    policy: Name | None = None
    """A rule of `tool_policies` that the tool asks for besides the access rules."""
    shadow_policy: Name | None = None
    """The same, logged and never enforced."""
    confirm: Literal["caller", "approver"] | None = None
    """Who confirms each call: the caller, or another person out of `approvers`."""
    approvers: SetOf[Name] = ()
    minutes_saved: Annotated[Number, PROSE] = 0.0
    """The owner's estimate of what one call saves a person."""


class ToolPolicyPart(Part):
    """A rule that a tool asks for by name. It only narrows. Keys are ANDed, items ORed."""

    groups: SomeOf[Name] | None = None
    roles: SomeOf[Label] | None = None
    channels: SomeOf[Name] | None = None


class ServerFile(PolicyFile):
    """servers/NAME.yaml: one MCP server, who may use it, and its tools."""

    kind: Literal["Server"]
    name: Name
    """The file's name, without .yaml."""
    title: Annotated[Text, PROSE] = ""
    description: Annotated[Text, PROSE] = ""
    owner: Annotated[OwnerPart, PROSE]
    lifecycle: Lifecycle
    environment: Environment
    uses_genai: Flag = False
    """Whether a tool of it calls a generative model; such a server needs a `genai` review."""
    listing_requires: Literal["user", "surface"] = "user"
    """What `tools/list` needs: a valid user, or a mesh identity alone."""
    access: tuple[RulePart, ...] = ()
    tools: dict[ToolName, ToolPart] = {}
    tool_policies: dict[Name, ToolPolicyPart] = {}


class LockPart(Part):
    """A deny of exactly one `user`, `token`, `workload` or `server`, until a time."""

    user: Label | None = None
    """Issuer's name, colon, `sub`."""
    token: Label | None = None
    """A token's `jti`."""
    workload: SpiffeText | None = None
    server: Name | None = None
    until: Time
    why: Text
    by: Label


class LocksFile(PolicyFile):
    """locks.yaml: what is denied at once. Needs no review, because it only takes away."""

    kind: Literal["Locks"]
    locks: tuple[LockPart, ...] = ()


class ApprovalPart(Part):
    """One reviewer's approval of one text, named by its digest."""

    digest: Digest
    ticket: Label
    approver: Label
    approved: TimeOrDay
    expires: TimeOrDay
    """At most `approved` and the organization's `valid_for`."""
    revoked: TimeOrDay | None = None
    """From then on it doesn't count."""
    signature: Text | None = None
    """An SSH signature, as `ssh-keygen -Y sign` makes it."""


class ReviewsFile(PolicyFile):
    """reviews/KIND/SUBJECT.yaml: the approvals of one kind for one server, or for `organization`."""

    kind: Literal["Reviews"]
    approvals: tuple[ApprovalPart, ...] = ()


class ReviewerPart(Part):
    """Somebody who may approve."""

    kinds: SomeOf[Name]
    until: TimeOrDay | None = None
    """When they left. What they approved before stands."""
    keys: SetOf[Text] = ()
    """SSH public keys that their signatures verify with."""


class ReviewersFile(PolicyFile):
    """Who may approve which kind. It lies outside the policy folder: policy can't name its own judges."""

    kind: Literal["Reviewers"]
    reviewers: dict[Label, ReviewerPart]
    require_signatures: Flag = False
    """Count only approvals with a signature that verifies."""


KINDS: MappingProxyType[str, type[PolicyFile]] = MappingProxyType(
    {
        "organization": OrganizationFile,
        "surfaces": SurfacesFile,
        "server": ServerFile,
        "locks": LocksFile,
        "reviews": ReviewsFile,
        "reviewers": ReviewersFile,
    }
)


class _Schemas(GenerateJsonSchema):
    """An optional key is left out, never null; keys need no titles beside their names."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        published = super().default_schema(schema)
        if published.get("default", ...) is None:
            del published["default"]
        return published


def published(kinds: Mapping[str, type[PolicyFile]] = KINDS) -> dict[str, str]:
    """File name to text of every JSON Schema that belongs in `docs/schema/`."""
    schemas = {}
    for name, kind in kinds.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **kind.model_json_schema(by_alias=True, schema_generator=_Schemas),
        }
        schemas[f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return schemas
