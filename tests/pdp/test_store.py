"""The folder watched: what changes, what never does, and how much work a change costs."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from pdp.load import PolicyError, Problem
from pdp.locking import LockRefused, lock
from pdp.model import Snapshot
from pdp.store import GIT_PATIENCE, PolicyStore
from tests.pdp.folder import NOW, PolicyFolder

DEADLINE = 10.0


def test_nothing_changed_is_nothing_new(folder: PolicyFolder) -> None:
    store = folder.store()
    first = store.load()
    parsed = store.files.parsed
    assert [store.poll() for _ in range(3)] == [False] * 3
    assert store.snapshot is first
    assert store.files.parsed == parsed


def test_a_bad_edit_keeps_the_last_good_policy_and_is_mended(folder: PolicyFolder) -> None:
    store = folder.store()
    good = store.load()
    text = folder.read("servers/presto.yaml")
    folder.write("servers/presto.yaml", text.replace("access:", "acess:"))
    assert not store.poll()
    assert store.snapshot is good
    assert "servers/presto.yaml:12:1: unknown key 'acess'; did you mean 'access'?" in map(str, store.problems)
    folder.write("servers/presto.yaml", text)
    assert not store.poll()
    assert store.problems == ()
    assert store.snapshot is good


def test_a_bad_folder_at_the_start_has_no_policy_until_it_is_mended(folder: PolicyFolder) -> None:
    text = folder.read("org.yaml")
    folder.write("org.yaml", "a: [")
    store = folder.store()
    with pytest.raises(PolicyError, match=r"org\.yaml:2:1: not YAML"):
        store.load()
    assert store.snapshot is None
    assert not store.poll()
    folder.write("org.yaml", text)
    assert store.poll()
    assert store.snapshot is not None


@pytest.mark.parametrize(
    "file", ["reviews/security/presto.yaml", "locks.yaml", "surfaces.yaml", "approved/org.yaml"]
)
def test_whatever_file_breaks_the_last_good_policy_stays(folder: PolicyFolder, file: str) -> None:
    store = folder.store()
    good = store.load()
    folder.write(file, "a: [")
    assert not store.poll()
    assert store.snapshot is good
    assert store.problems


def test_prose_and_places_are_news_without_a_new_digest(folder: PolicyFolder) -> None:
    store = folder.store()
    first = store.load()
    folder.edit("servers/presto.yaml", "title: Presto", "title: Warehouse")
    assert store.poll()
    assert store.snapshot is not None
    assert store.snapshot.servers["presto"].title == "Warehouse"
    assert store.snapshot.digest == first.digest


def test_only_what_changed_is_parsed_and_compiled_again(folder: PolicyFolder) -> None:
    for number in range(20):
        name = f"extra-{number}"
        folder.write(
            f"servers/{name}.yaml", folder.read("servers/scratchpad.yaml").replace("scratchpad", name)
        )
    store = folder.store()
    store.load()
    before = store.snapshot
    parsed, compiled = store.files.parsed, store.compiler.compiled
    folder.edit("servers/extra-7.yaml", "risk: low, minutes_saved: 1}\n  write", "risk: high}\n  write")
    assert store.poll()
    assert (store.files.parsed - parsed, store.compiler.compiled - compiled) == (1, 1)
    assert before is not None
    assert store.snapshot is not None
    same = {n for n, s in store.snapshot.servers.items() if s is before.servers[n]}
    assert same == before.servers.keys() - {"extra-7"}


def test_an_unedited_copy_is_not_parsed_a_second_time_but_reads_the_same(folder: PolicyFolder) -> None:
    with_originals = folder.store().load()
    shutil.rmtree(folder.root / "servers")
    alone = folder.store().load()
    for name in ("presto", "spark", "knowledge", "airflow"):
        assert alone.servers[name] == with_originals.servers[name]


def test_two_writes_within_one_tick_of_the_clock_are_both_seen(folder: PolicyFolder) -> None:
    """Same size, same inode, same time of change: only reading again tells them apart."""
    store = folder.store()
    store.load()
    path = folder.root / "servers/scratchpad.yaml"
    text = path.read_text()
    for digit in "123456789":
        with path.open("r+") as file:
            file.write(text.replace("title: Scratchpad", f"title: Scratchpa{digit}"))
        store.poll()
        assert store.snapshot is not None
        assert store.snapshot.servers["scratchpad"].title == f"Scratchpa{digit}"


def test_a_swapped_link_is_seen_and_read_from_one_place(folder: PolicyFolder, tmp_path: Path) -> None:
    """As git-sync does: no file of the old version changes, only the link to it."""
    shutil.copytree(folder.root, tmp_path / "two")
    folder.edit("servers/presto.yaml", "title: Presto", "title: One")
    two = PolicyFolder(tmp_path / "two", folder.reviewers)
    two.edit("servers/presto.yaml", "title: Presto", "title: Two")
    link = tmp_path / "current"
    link.symlink_to(folder.root)
    store = PolicyStore(link, folder.reviewers)
    assert store.load().servers["presto"].title == "One"
    (tmp_path / "next").symlink_to(two.root)
    os.replace(tmp_path / "next", link)
    assert store.poll()
    assert store.snapshot is not None
    assert store.snapshot.servers["presto"].title == "Two"


def test_a_kubernetes_volume_is_read_below_its_data_link(folder: PolicyFolder, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    shutil.copytree(folder.root, volume / "..2026_1")
    (volume / "..data").symlink_to("..2026_1")
    for name in ("org.yaml", "surfaces.yaml", "servers", "approved", "reviews"):
        (volume / name).symlink_to(f"..data/{name}")
    store = PolicyStore(volume, folder.reviewers)
    store.load()
    shutil.copytree(folder.root, volume / "..2026_2")
    changed = PolicyFolder(volume / "..2026_2", folder.reviewers)
    changed.edit("servers/presto.yaml", "title: Presto", "title: Two")
    (volume / "..next").symlink_to("..2026_2")
    os.replace(volume / "..next", volume / "..data")
    assert store.poll()


@pytest.mark.parametrize("worktree", [False, True])
def test_while_git_writes_nothing_is_read(folder: PolicyFolder, tmp_path: Path, worktree: bool) -> None:
    git = folder.root.parent / ".git"
    if worktree:
        (tmp_path / "real-git").mkdir()
        git.write_text(f"gitdir: {tmp_path / 'real-git'}\n")
        git = tmp_path / "real-git"
    else:
        git.mkdir()
    clock = [NOW]
    store = PolicyStore(folder.root, folder.reviewers, clock=lambda: clock[0])
    store.load()
    (git / "index.lock").touch()
    folder.edit("servers/presto.yaml", "title: Presto", "title: Two")
    assert not store.poll()
    (git / "index.lock").unlink()
    assert store.poll()


def test_a_lock_that_git_left_behind_does_not_stop_policy(folder: PolicyFolder) -> None:
    (folder.root.parent / ".git").mkdir()
    (folder.root.parent / ".git" / "index.lock").touch()
    clock = [NOW]
    store = PolicyStore(folder.root, folder.reviewers, clock=lambda: clock[0])
    store.load()
    folder.edit("servers/presto.yaml", "title: Presto", "title: Two")
    assert not store.poll()
    clock[0] += GIT_PATIENCE + 1
    assert store.poll()


def test_a_real_checkout_is_followed(folder: PolicyFolder) -> None:
    root = folder.root.parent

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@corp.example", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)

    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "one")
    folder.edit("servers/presto.yaml", "title: Presto", "title: Two")
    git("commit", "-am", "two")
    store = folder.store()
    store.load()
    git("checkout", "-q", "HEAD~1")
    assert store.poll()
    assert store.snapshot is not None
    assert store.snapshot.servers["presto"].title == "Presto"


def test_the_reviewers_file_is_watched_too(folder: PolicyFolder) -> None:
    store = folder.store()
    store.load()
    folder.reviewers.write_text(
        folder.reviewers.read_text().replace("lee@corp.example:", "leo@corp.example:")
    )
    assert store.poll()
    assert store.snapshot is not None
    assert store.snapshot.servers["presto"].in_force.missing == {"legal-privacy"}
    assert any("'lee@corp.example' is no reviewer" in str(warning) for warning in store.warnings)


def test_a_vanished_folder_keeps_the_last_policy_and_comes_back(folder: PolicyFolder) -> None:
    store = folder.store()
    good = store.load()
    folder.root.rename(folder.root.with_name("away"))
    assert not store.poll()
    assert store.snapshot is good
    assert store.problems
    folder.root.with_name("away").rename(folder.root)
    assert not store.poll()
    assert store.problems == ()


def test_watching_tells_each_change_and_each_failure_once(folder: PolicyFolder) -> None:
    store = folder.store()
    store.load()
    stop, changed, failed = threading.Event(), threading.Event(), threading.Event()
    snapshots: list[Snapshot] = []
    failures: list[tuple[Problem, ...]] = []

    def on_change(snapshot: Snapshot) -> None:
        snapshots.append(snapshot)
        changed.set()

    def on_error(problems: tuple[Problem, ...]) -> None:
        failures.append(problems)
        failed.set()

    thread = threading.Thread(target=store.watch, args=(on_change, stop, 0.01, on_error))
    thread.start()
    try:
        good = folder.read("servers/presto.yaml")
        folder.write("servers/presto.yaml", "a: [")
        assert failed.wait(DEADLINE)
        folder.write("servers/presto.yaml", good.replace("title: Presto", "title: Two"))
        assert changed.wait(DEADLINE)
    finally:
        stop.set()
        thread.join(DEADLINE)
    assert len(failures) == 1
    assert snapshots[-1].servers["presto"].title == "Two"


def test_a_lock_is_in_force_at_once(folder: PolicyFolder) -> None:
    store = folder.store()
    before = store.load()
    comment = folder.read("locks.yaml").split("apiVersion")[0]
    for kind, subject in (("user", "sso:00u7"), ("server", "presto"), ("token", "a: {b}"),
                          ("workload", "spiffe://corp.example/ns/prod/sa/ai-chat")):  # fmt: skip
        lock(
            folder.root, folder.reviewers, kind, subject,  # type: ignore[arg-type]
            until=NOW + 3600, why='INC-91: "leaked"', by="dana@corp.example", now=NOW,
        )  # fmt: skip
        assert store.poll()
        assert store.snapshot is not None
        assert store.snapshot.locks[kind, subject].until == NOW + 3600  # type: ignore[index]
    assert store.snapshot is not None
    assert store.snapshot.digest != before.digest
    assert folder.read("locks.yaml").startswith(comment)
    assert store.snapshot.locks["user", "sso:00u7"].location.line == comment.count("\n") + 4
    assert store.snapshot.next_change(NOW) == NOW + 3600


def test_the_longest_of_several_locks_counts(folder: PolicyFolder) -> None:
    for hours in (5, 2):
        lock(
            folder.root, folder.reviewers, "user", "sso:u", until=NOW + hours * 3600, why="x", by="y", now=NOW
        )  # fmt: skip
    assert folder.store().load().locks["user", "sso:u"].until == NOW + 5 * 3600


@pytest.mark.parametrize(
    ("kind", "subject", "until", "said"),
    [
        ("user", "sso:u", NOW, "a lock ends in the future"),
        ("user", "00u7", NOW + 1, "names no user"),
        ("user", "ssso:u", NOW + 1, "unknown user's issuer 'ssso'; did you mean 'sso'?"),
        ("server", "prest", NOW + 1, "unknown server 'prest'; did you mean 'presto'?"),
        ("workload", "spiffe://CORP/x", NOW + 1, "workload: "),
    ],
)
def test_a_lock_that_locks_nothing_is_refused(folder: PolicyFolder, kind: str, subject: str, until: float, said: str) -> None:  # fmt: skip
    before = folder.read("locks.yaml")
    with pytest.raises((LockRefused, PolicyError), match=said):
        lock(folder.root, folder.reviewers, kind, subject, until=until, why="x", by="y", now=NOW)  # type: ignore[arg-type]
    assert folder.read("locks.yaml") == before


def test_the_first_lock_makes_the_file(folder: PolicyFolder) -> None:
    (folder.root / "locks.yaml").unlink()
    lock(folder.root, folder.reviewers, "server", "spark", until=NOW + 9, why="x", by="y", now=NOW)
    assert ("server", "spark") in folder.store().load().locks


def test_a_real_folder_called_dot_dot_data_is_no_policy(folder: PolicyFolder) -> None:
    """Owners of approved/ and reviews/ would never see what is changed in it."""
    before = folder.store().load()
    shadow = folder.root / "..data"
    shutil.copytree(folder.root, shadow, ignore=shutil.ignore_patterns("..data"))
    text = (shadow / "locks.yaml").read_text()
    (shadow / "locks.yaml").write_text(text + "nonsense: true\n")
    assert folder.store().load().digest == before.digest
