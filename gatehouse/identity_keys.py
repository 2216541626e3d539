"""The keys that identity assertions are signed with, as the command makes, shows and rotates them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from gatehouse.errors import Failure
from gatehouse.state import State, make_private_folder
from identity import keyfiles
from identity.errors import KeyFileError
from identity.signing import SigningKey, SigningKeys, generate_signing_key


def create(private: Path) -> None:
    """Make a private set of one new key.

    Raises:
        Failure: there is one already.

    """
    if private.exists():
        raise Failure(f"{private} is there already", "`gatehouse keys rotate add` adds a key to it")
    make_private_folder(private.parent)
    keyfiles.write_private(private, generate_signing_key().private_jwks())


def ensure(state: State) -> None:
    """Make the state folder's set where there is none, and write the public half anew."""
    if not state.identity_private.exists():
        create(state.identity_private)
    keyfiles.write_public(state.identity_public, _read(state.identity_private).public_jwks())


def public_set(private: Path) -> str:
    """The public JWK set of a private one, as text."""
    return _read(private).public_jwks().decode().strip()


def rotate(private: Path, public: Path | None, step: str) -> str:
    """Take one step; returns what to do next. The public set is written first where it grows."""
    keys = _read(private)
    if step != "add" and len(keys.keys) < 2:
        raise Failure(
            f"{private} holds one key: there is nothing to {step}", "run `gatehouse keys rotate add` first"
        )
    after = _STEPS[step](keys)
    if public is not None and step == "add":
        keyfiles.write_public(public, after.public_jwks())
    keyfiles.write_private(private, after.private_jwks())
    if public is not None and step != "add":
        keyfiles.write_public(public, after.public_jwks())
    return _NEXT[step]


def _read(private: Path) -> SigningKeys:
    try:
        return SigningKeys.read(private)
    except KeyFileError as error:
        raise Failure(str(error), "`gatehouse keys new` makes one") from error


_STEPS: Mapping[str, Callable[[SigningKeys], SigningKeys]] = MappingProxyType(
    {
        "add": lambda keys: keys.with_next(SigningKey.generate()),
        "sign": SigningKeys.promoted,
        "retire": SigningKeys.retired,
    }
)
_NEXT: Mapping[str, str] = MappingProxyType(
    {
        "add": "next key published; once every server has read the public set: gatehouse keys rotate sign",
        "sign": "the next key signs once ext_authz has read it; a minute later: gatehouse keys rotate retire",
        "retire": "done: what the old key signed is refused from now on",
    }
)
