"""The index follows the folder: what is read again, what is not, what is refused, what survives."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from servers.knowledge.engine import EngineError
from servers.knowledge.folder import DEEPEST, LARGEST, FolderError
from servers.knowledge.indexer import Watch
from tests.servers.knowledge.fake_opensearch import running
from tests.servers.knowledge.shelf import Shelf, age


def test_added_changed_removed_renamed(shelf: Shelf) -> None:
    shelf.write("a.md", "# Otter\n\notter\n")
    shelf.write("b.md", "# Heron\n\nheron\n")
    assert (shelf.scan().added, shelf.find("otter heron")) == (2, ["a.md", "b.md"])
    shelf.write("a.md", "# Carp\n\ncarp carp\n")
    scan = shelf.scan()
    assert (scan.added, scan.changed, scan.removed) == (0, 1, 0)
    assert (shelf.find("otter"), shelf.find("carp")) == ([], ["a.md"])
    (shelf.documents / "b.md").unlink()
    assert shelf.scan().removed == 1
    assert (shelf.find("heron"), shelf.sees("b.md")) == ([], False)
    (shelf.documents / "a.md").rename(shelf.documents / "c.md")
    scan = shelf.scan()
    assert (scan.added, scan.removed, shelf.find("carp")) == (1, 1, ["c.md"])


def test_a_document_that_shrinks_leaves_no_passages(shelf: Shelf) -> None:
    shelf.write("a.md", "# A\n\nx\n\n## Otter\n\notter\n\n## Heron\n\nheron\n")
    shelf.scan()
    shelf.write("a.md", "# A\n\nx\n")
    shelf.scan()
    assert shelf.find("otter heron") == []
    assert shelf.find("x") == ["a.md"]


def test_the_index_survives_a_restart(shelf: Shelf) -> None:
    age(shelf.write("a.md", "# Otter\n\notter\n"), 3600)
    shelf.scan()
    shelf.reopen()
    assert shelf.find("otter") == ["a.md"]
    scan = shelf.scan()
    assert (scan.unchanged, scan.did_something) == (1, False)


def test_a_lost_index_is_made_again(tmp_path: Path) -> None:
    with running() as fake:
        shelf = Shelf(tmp_path, "opensearch", fake)
        shelf.write("a.md", "# Otter\n\notter\n")
        shelf.scan()
        fake.indexes.clear()
        shelf.reopen()
        assert shelf.scan().added == 1
        assert shelf.find("otter") == ["a.md"]
        shelf.close()


def test_only_what_changed_is_read(plain: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = os.open

    def counting(path: str, *args: object, **more: object) -> int:
        if str(path).endswith(".md"):
            opened.append(str(path))
        return real(path, *args, **more)  # type: ignore[arg-type]

    for name in ("a.md", "b.md"):
        plain.write(name, "# Otter\n")
    clock = time.time() + 100
    plain.opened.indexer._clock = lambda: clock
    plain.scan()
    monkeypatch.setattr(os, "open", counting)
    assert plain.scan().unchanged == 2
    assert opened == []
    os.utime(plain.documents / "a.md")  # touched, and says the same
    scan = plain.scan()
    assert (scan.unchanged, scan.changed, opened) == (2, 0, ["a.md"])


def test_a_file_just_written_is_read_again(plain: Shelf) -> None:
    """Two writes within one tick of the file system's clock, of one length, look alike to `stat`."""
    file = plain.write("a.md", "# Otter\n")
    before = file.stat()
    plain.scan()
    with file.open("r+b") as same:
        same.write(b"# Heron\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    plain.scan()
    assert (plain.find("otter"), plain.find("heron")) == ([], ["a.md"])


class TestOutside:
    def test_links_are_refused(self, shelf: Shelf, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret.md").write_text("# Secret otter\n")
        shelf.write("closed/acl.yaml", "groups: [hr]\n")
        shelf.write("closed/pay.md", "# Pay of otters\n")
        links = {
            "file.md": outside / "secret.md",
            "folder": outside,
            "in.md": shelf.documents / "closed/pay.md",
            "loop": shelf.documents,
            "up": Path(".."),
            "proc.md": Path("/proc/self/environ"),
            "broken.md": Path("nowhere.md"),
        }
        for name, target in links.items():
            (shelf.documents / name).symlink_to(target)
        scan = shelf.scan()
        assert {path for path in links if "links are not followed" in scan.skipped[path]} == links.keys()
        assert shelf.find("otter secret pay") == []
        assert shelf.find("otters", "hr") == ["closed/pay.md"]

    def test_a_file_that_becomes_a_link(self, plain: Shelf, tmp_path: Path) -> None:
        file = plain.write("a.md", "# Otter\n")
        plain.write("b/c.md", "# Otter\n")
        plain.scan()
        (tmp_path / "secret.md").write_text("# Secret otter\n")
        file.unlink()
        file.symlink_to(tmp_path / "secret.md")
        with pytest.raises(OSError, match="symbolic link"):  # between the look and the reading
            plain.opened.indexer._folder.read("a.md")
        (plain.documents / "b").rename(tmp_path / "b")
        (plain.documents / "b").symlink_to(tmp_path / "b")
        with pytest.raises(OSError, match="Not a directory"):
            plain.opened.indexer._folder.read("b/c.md")
        plain.scan()
        assert plain.find("otter secret") == []

    @pytest.mark.parametrize(
        "id",
        ["../secret.md", "/etc/passwd", "a/../a.md", "./a.md", "a.md/", "", "A.MD", "\0", "a.md\0", "\ud800"],
    )
    def test_an_id_is_no_path(self, plain: Shelf, tmp_path: Path, id: str) -> None:
        (tmp_path / "secret.md").write_text("x")
        plain.write("a.md", "# Otter\n")
        plain.scan()
        assert not plain.sees(id)

    def test_the_root_may_be_a_link_that_moves(self, tmp_path: Path) -> None:
        for name, word in (("one", "otter"), ("two", "heron")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.md").write_text(f"# {word}\n")
        (tmp_path / "documents").symlink_to("one")
        shelf = Shelf(tmp_path)
        shelf.scan()
        assert shelf.find("otter") == ["a.md"]
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "documents")
        shelf.scan()
        assert (shelf.find("otter"), shelf.find("heron")) == ([], ["a.md"])
        shelf.close()


class TestOdd:
    def test_huge_files_are_skipped(self, plain: Shelf) -> None:
        file = plain.write("huge.md", "")
        with file.open("r+b") as sparse:
            sparse.truncate(LARGEST * 1000)
        plain.write("full.txt", "otter " * (LARGEST // 6))
        scan = plain.scan()
        assert (scan.added, "4096000" in scan.skipped["huge.md"].replace(",", "")) == (1, False)
        assert str(LARGEST) in scan.skipped["huge.md"]
        assert plain.find("otter") == ["full.txt"]

    def test_a_file_that_grew_too_large_leaves(self, plain: Shelf) -> None:
        file = plain.write("a.md", "# Otter\n")
        plain.scan()
        with file.open("r+b") as sparse:
            sparse.truncate(LARGEST + 1)
        assert plain.scan().removed == 1
        assert plain.find("otter") == []

    def test_pipes_and_other_kinds_are_passed_over(self, plain: Shelf) -> None:
        os.mkfifo(plain.documents / "pipe.md")
        plain.write("picture.png", b"\x89PNG")
        plain.write(".hidden.md", "# Otter\n")
        plain.write(".git/notes.md", "# Otter\n")
        plain.write("UPPER.MD", "# Otter\n")
        assert plain.scan().added == 1
        assert plain.find("otter") == ["UPPER.MD"]

    def test_names(self, plain: Shelf) -> None:
        plain.write("ünïcode/ein Dokument (1).md", "# Otter\n")
        plain.write("new\nline.md", "# Otter\n")
        with open(os.fsencode(plain.documents) + b"/\xff\xfe.md", "wb") as file:
            file.write(b"# Otter\n")
        scan = plain.scan()
        assert (scan.added, len(scan.skipped)) == (1, 2)
        (found,) = plain.find("otter")
        assert found == "ünïcode/ein Dokument (1).md"
        assert plain.library.url(found).endswith("/%C3%BCn%C3%AFcode/ein%20Dokument%20%281%29.md")

    def test_depth_is_limited(self, plain: Shelf) -> None:
        plain.write("/".join(["d"] * DEEPEST) + "/a.md", "# Otter\n")
        plain.write("e/" + "/".join(["d"] * DEEPEST) + "/b.md", "# Otter\n")
        scan = plain.scan()
        assert (scan.added, len(scan.skipped)) == (1, 1)

    def test_a_missing_root_loses_nothing(self, shelf: Shelf, tmp_path: Path) -> None:
        shelf.write("a.md", "# Otter\n")
        shelf.scan()
        shelf.documents.rename(tmp_path / "away")
        with pytest.raises(FolderError):
            shelf.scan()
        assert shelf.find("otter") == ["a.md"]

    def test_what_is_skipped_is_said_once(self, plain: Shelf, caplog: pytest.LogCaptureFixture) -> None:
        plain.write("a.md", "---\ngroups: x\n---\n")
        with caplog.at_level(logging.WARNING, "servers.knowledge"):
            plain.scan()
            plain.scan()
        assert [r.getMessage() for r in caplog.records] == [
            "not indexed: a.md: `groups` is a list of business groups"
        ]


class TestFailing:
    def test_an_engine_that_is_down_is_tried_again(self, tmp_path: Path) -> None:
        with running() as fake:
            shelf = Shelf(tmp_path, "opensearch", fake)
            shelf.write("a.md", "# Otter\n")
            for name in ("down", "refuse_passages"):
                setattr(fake, name, True)
                with pytest.raises(EngineError):
                    shelf.scan()
                setattr(fake, name, False)
                assert not shelf.sees("a.md")
            shelf.scan()
            assert shelf.find("otter") == ["a.md"]
            fake.failed_shards = 1
            with pytest.raises(EngineError, match="Try again"):
                shelf.find("otter")
            fake.down = True
            with pytest.raises(EngineError, match="Try again"):
                shelf.find("otter")
            shelf.close()

    def test_what_is_not_in_the_catalogue_is_not_shown(self, tmp_path: Path) -> None:
        """An engine that still has what went out of sight."""
        with running() as fake:
            shelf = Shelf(tmp_path, "opensearch", fake)
            shelf.write("a.md", "# Otter\n")
            shelf.scan()
            (index,) = fake.indexes.values()
            index.shown["x"] = {**next(iter(index.shown.values())), "path": "gone.md"}
            assert shelf.find("otter") == ["a.md"]
            shelf.close()

    def test_a_watch_goes_on_after_a_failure(self, plain: Shelf, tmp_path: Path) -> None:
        away = plain.documents.rename(tmp_path / "away")
        failed, done = threading.Event(), threading.Event()
        indexer = plain.opened.indexer
        real = indexer.scan

        def scan() -> object:
            try:
                found = real()
            except FolderError:
                failed.set()
                raise
            if found.added:
                done.set()
            return found

        indexer.scan = scan  # type: ignore[method-assign, assignment]
        watch = Watch(indexer, 0.01)
        watch.start()
        assert failed.wait(10)
        (away / "a.md").write_text("# Otter\n")
        away.rename(plain.documents)
        assert done.wait(10)
        watch.close()
        assert plain.find("otter") == ["a.md"]

    def test_readers_see_one_state(self, plain: Shelf) -> None:
        plain.write("a.md", "# Otter\n")
        plain.scan()
        with plain.opened.catalogue.database.writing() as connection:
            connection.execute("DELETE FROM documents")
            assert plain.find("otter") == ["a.md"]  # not committed, and nobody waits for it
        assert plain.find("otter") == []

    def test_a_long_search_is_stopped(self, plain: Shelf) -> None:
        database = plain.opened.catalogue.database
        database._seconds = 0.05
        endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
        with pytest.raises(EngineError, match="too long"), database.reading() as connection:
            connection.execute(endless).fetchone()

    def test_a_broken_catalogue_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "index").mkdir()
        (tmp_path / "index/fts5-1.sqlite").write_bytes(b"not a database, but some text of some length" * 50)
        with pytest.raises(sqlite3.DatabaseError):
            Shelf(tmp_path)
