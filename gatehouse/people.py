"""Sample people and services, for trying things out: `gatehouse call --as`, and the tour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gatehouse.errors import UsageFailure
from gatehouse.tokens import DEFAULT_CLIENT, TokenRequest
from identity.principal import JsonValue


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom the development issuer signs tokens for. `name` is the token's `sub` too."""

    name: str
    who: str
    groups: tuple[str, ...]
    roles: tuple[str, ...] = ()
    claims: Mapping[str, JsonValue] = field(default_factory=dict)

    def asks(self, client: str = DEFAULT_CLIENT) -> TokenRequest:
        """A request for this person's token, issued to `client`."""
        return TokenRequest(self.name, self.groups, self.roles, client, claims=self.claims)


_ALL = (
    Person("ana", "Ads engineer", ("ads-eng",)),
    Person("sam", "Ads salesperson", ("ads-sales",)),
    Person("fay", "Finance analyst", ("fin-analytics",)),
    Person("dino", "Data infrastructure engineer", ("data-infra",), ("table-writer", "dag-operator")),
    Person("hana", "HR partner, in no group that policy lets in", ("people-ops",)),
    Person("carl", "Contractor in the Ads team", ("ads-eng",), claims={"employment": "contractor"}),
    Person("lena", "Ads engineer, locked during the tour", ("ads-eng",)),
)
PEOPLE: Mapping[str, Person] = {person.name: person for person in _ALL}

REPORT_BOT = "spiffe://corp.example/ns/prod/sa/report-bot"
AI_CHAT = "spiffe://corp.example/ns/prod/sa/ai-chat"
CHAT_BOT = "spiffe://corp.example/ns/prod/sa/chat-bot"
NOTEBOOK = "spiffe://corp.example/ns/dev/sa/notebook"
CLIENTS: Mapping[str, str] = {AI_CHAT: "ai-chat-web", CHAT_BOT: "chat-bot", NOTEBOOK: "notebook"}
"""The client whose users a surface on the mesh may bring."""
CHANNELS: Mapping[str, str] = {"airflow-support": "C024BE91L", "spark-help": "C0LAN2Q65"}
"""Ids of the chat bot's channels, by the names that policy uses."""


def person(name: str) -> Person:
    """A sample person.

    Raises:
        UsageFailure: nobody is called that; the hint lists everybody.

    """
    try:
        return PEOPLE[name]
    except KeyError:
        known = ", ".join(PEOPLE)
        raise UsageFailure(
            f"no sample person is called {name!r}", f"there are {known}; or use --token"
        ) from None


def request_for(name: str, client: str, audience: str | None, ttl: int) -> TokenRequest:
    """The sample person's request, with what differs this time."""
    return replace(person(name).asks(client), audience=audience, ttl=ttl)
