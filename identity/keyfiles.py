"""Files that hold keys: read with a cap, and private ones only where nobody else can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from identity.errors import KeyFileError
from identity.jwk import MAX_SET_BYTES

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_public(path: Path) -> bytes:
    """Read a file of public keys, of 256 KiB at most.

    Raises:
        KeyFileError: where there is no such regular file, or it is too large.

    """
    return _read(path, private=False)


def read_private(path: Path) -> bytes:
    """Read a file of private keys, of 256 KiB at most, which only its owner may touch.

    Raises:
        KeyFileError: also where its group or others may read or write it.

    """
    return _read(path, private=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, replacing what was there at once or not at all."""
    _write(path, data, 0o600)


def write_public(path: Path, data: bytes) -> None:
    """Write a file that everybody can read, replacing what was there at once or not at all."""
    _write(path, data, 0o644)


def _read(path: Path, *, private: bool) -> bytes:
    try:
        # Non-blocking, since opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)  # of what was opened, not of what lies there by now
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path}: not a regular file")
        if private and status.st_mode & _OTHERS:
            raise KeyFileError(f"{path}: others can touch this private key; run: chmod 600 {path}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_SET_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_SET_BYTES:
        raise KeyFileError(f"{path}: larger than {MAX_SET_BYTES} bytes")
    return data


def _write(path: Path, data: bytes, mode: int) -> None:
    # Born with its final mode: a file that is narrowed afterwards could have been read before.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
