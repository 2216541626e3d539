"""Who sees what: the property that matters, on every engine, and the rules of writing it down."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.knowledge.acl import EVERYBODY, NOBODY, Acl, AclRefused, folder_level, level_of
from servers.knowledge.engine import Filters
from servers.knowledge.indexer import Scan
from tests.servers.knowledge.shelf import ENGINES, Shelf, shelf_of

GROUPS = ("ads", "finance", "hr")
WORDS = ("otter", "beaver", "heron", "carp", "reed")
_documents = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "a/c"]),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=8),
        st.none() | st.sets(st.sampled_from(GROUPS), min_size=1, max_size=2),
    ),
    max_size=9,
)
_folders = st.dictionaries(
    st.sampled_from(["a", "b", "a/c"]), st.sets(st.sampled_from(GROUPS), min_size=1), max_size=2
)


def _acl(folder: str, own: set[str] | None, folders: dict[str, set[str]]) -> Acl:
    above = itertools.accumulate(folder.split("/"), lambda a, b: f"{a}/{b}")
    levels = [frozenset(folders[name]) for name in above if name in folders]
    return Acl(frozenset(levels + ([frozenset(own)] if own else [])))


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    documents=_documents,
    folders=_folders,
    groups=st.frozensets(st.sampled_from(GROUPS)),
    question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
    limit=st.integers(1, 10),
)
def test_the_hidden_leaves_no_trace(
    engine: str,
    documents: list[tuple[str, list[str], set[str] | None]],
    folders: dict[str, set[str]],
    groups: frozenset[str],
    question: list[str],
    limit: int,
) -> None:
    """A caller finds what could be found, in the same order, if what is hidden from it did not exist."""
    paths = {f"{folder}/{n}.md".lstrip("/"): (words, _acl(folder, own, folders), own)
             for n, (folder, words, own) in enumerate(documents)}  # fmt: skip
    visible = {path for path, (_, acl, _) in paths.items() if acl.admits(groups)}
    orders = []
    scores = []
    for present in (paths.keys(), visible):
        with tempfile.TemporaryDirectory() as root, shelf_of(Path(root), engine) as shelf:
            for folder, names in folders.items():
                shelf.write(f"{folder}/acl.yaml", f"groups: [{', '.join(sorted(names))}]\n")
            for path in present:
                words, _, own = paths[path]
                head = f"---\ngroups: [{', '.join(sorted(own))}]\n---\n" if own else ""
                shelf.write(path, f"{head}# {words[0]}\n\n{' '.join(words)}\n")
            shelf.scan()
            found, more = shelf.library.passages(" ".join(question), groups, Filters(), limit, 3)
            orders.append(([(one.path, one.heading) for one in found], more))
            scores.append(shelf.scores(" ".join(question), *groups))
            for path in present:
                assert (shelf.library.fetch(path, groups) is not None) == (path in visible)
    assert orders[0] == orders[1]
    assert scores[0] == scores[1]
    assert {path for path, _ in orders[0][0]} <= visible


def test_several_scopes_rank_like_one(shelf: Shelf) -> None:
    """Of passages of one length, where the average says nothing, the scores are those of a single index."""
    documents = {
        f"{n}.md": f"# Note {n}\n\n{' '.join(WORDS[(n * step) % 5] for step in range(1, 7))}\n"
        for n in range(12)
    }
    for path, text in documents.items():
        shelf.write(path, text)
    shelf.scan()
    together = shelf.scores("otter heron reed")
    for number, (path, text) in enumerate(documents.items()):
        if number % 3:
            shelf.write(path, f"---\ngroups: [{GROUPS[number % 3]}]\n---\n{text}")
    shelf.scan()
    assert len(shelf.library._visible(frozenset(GROUPS))) == 3
    assert len(shelf.scores("otter heron reed")) < len(together)
    if shelf.name == "tantivy":  # else the passages that moved count until they are merged away
        shelf.opened.close()
        shutil.rmtree(shelf.root / "index")
        shelf._open()
        shelf.scan()
    assert shelf.scores("otter heron reed", *GROUPS) == together


def test_a_scopes_rarity_is_that_of_all_that_is_seen(shelf: Shelf) -> None:
    """The only document of a scope isn't ranked by a corpus of one, where no word says anything."""
    for n in range(30):
        shelf.write(f"public/{n}.md", f"# Note {n}\n\nThe budget of team {n} is in the sheet.\n")
    shelf.write("finance/plan.md", "---\ngroups: [finance]\n---\n# Plan\n\nThe budget and its forecast.\n")
    shelf.scan()
    assert shelf.find("budget forecast", "finance")[0] == "finance/plan.md"
    assert "finance/plan.md" not in shelf.find("budget forecast", limit=50)


def test_every_level_narrows(shelf: Shelf) -> None:
    shelf.write("ads/acl.yaml", "groups: [ads, finance]\n")
    shelf.write("ads/open.md", "# Otter\n\notter\n")
    shelf.write("ads/own.md", "---\ngroups: [ads-eng]\n---\n# Otter\n\notter\n")
    shelf.write("ads/deep/acl.yaml", "groups: [ads]\n")
    shelf.write("ads/deep/wide.md", "---\ngroups: [employees]\n---\n# Otter\n\notter\n")
    shelf.scan()

    def seen(*groups: str) -> set[str]:
        found = set(shelf.find("otter", *groups))
        assert found == {
            p for p in ("ads/open.md", "ads/own.md", "ads/deep/wide.md") if shelf.sees(p, *groups)
        }
        return found

    assert seen() == set()
    assert seen("employees", "ads-eng") == set()
    assert seen("finance") == {"ads/open.md"}
    assert seen("ads", "ads-eng") == {"ads/open.md", "ads/own.md"}
    assert seen("ads", "employees") == {"ads/open.md", "ads/deep/wide.md"}


def test_an_acl_that_changes_counts_from_the_next_scan(shelf: Shelf) -> None:
    shelf.write("a/doc.md", "# Otter\n\notter\n")
    shelf.scan()
    assert shelf.find("otter") == ["a/doc.md"]
    acl = shelf.write("a/acl.yaml", "groups: [ads]\n")
    shelf.scan()
    assert (shelf.find("otter"), shelf.find("otter", "ads")) == ([], ["a/doc.md"])
    assert not shelf.sees("a/doc.md")
    shelf.write("a/doc.md", "---\ngroups: [hr]\n---\n# Otter\n\notter\n")
    shelf.scan()
    assert (shelf.find("otter", "ads"), shelf.find("otter", "ads", "hr")) == ([], ["a/doc.md"])
    acl.unlink()
    shelf.scan()
    assert shelf.find("otter", "hr") == ["a/doc.md"]
    shelf.write("acl.yaml", "groups: []\n")
    shelf.scan()
    assert shelf.find("otter", "hr", "ads") == []


SLIPS = {
    "acl.yaml: a string": {"a/acl.yaml": "groups: ads\n"},
    "acl.yaml: empty": {"a/acl.yaml": ""},
    "acl.yaml: no YAML": {"a/acl.yaml": "groups: [ads"},
    "acl.yaml: another key": {"a/acl.yaml": "groups: [everybody]\nallow: all\n"},
    "acl.yaml: twice": {"a/acl.yaml": "groups: [everybody]\ngroups: [ads]\n"},
    "acl.yaml: not UTF-8": {"a/acl.yaml": b"\xff\xfegroups"},
    "ACL.yml: nobody": {"a/ACL.yml": "groups: []\n"},
    "front matter: a string": {"a/doc.md": "---\ngroups: everybody\n---\notter\n"},
    "front matter: misspelt": {"a/doc.md": "---\nGroups: [ads]\n---\notter\n"},
    "front matter: singular": {"a/doc.md": "---\ngroup: ads\n---\notter\n"},
    "front matter: without end": {"a/doc.md": "---\ngroups: [ads]\n\n# Otter\n\notter\n"},
    "front matter: twice": {"a/doc.md": "---\ngroups: [everybody]\ngroups: [ads]\n---\notter\n"},
    "front matter: no YAML": {"a/doc.md": "---\ngroups: [ads\ntitle: x]: y\n---\notter\n"},
    "front matter: nobody": {"a/doc.md": "---\ngroups: []\n---\notter\n"},
    "front matter: no names": {"a/doc.md": "---\ngroups: [everybody, 3]\n---\notter\n"},
    "front matter: Windows' line ends": {"a/doc.md": b"\xef\xbb\xbf---\r\ngroup: ads\r\n---\r\notter\r\n"},
    "front matter: old Macs' line ends": {"a/doc.md": b"---\rgroup: ads\r---\rotter\r"},
}


@pytest.mark.parametrize("files", SLIPS.values(), ids=SLIPS)
def test_a_slip_closes_and_never_opens(plain: Shelf, files: dict[str, str | bytes]) -> None:
    plain.write("a/doc.md", "# Otter\n\notter\n")
    plain.write("b.md", "# Otter\n\notter\n")
    plain.scan()
    for path, content in files.items():
        plain.write(path, content)
    scan: Scan = plain.scan()
    assert plain.find("otter", "ads", "everybody") == ["b.md"]
    assert not plain.sees("a/doc.md", "ads", "everybody")
    assert scan.skipped or files.get("a/ACL.yml")


def test_a_link_as_acl_closes(plain: Shelf, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text("groups: [everybody]\n")
    plain.write("a/doc.md", "# Otter\n")
    (plain.documents / "a/acl.yaml").symlink_to(elsewhere)
    assert "a/acl.yaml" in plain.scan().skipped
    assert plain.find("otter", "everybody") == []


def test_levels() -> None:
    assert EVERYBODY.admits(frozenset())
    assert not NOBODY.admits(frozenset(GROUPS))
    acl = Acl().narrowed(frozenset({"b", "a"}), frozenset({"c"}))
    assert acl.text == '[["a", "b"], ["c"]]'
    assert Acl.from_text(acl.text) == acl
    assert (acl.admits(frozenset("ac")), acl.admits(frozenset("ab"))) == (True, False)
    assert level_of({"title": "x"}) is None
    assert folder_level("groups: [a, b]") == {"a", "b"}
    with pytest.raises(AclRefused, match="list of business groups"):
        level_of({"groups": {"a": 1}})
    with pytest.raises(AclRefused, match="no group's name"):
        folder_level("groups: [a, a]")
