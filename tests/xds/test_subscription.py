from __future__ import annotations

import pytest

from tests.xds.made import target
from xds.resource import Kind, set_version
from xds.subscription import Answer, DeltaRequest, Response, SotwRequest, Subscription

CDS, RDS = Kind.CLUSTER, Kind.ROUTE


def names(response: Response | None) -> list[str] | None:
    return None if response is None else sorted(r.name for r in response.resources)


class Client:
    """Both ends of one subscription: asks, and answers with the nonce it was given."""

    def __init__(self, kind: Kind, *, delta: bool) -> None:
        self.kind, self.delta = kind, delta
        self.subscription = Subscription(kind, delta=delta)
        self.wanted: tuple[str, ...] = ()
        self.nonce = ""
        self._next = 0

    def ask(self, *wanted: str, nonce: str | None = None) -> Answer:
        self.wanted = wanted
        given = self.nonce if nonce is None else nonce
        if self.delta:
            return self.subscription.receive(DeltaRequest(self.kind, subscribe=wanted))
        return self.subscription.receive(SotwRequest(self.kind, wanted, given))

    def answer(self, error: str | None = None, nonce: str | None = None) -> Answer:
        given = self.nonce if nonce is None else nonce
        if self.delta:
            return self.subscription.receive(DeltaRequest(self.kind, nonce=given, error=error))
        return self.subscription.receive(SotwRequest(self.kind, self.wanted, given, error))

    def get(self, *, keep: bool = False, **contents: str) -> Response | None:
        self._next += 1
        response = self.subscription.respond(target(self.kind, **contents), str(self._next), keep=keep)
        if response is not None:
            self.nonce = response.nonce
        return response

    def synced(self, **contents: str) -> None:
        self.get(**contents)
        assert self.answer() is Answer.ACK


class TestEitherVariant:
    @pytest.fixture(params=[False, True], ids=["sotw", "delta"])
    def delta(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    def test_says_nothing_before_the_client_did(self, delta: bool) -> None:
        assert Client(CDS, delta=delta).get(a="1") is None

    def test_wildcard_gets_everything_and_an_ack_nothing_more(self, delta: bool) -> None:
        client = Client(CDS, delta=delta)
        assert client.ask() is Answer.NONE
        assert names(client.get(a="1", b="1")) == ["a", "b"]
        assert client.answer() is Answer.ACK
        assert client.get(a="1", b="1") is None

    def test_wildcard_on_nothing_is_answered_so_that_the_client_need_not_wait(self, delta: bool) -> None:
        client = Client(CDS, delta=delta)
        client.ask()
        assert names(client.get()) == []

    def test_routes_have_no_wildcard_without_a_star(self, delta: bool) -> None:
        client = Client(RDS, delta=delta)
        client.ask()
        assert client.get(a="1") is None

    def test_a_star_is_a_wildcard_for_every_kind(self, delta: bool) -> None:
        client = Client(RDS, delta=delta)
        client.ask("*")
        assert names(client.get(a="1", b="1")) == ["a", "b"]

    def test_one_response_at_a_time(self, delta: bool) -> None:
        client = Client(RDS, delta=delta)
        client.ask("a")
        assert names(client.get(a="1")) == ["a"]
        assert client.get(a="2") is None
        client.answer()
        assert names(client.get(a="2")) == ["a"]

    def test_what_was_refused_is_not_sent_again_until_it_changes(self, delta: bool) -> None:
        client = Client(RDS, delta=delta)
        client.ask("a")
        client.get(a="bad")
        assert client.answer("no such filter") is Answer.NACK
        assert client.subscription.rejected
        assert client.get(a="bad") is None
        assert names(client.get(a="good")) == ["a"]
        assert client.answer() is Answer.ACK
        assert not client.subscription.rejected

    def test_going_back_to_what_was_before_a_refusal_is_a_change(self, delta: bool) -> None:
        client = Client(RDS, delta=delta)
        client.ask("a")
        client.synced(a="good")
        client.get(a="bad")
        client.answer("no")
        assert names(client.get(a="good")) == ["a"]

    def test_what_is_created_later_is_sent_then(self, delta: bool) -> None:
        client = Client(RDS, delta=delta)
        client.ask("a", "b")
        client.synced(a="1")
        assert names(client.get(a="1", b="1")) == ["b"]

    def test_forcing_sends_the_unchanged_again(self, delta: bool) -> None:
        client = Client(Kind.ENDPOINT, delta=delta)
        client.ask("a", "b")
        client.synced(a="1", b="1")
        client.subscription.force({"a", "nobody-asked"})
        assert names(client.get(a="1", b="1")) == ["a"]

    def test_a_new_stream_that_already_has_a_nonce_is_answered(self, delta: bool) -> None:
        client = Client(RDS, delta=delta)
        client.nonce = "from-another-life"
        client.ask("a")
        assert names(client.get(a="1")) == ["a"]


class TestSotw:
    def test_a_stale_nonce_drops_the_whole_request(self) -> None:
        client = Client(RDS, delta=False)
        client.ask("a")
        client.synced(a="1")
        client.get(a="2")
        assert client.ask("a", "b", nonce="1") is Answer.STALE
        assert not client.subscription.wants("b")
        assert client.answer() is Answer.ACK

    def test_whole_sets_come_whole(self) -> None:
        client = Client(CDS, delta=False)
        client.ask()
        client.synced(a="1", b="1")
        assert names(client.get(a="2", b="1")) == ["a", "b"]

    def test_routes_come_alone(self) -> None:
        client = Client(RDS, delta=False)
        client.ask("a", "b")
        client.synced(a="1", b="1")
        assert names(client.get(a="2", b="1")) == ["a"]

    def test_removal_is_absence(self) -> None:
        client = Client(CDS, delta=False)
        client.ask()
        client.synced(a="1", b="1")
        assert names(client.get(a="1")) == ["a"]

    def test_a_removal_can_wait(self) -> None:
        client = Client(CDS, delta=False)
        client.ask()
        client.synced(a="1", b="1")
        assert client.get(a="1", keep=True) is None
        assert names(client.get(a="2", keep=True)) == ["a", "b"]
        client.answer()
        assert names(client.get(a="2")) == ["a"]

    def test_the_version_is_of_the_set_whatever_its_order(self) -> None:
        client = Client(CDS, delta=False)
        client.ask()
        response = client.get(b="1", a="1")
        assert response is not None
        assert response.version == set_version(target(CDS, a="1", b="1").values())

    def test_naming_nothing_after_naming_something_unsubscribes(self) -> None:
        client = Client(CDS, delta=False)
        client.ask("a")
        client.synced(a="1")
        client.ask()
        assert client.get(a="2") is None

    def test_naming_nothing_again_stays_a_wildcard(self) -> None:
        client = Client(CDS, delta=False)
        client.ask()
        client.synced(a="1")
        assert names(client.get(a="2")) == ["a"]

    def test_from_a_wildcard_to_names(self) -> None:
        client = Client(CDS, delta=False)
        client.ask()
        client.synced(a="1", b="1")
        client.ask("a")
        assert client.get(a="1", b="2") is None
        assert names(client.get(a="2", b="2")) == ["a"]

    def test_fewer_names_is_no_question(self) -> None:
        client = Client(RDS, delta=False)
        client.ask("a", "b")
        client.synced(a="1", b="1")
        client.ask("a")
        assert client.get(a="1", b="2") is None

    def test_repeating_an_answered_request_asks_again(self) -> None:
        """What Envoy does for the endpoints of a cluster that it warms."""
        client = Client(Kind.ENDPOINT, delta=False)
        client.ask("a", "b")
        client.synced(a="1", b="1")
        assert client.ask("a", "b") is Answer.NONE
        assert names(client.get(a="1", b="1")) == ["a", "b"]

    def test_a_name_taken_up_again_is_sent_again(self) -> None:
        client = Client(RDS, delta=False)
        client.ask("a", "b")
        client.synced(a="1", b="1")
        client.ask("a")
        client.ask("a", "b")
        assert names(client.get(a="1", b="1")) == ["b"]

    def test_a_whole_set_tells_what_is_missing_by_coming_without_it(self) -> None:
        client = Client(CDS, delta=False)
        client.ask("a")
        client.synced(a="1")
        client.ask("a", "ghost")
        assert names(client.get(a="1")) == ["a"]


class TestDelta:
    def test_only_changes_come(self) -> None:
        client = Client(CDS, delta=True)
        client.ask()
        client.synced(a="1", b="1")
        assert names(client.get(a="2", b="1")) == ["a"]

    def test_removal_is_told(self) -> None:
        client = Client(CDS, delta=True)
        client.ask()
        client.synced(a="1", b="1")
        response = client.get(a="1")
        assert response is not None
        assert (names(response), response.removed) == ([], ("b",))
        client.answer()
        assert client.get(a="1") is None

    def test_a_removal_can_wait(self) -> None:
        client = Client(CDS, delta=True)
        client.ask()
        client.synced(a="1", b="1")
        assert client.get(a="1", keep=True) is None
        response = client.get(a="1")
        assert response is not None
        assert response.removed == ("b",)

    def test_what_does_not_exist_is_told_once(self) -> None:
        client = Client(RDS, delta=True)
        client.ask("a", "ghost")
        response = client.get(a="1")
        assert response is not None
        assert (names(response), response.removed) == (["a"], ("ghost",))
        client.answer()
        assert client.get(a="1") is None
        assert names(client.get(a="1", ghost="1")) == ["ghost"]

    def test_subscribing_again_sends_again(self) -> None:
        client = Client(RDS, delta=True)
        client.ask("a")
        client.synced(a="1")
        client.ask("a")
        assert names(client.get(a="1")) == ["a"]

    def test_a_returning_client_gets_what_changed(self) -> None:
        have = {name: r.version for name, r in target(CDS, a="1", b="1", c="1").items()}
        subscription = Subscription(CDS, delta=True)
        subscription.receive(DeltaRequest(CDS, initial_versions=have))
        response = subscription.respond(target(CDS, a="1", b="2"), "1", keep=False)
        assert response is not None
        assert (names(response), response.removed) == (["b"], ("c",))

    def test_a_returning_client_that_has_it_all_by_name_hears_nothing(self) -> None:
        have = {name: r.version for name, r in target(RDS, a="1").items()}
        subscription = Subscription(RDS, delta=True)
        subscription.receive(DeltaRequest(RDS, subscribe=("a",), initial_versions=have))
        assert subscription.respond(target(RDS, a="1"), "1", keep=False) is None

    def test_a_change_of_subscription_rides_on_an_answer(self) -> None:
        client = Client(RDS, delta=True)
        client.ask("a")
        client.get(a="1", b="1")
        request = DeltaRequest(RDS, subscribe=("b",), unsubscribe=("a",), nonce=client.nonce)
        assert client.subscription.receive(request) is Answer.ACK
        assert names(client.get(a="2", b="1")) == ["b"]

    def test_a_name_under_a_wildcard_stays_known_when_it_is_let_go(self) -> None:
        client = Client(CDS, delta=True)
        client.ask("*", "a")
        client.synced(a="1", b="1")
        client.subscription.receive(DeltaRequest(CDS, unsubscribe=("a",)))
        assert names(client.get(a="1", b="1")) == ["a"]

    def test_letting_the_wildcard_go_leaves_the_names(self) -> None:
        client = Client(CDS, delta=True)
        client.ask("*", "a")
        client.synced(a="1", b="1")
        client.subscription.receive(DeltaRequest(CDS, unsubscribe=("*",)))
        assert client.get(a="1", b="2") is None
        assert names(client.get(a="2", b="2")) == ["a"]

    def test_a_legacy_wildcard_can_be_let_go(self) -> None:
        client = Client(CDS, delta=True)
        client.ask()
        client.synced(a="1")
        client.subscription.receive(DeltaRequest(CDS, unsubscribe=("*",)))
        assert client.get(a="2") is None
