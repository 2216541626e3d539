"""The control plane's loop, step by step, with times given to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from pdp.model import InForce, Window
from tests.xds import factory
from tests.xds.gate import RULES
from xds.control import Control, Site
from xds.metrics import Metrics
from xds.publication import Publication
from xds.resource import Kind


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def publication() -> Publication:
    return Publication()


@pytest.fixture
def control(clock: Clock, registry: CollectorRegistry, publication: Publication) -> Control:
    return Control(publication, Metrics(registry), clock=clock, monotonic=clock)


SITE = Site(factory.deployment({"presto": factory.endpoint(1)}), factory.NO_FILES)


def version(publication: Publication) -> str:
    assert publication.current is not None
    return publication.current.of_kind(Kind.ROUTE)["users"].version


def test_nothing_is_published_until_both_policy_and_deployment_are_there(
    control: Control, publication: Publication, clock: Clock
) -> None:
    control.offer_snapshot(factory.snapshot())
    clock.now += 1
    control.step()
    assert publication.current is None
    control.offer_site(SITE)
    clock.now += 1
    control.step()
    assert publication.current is not None


def test_a_burst_is_one_publication(
    control: Control, publication: Publication, clock: Clock, registry: CollectorRegistry
) -> None:
    control.offer_site(SITE)
    for _ in range(20):
        control.offer_snapshot(factory.snapshot(factory.server("presto", RULES)))
        assert control.step() == pytest.approx(0.1)
        clock.now += 0.05
    assert publication.current is None
    clock.now += 0.06
    control.step()
    assert publication.current is not None
    assert registry.get_sample_value("gatehouse_xds_build_seconds_count") == 1


def test_a_burst_that_never_ends_is_published_within_ten_seconds(
    control: Control, publication: Publication, clock: Clock
) -> None:
    begun = clock.now
    control.offer_site(SITE)
    while publication.current is None:
        control.offer_snapshot(factory.snapshot())
        control.step()
        clock.now += 0.09
        assert clock.now - begun < 11
    assert clock.now - begun >= 10


def test_a_review_that_lapses_closes_its_route_by_time_alone(
    control: Control, publication: Publication, clock: Clock
) -> None:
    lapses = InForce("sha256:0", frozenset({"security"}), (Window(0.0, clock.now + 30),))
    control.offer_snapshot(factory.snapshot(factory.server("presto", RULES, in_force=lapses)))
    control.offer_site(SITE)
    clock.now += 1
    pause = control.step()
    before = version(publication)
    assert pause == pytest.approx(29)
    clock.now += pause
    control.step()
    assert version(publication) != before


def test_it_looks_again_within_a_minute_whatever_the_clock_does(control: Control, clock: Clock) -> None:
    control.offer_snapshot(factory.snapshot())
    control.offer_site(SITE)
    clock.now += 1
    assert control.step() == 60


def test_what_is_inconsistent_leaves_the_last_good(
    control: Control, publication: Publication, clock: Clock
) -> None:
    control.offer_snapshot(factory.snapshot())
    control.offer_site(SITE)
    clock.now += 1
    control.step()
    good = publication.current
    nowhere = replace(SITE.deployment, mesh=SITE.deployment.users)
    control.offer_site(replace(SITE, deployment=nowhere))
    clock.now += 1
    control.step()
    assert publication.current is good
    assert not control.ok
    control.offer_site(SITE)
    clock.now += 1
    control.step()
    assert control.ok


def test_metrics_say_what_is_published(control: Control, clock: Clock, registry: CollectorRegistry) -> None:
    control.offer_snapshot(factory.snapshot(factory.server("presto", RULES)))
    control.offer_site(SITE)
    clock.now += 1
    control.step()
    assert registry.get_sample_value("gatehouse_xds_resources", {"type": "cluster"}) == 2
    assert registry.get_sample_value("gatehouse_policy_info", {"digest": "sha256:test"}) == 1


def test_run_publishes_what_is_offered() -> None:
    async def scenario() -> None:
        publication = Publication()
        control = Control(publication, Metrics(CollectorRegistry()))
        running = asyncio.create_task(control.run())
        with publication.watch() as changed:
            control.offer_site(SITE)
            control.offer_snapshot(factory.snapshot())
            await asyncio.wait_for(changed.wait(), 5)
        assert publication.current is not None
        assert publication.watchers == 0
        running.cancel()

    asyncio.run(scenario())
