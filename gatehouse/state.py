"""The state folder: where a local stack keeps its keys, its policy, its logs and its addresses."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gatehouse.errors import Failure

DEFAULT = Path(".gatehouse")
PRIVATE = 0o600
PRIVATE_FOLDER = 0o700


@dataclass(frozen=True, slots=True)
class State:
    """Paths below one state folder. Nothing is created until something is written."""

    root: Path

    @property
    def issuer_keys(self) -> Path:
        """The development issuer's private JWK set."""
        return self.root / "issuer" / "keys.jwks"

    @property
    def issuers(self) -> Path:
        """JSON: the issuers for whom the development issuer signs, the default one first."""
        return self.root / "issuer" / "issuers.json"

    @property
    def ca(self) -> Path:
        return self.root / "ca"

    @property
    def server_ca(self) -> Path:
        """PEM: what a client checks the listeners' certificates with."""
        return self.ca / "servers.pem"

    @property
    def tls(self) -> Path:
        return self.root / "tls"

    @property
    def svids(self) -> Path:
        return self.root / "svids"

    @property
    def identity_private(self) -> Path:
        """The private JWK set that ext_authz signs identity assertions with."""
        return self.root / "identity" / "private.jwks"

    @property
    def identity_public(self) -> Path:
        """The public half, which every server verifies with."""
        return self.root / "identity" / "public.jwks"

    @property
    def policies(self) -> Path:
        """The working copy of the shipped policies."""
        return self.root / "policies"

    @property
    def reviewers(self) -> Path:
        return self.root / "reviewers.yaml"

    @property
    def deployment(self) -> Path:
        """The deployment as it runs here: no port 0, no relative path."""
        return self.root / "deployment.yaml"

    @property
    def bootstrap(self) -> Path:
        return self.root / "envoy" / "bootstrap.yaml"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def decisions(self) -> Path:
        return self.root / "decisions.jsonl"

    @property
    def servers(self) -> Path:
        """JSON: servers of teams that `gatehouse up` starts beside its own."""
        return self.root / "servers.json"

    @property
    def usage(self) -> Path:
        """JSON lines: what every server's calls came to."""
        return self.root / "usage.jsonl"

    def data(self, server: str) -> Path:
        """Where the embedded engine of a server keeps what it has."""
        return self.root / "data" / server

    @property
    def stack(self) -> Path:
        """JSON: every address of the stack that runs from this folder; absent while none does."""
        return self.root / "stack.json"

    def prepare(self) -> None:
        """Make the folder and those that others write into."""
        for folder in (self.root, self.logs, self.svids):
            make_private_folder(folder)


def make_private_folder(folder: Path) -> None:
    """Make `folder` and its parents, for the owner alone."""
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot make the folder {folder}: {error.strerror}") from error


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace `path` at once: a reader sees the old content or the new, never half, never a wider mode."""
    make_private_folder(path.parent)
    raw = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise Failure(f"cannot write {path}: {error.strerror}") from error


def write_private(path: Path, content: str | bytes) -> None:
    """Write a secret: mode 0600 from its first byte on."""
    write(path, content, PRIVATE)


def read_private(path: Path) -> bytes:
    """Read a secret.

    Raises:
        Failure: it is not there, or others than its owner may read it.

    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise Failure(
            f"{path} is not there", "start the stack with `gatehouse up`, or name its --state"
        ) from error
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Failure(f"{path} is a private key that others may read", f"chmod 600 {path}")
    return content


def read_json(path: Path) -> object:
    """Read a JSON file that this command wrote."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise Failure(
            f"{path} is not there", "start the stack with `gatehouse up`, or name its --state"
        ) from error
    except (OSError, ValueError) as error:
        raise Failure(f"cannot read {path}: {error}") from error
