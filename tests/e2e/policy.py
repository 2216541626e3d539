"""Edits of the policy folder of a running stack, as a person makes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatehouse.approving import Approval, approve
from gatehouse.working_policy import DEVELOPMENT_REVIEWER
from identity.principal import JsonValue
from tests.e2e.stack import Stack, eventually, replace_file


class Policy:
    """The policy folder of a stack; `edited` puts it back afterwards."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.root = stack.state.policies

    def read(self, file: str) -> str:
        return (self.root / file).read_text()

    def write(self, file: str, text: str) -> None:
        replace_file(self.root / file, text)

    def replace(self, file: str, old: str, new: str) -> None:
        text = self.read(file)
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        self.write(file, text.replace(old, new))

    def approve(self, subject: str, expires: float | None = None) -> None:
        """Everything that is needed, by the development reviewer."""
        now = time.time()
        wanted = Approval(subject, DEVELOPMENT_REVIEWER, "SEC-1", now=now, expires=expires)
        approve(self.root, self._stack.state.reviewers, wanted)

    def lock(self, kind: str, subject: JsonValue, seconds: float = 3600) -> None:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        line = f'  - {{{kind}: "{subject}", until: {until}, why: INC-1, by: dana@corp.example}}\n'
        text = self.read("locks.yaml").replace("locks: []", "locks:")
        self.write("locks.yaml", text.rstrip() + "\n" + line)

    def wait_noticed(self) -> None:
        """Until whatever was saved before has been looked at: a further change, which shows, is in force."""
        before = self._stack.digest()
        self.lock("user", f"sso:nobody-{time.monotonic_ns()}")
        eventually(lambda: self._stack.digest() not in (before, None), "a lock in force")


@contextmanager
def edited(stack: Stack) -> Iterator[Policy]:
    """Whatever is done to the folder in here is undone, and the undone state in force, afterwards."""
    kept, before = stack.save_policies(), stack.digest()
    try:
        yield Policy(stack)
    finally:
        stack.restore_policies(kept, before)


def log_since(path: Path, mark: int) -> str:
    with path.open("rb") as file:
        file.seek(mark)
        return file.read().decode(errors="replace")
