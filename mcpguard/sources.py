"""What a server's guard reads while it runs: policy, and the keys that ext_authz signs with."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from identity.errors import KeyFileError
from identity.jwk import JwkError, JwkSet
from identity.keyfiles import read_public
from mcpguard.logs import FIELDS
from pdp.model import Snapshot
from pdp.problem import PolicyError, Problem
from pdp.store import PolicyStore

_log = logging.getLogger("mcpguard")
_KEYS_INTERVAL = 1.0


class KeyFile:
    """The public identity keys, a `KeySource`: read again when the file changes; the last good set stays."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            KeyFileError: it can't be read, or holds no key set.

        """
        self._path = path
        self._asked = threading.Event()
        self._body, self._keys = _read(path)

    def current(self) -> JwkSet:
        """Return the keys in force."""
        return self._keys

    def wanted(self, kid: str | None) -> None:  # noqa: ARG002 - a file is read whole
        """Look at the file soon: somebody signs with a key that isn't in it yet."""
        self._asked.set()

    def watch(self, stop: threading.Event) -> None:
        """Follow the file until `stop`; runs in a thread of its own."""
        while not stop.wait(_KEYS_INTERVAL):
            self.poll()

    def poll(self) -> bool:
        """Read the file once more; True where other keys are in force now."""
        self._asked.clear()
        try:
            body, keys = _read(self._path)
        except KeyFileError as error:
            _log.warning("identity keys stay as they were: %s", error)
            return False
        if body == self._body:
            return False
        self._body, self._keys = body, keys
        _log.info("identity keys changed", extra={FIELDS: {"generation": keys.generation}})
        return True


def _read(path: Path) -> tuple[bytes, JwkSet]:
    body = read_public(path)
    try:
        return body, JwkSet.parse(body)
    except JwkError as error:
        raise KeyFileError(f"{path}: {error}") from None


class Sources:
    """Policy and keys with the threads that follow them, from `start` to `close`."""

    def __init__(self, store: PolicyStore, keys: KeyFile) -> None:
        self.store = store
        self.keys = keys
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def policy(self) -> Snapshot | None:
        """Return the policy in force: the last good one, or none yet."""
        return self.store.snapshot

    def load(self) -> Snapshot | None:
        """Load policy for the first time; where that fails say why, and serve nobody until it is mended."""
        try:
            return self.store.load()
        except PolicyError as error:
            _report(error.problems)
            return None

    def start(self, on_policy: Callable[[Snapshot], None]) -> None:
        """Follow both; `on_policy` runs in the policy's thread, for each policy that comes into force."""
        self._threads = [
            threading.Thread(
                target=self.store.watch,
                args=(on_policy, self._stop),
                kwargs={"on_error": _report},
                name="policy",
                daemon=True,
            ),
            threading.Thread(target=self.keys.watch, args=(self._stop,), name="identity-keys", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)


def _report(problems: Iterable[Problem]) -> None:
    for problem in problems:
        _log.error("policy refused: %s", problem)
