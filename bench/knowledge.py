"""How long a search of the knowledge server takes over 100,000 documents, by engine, ACLs included."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.results import Result
from servers.knowledge.acl import EVERYBODY, Acl
from servers.knowledge.catalogue import Incoming, Known
from servers.knowledge.engine import Filters
from servers.knowledge.folder import Stamp
from servers.knowledge.library import Library
from servers.knowledge.opening import MakeEngine, Opened, fts5, open_index, tantivy
from servers.knowledge.reading import Page, read

DOCUMENTS = 100_000
BOUND_MS = 20.0
VOCABULARY = 30_000
QUERIES = 200
WARM_UP = 20
BATCH = 2_000
GROUPS = frozenset({"employees", "ads"})
ACLS = (
    *[EVERYBODY] * 7,
    Acl(frozenset({frozenset({"ads"})})),
    Acl(frozenset({frozenset({"finance"})})),
    Acl(frozenset({frozenset({"employees"}), frozenset({"ads", "finance"})})),
)
"""Seven of ten documents are everybody's; the caller sees nine of ten."""
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


class Words:
    """Words as often as a language has them: by Zipf's law, so that some stand in most documents."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.all = ["".join(parts) for parts in itertools.islice(_spellings(), VOCABULARY)]
        chance.shuffle(self.all)
        self._weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(VOCABULARY)))

    def some(self, count: int) -> list[str]:
        return self._chance.choices(self.all, cum_weights=self._weights, k=count)


def _spellings() -> Iterator[tuple[str, ...]]:
    for length in (2, 3, 4):
        yield from itertools.product(_SYLLABLES, repeat=length)


def _documents() -> Iterator[tuple[str, Acl, bytes]]:
    chance = random.Random(20260601)
    words = Words(chance)
    for number in range(DOCUMENTS):
        length = min(400, max(40, int(chance.lognormvariate(math.log(120), 0.5))))
        text = " ".join(words.some(length))
        title = " ".join(words.some(4))
        yield f"team{number % 50}/{number}.md", ACLS[number % len(ACLS)], f"# {title}\n\n{text}\n".encode()


def _questions() -> list[str]:
    """Four to eight words each, as they come in the documents: common ones among them."""
    chance = random.Random(7)
    words = Words(random.Random(20260601))
    return [" ".join(words.some(chance.randint(4, 8))) for _ in range(QUERIES + WARM_UP)]


def _fill(opened: Opened, pages: list[tuple[str, Acl, Page]]) -> float:
    """Index as a scan does, from pages that are read already; returns the seconds."""
    started = time.perf_counter()
    for start in range(0, len(pages), BATCH):
        incoming = [
            Incoming(path, page, acl, Known(Stamp(0, 0, 0, 0), b"", acl.key, acl.key), 0.0)
            for path, acl, page in pages[start : start + BATCH]
        ]
        with opened.catalogue.changing(incoming, []) as changes:
            opened.engine.apply(changes)
    return time.perf_counter() - started


def _times_ms(library: Library, questions: list[str]) -> list[float]:
    times = []
    for question in questions:
        started = time.perf_counter()
        found, _ = library.documents(question, GROUPS, Filters(), 10)
        times.append((time.perf_counter() - started) * 1000)
        assert found
    return times[WARM_UP:]


def run() -> Iterator[Result]:
    """Yield the medians and 95th percentiles of both embedded engines, and how long each took to fill."""
    pages = [(path, acl, read(path, "markdown", content)) for path, acl, content in _documents()]
    questions = _questions()
    engines: tuple[tuple[str, MakeEngine, float | None], ...] = (
        ("tantivy", tantivy, BOUND_MS),
        ("fts5", fts5, None),
    )
    size = f"{DOCUMENTS:,} documents"
    for name, make, bound in engines:
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root)
            opened = open_index(folder / "documents", folder / "index", name, make)
            seconds = _fill(opened, pages)
            times = _times_ms(Library(opened.catalogue, opened.engine), questions)
            opened.close()
        yield Result(
            f"knowledge: search, {name}, {size}, median", statistics.median(times), "ms", "lower", bound
        )
        yield Result(
            f"knowledge: search, {name}, {size}, 95th percentile",
            statistics.quantiles(times, n=20)[-1], "ms", "lower",
        )  # fmt: skip
        yield Result(f"knowledge: index {size}, {name}", seconds, "s", "lower")
