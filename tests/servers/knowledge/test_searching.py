"""Relevance, filters and hostile queries, on every engine."""

from __future__ import annotations

import pytest

from servers.knowledge.engine import Filters
from servers.knowledge.words import LONGEST_QUERY, MOST_WORDS, words_of
from tests.servers.knowledge.shelf import NOBODY, Shelf

CORPUS = {
    "travel.md": "# Travel policy\n\nBook early.\n\n## Expenses\n\nHand receipts in within thirty days.\n",
    "expenses.md": "# Expenses\n\nReceipts are scanned. Refunds come with the salary.\n",
    "deploy/rollback.md": "# Rolling back\n\nRun the deploy tool with the last version.\n",
    "deploy/canary.md": "# Canaries\n\nA deployment reaches one host in a hundred first.\n",
    "deployment-history.txt": "Deployment history\n\nOne line for each deployment of last year.\n",
    "handbook/lunch.html": "<title>Lunch</title><h1>Lunch</h1><p>The kitchen opens at noon.</p>",
    "handbook/hosts.md": "# Hosts\n\nNames of hosts are colours. A host reboots on Sundays.\n",
}


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    for path, text in CORPUS.items():
        shelf.write(path, text)
    assert shelf.scan().added == len(CORPUS)
    return shelf


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("how do I hand in receipts?", "travel.md"),
        ("expenses", "expenses.md"),
        ("kitchen", "handbook/lunch.html"),
        ("reboots on sunday", "handbook/hosts.md"),
        ("canaries", "deploy/canary.md"),
        ("KITCHEN", "handbook/lunch.html"),
        ("zebra kitchen unicorn", "handbook/lunch.html"),
    ],
)
def test_the_best_document_comes_first(filled: Shelf, question: str, best: str) -> None:
    assert filled.find(question)[0] == best


def test_words_are_joined_with_or_and_stemmed(filled: Shelf) -> None:
    assert set(filled.find("host receipts")) == {
        "handbook/hosts.md", "deploy/canary.md", "travel.md", "expenses.md",
    }  # fmt: skip
    assert filled.find("sunday") == ["handbook/hosts.md"]


def test_a_word_in_the_title_counts_twice(shelf: Shelf) -> None:
    shelf.write("a.md", "# Gardens\n\nOf flowers and paths.\n")
    shelf.write("b.md", "# Flowers\n\nOf gardens and paths.\n")
    shelf.scan()
    assert shelf.find("gardens") == ["a.md", "b.md"]
    assert shelf.find("flowers") == ["b.md", "a.md"]


def test_filters(filled: Shelf) -> None:
    filled.write(
        "handbook/old.md", "---\nupdated: 2019-01-01\n---\n# Hosts of old\n\nA host was a machine.\n"
    )
    filled.scan()
    find = filled.find
    assert set(find("host deployment", filters=Filters(folder="handbook"))) == {
        "handbook/hosts.md", "handbook/old.md",
    }  # fmt: skip
    assert find("host", filters=Filters(folder="handb")) == []
    assert find("host", filters=Filters(folder="handbook/hosts.md")) == []
    assert find("kitchen host", filters=Filters(kind="html")) == ["handbook/lunch.html"]
    for hostile in ("\ud800", "\0", "%", "' OR 1=1 --", "*", "../handbook"):
        assert find("host", filters=Filters(folder=hostile)) == []
    recent = Filters(folder="handbook", kind="markdown", updated_since=1_600_000_000)
    assert find("host", filters=recent) == ["handbook/hosts.md"]


def test_a_limit_says_that_there_is_more(filled: Shelf) -> None:
    found, more = filled.library.documents("host deployment receipts", NOBODY, Filters(), 2)
    assert (len(found), more) == (2, True)
    found, more = filled.library.documents("kitchen", NOBODY, Filters(), 2)
    assert (len(found), more) == (1, False)


def test_many_passages_of_one_document_leave_room_for_others(shelf: Shelf) -> None:
    sections = "".join(f"\n## Otter {n}\n\nThe otter swims, number {n}.\n" for n in range(120))
    shelf.write("otters.md", f"# Otters\n{sections}")
    shelf.write("zoo.md", "# Zoo\n\nAmong many animals in a long list there is an otter, somewhere.\n")
    shelf.scan()
    assert shelf.find("otter", limit=2) == ["otters.md", "zoo.md"]
    passages, more = shelf.library.passages("otter", NOBODY, Filters(), 4, 3)
    assert [one.path for one in passages] == ["otters.md"] * 3 + ["zoo.md"]
    assert not more


HOSTILE = [
    '"',
    "'",
    '""',
    "*",
    "a*",
    "(",
    ")",
    "NEAR(",
    "NEAR(a b)",
    "AND",
    "OR NOT",
    "NOT",
    "title:host",
    "{title}:x",
    "^host",
    "host AND",
    "-host",
    "+host",
    "host; DROP TABLE documents; --",
    "\\",
    "\x00host\x00",
    "host\ud800",
    "🦦",
    "ﬁle",
    "%",
    "_",
    "[a TO z]",
    "/.*/",
    "host~2",
    "host^99999",
    "a" * 2000,
    "x " * 900,
    "é́́",
    "कुत्ता",
    "汉字",
    "host OR 1=1",
    '{"match_all": {}}',
    "fts_1",
    "body:(a OR b)",
    ":",
    "::",
    "<script>",
    "\n\t",
    "\u202ehost",
]


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_no_query_is_an_error(filled: Shelf, query: str) -> None:
    found = filled.find(query)
    assert set(found) <= CORPUS.keys()
    if "host" in words_of(query):
        assert "handbook/hosts.md" in found


def test_operators_are_words_or_nothing() -> None:
    assert words_of('NEAR("Host*", 3)') == ("near", "host", "3")
    assert words_of("the of and") == ("the", "of", "and")
    assert words_of("what is the policy") == ("policy",)
    assert words_of('*"()^:-+\\') == ()
    assert len(words_of(" ".join(f"w{n}" for n in range(500)))) == MOST_WORDS
    assert words_of("x" * (LONGEST_QUERY * 2)) == ("x" * 64,)
