"""Event logs as files: which there are in a folder, and their lines, decompressed as a stream.

Spark writes a log as one file, or rolled as a folder `eventlog_v2_<id>` of `events_<n>_<id>`; compaction
leaves one `….compact` that stands for all of a smaller number. `.inprogress`: it is still written to.
https://spark.apache.org/docs/latest/monitoring.html#viewing-after-the-fact
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

ROLLED = "eventlog_v2_"
IN_PROGRESS = ".inprogress"
MAX_LINE = 32 * 1024 * 1024
"""Bytes of one event. A plan of a query over thousands of columns reaches a few of these megabytes."""

_CHUNK = 256 * 1024
_PIECE = 4 * 1024
_MAX_WINDOW = 128 * 1024 * 1024
_ZSTD = (".zstd", ".zst")
_OTHER_CODECS = (".lz4", ".lzf", ".snappy", ".gz")
_PART = re.compile(r"events_(\d+)_.+?(\.compact)?")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class LogFile:
    """One application's log: its parts in order, and what tells whether they changed."""

    stem: str
    """The name without prefix and suffixes: what Spark calls the application, unless it was renamed."""
    parts: tuple[Path, ...]
    in_progress: bool
    signature: tuple[tuple[str, int, int], ...]
    """Name, size and time of change (ns) of every part."""

    @property
    def changed(self) -> int:
        """When it was last written to, in ns since 1970."""
        return max((part[2] for part in self.signature), default=0)

    @property
    def codec(self) -> str:
        """The compression that can't be read; empty where it can."""
        names = (part.name.removesuffix(".compact").removesuffix(IN_PROGRESS) for part in self.parts)
        found = {codec for name in names for codec in _OTHER_CODECS if name.endswith(codec)}
        return min(found, default="").lstrip(".")


def find(folder: Path) -> list[LogFile]:
    """Return every log in a folder, newest first. Links aren't followed: others write there.

    Raises:
        OSError: the folder can't be read.

    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir(follow_symlinks=False) and entry.name.startswith(ROLLED):
                found.append(_rolled(Path(entry.path)))
            elif entry.is_file(follow_symlinks=False):
                path = Path(entry.path)
                in_progress = entry.name.endswith(IN_PROGRESS)
                found.append(LogFile(_stem(entry.name), (path,), in_progress, (_signed(path),)))
    return sorted(found, key=lambda log: (-log.changed, log.stem))


def lines(log: LogFile, limit: int, spoilt: list[str]) -> Iterator[bytes]:
    """Yield the lines of a log, each without its end.

    It reads at most `limit` bytes after decompression. What it can't read it says in `spoilt`, one sentence
    each, and goes on: a log that is cut gives the events before the cut.
    """
    if log.codec:
        spoilt.append(
            f"The log is compressed with {log.codec}, which can't be read here; "
            "set spark.eventLog.compression.codec to zstd for the next run."
        )
        return
    left = limit
    for part in log.parts:
        try:
            source = part.open("rb")
        except OSError as error:
            spoilt.append(f"A part of the log could not be opened: {error.strerror}.")
            continue
        with source:
            for line in _split(_chunks(source, spoilt), spoilt):
                left -= len(line) + 1
                if left < 0:
                    spoilt.append(f"The log is longer than {limit // 2**20} MiB; the rest was not read.")
                    return
                yield line


def _rolled(folder: Path) -> LogFile:
    numbered: list[tuple[int, bool, Path]] = []
    in_progress = False
    for path in folder.iterdir():
        match = _PART.fullmatch(path.name)
        if match and path.is_file() and not path.is_symlink():
            numbered.append((int(match[1]), match[2] is not None, path))
        elif path.name.startswith("appstatus_"):
            in_progress = path.name.endswith(IN_PROGRESS)
    compacted = max((number for number, compact, _ in numbered if compact), default=-1)
    kept = sorted(
        (number, path)
        for number, compact, path in numbered
        if number > compacted or (compact and number == compacted)
    )
    parts = tuple(path for _, path in kept)
    stem = folder.name.removeprefix(ROLLED)
    return LogFile(stem, parts, in_progress, tuple(_signed(part) for part in parts))


def _signed(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # it was renamed a moment ago, as Spark does when an application ends
        return (path.name, -1, 0)
    return (path.name, status.st_size, status.st_mtime_ns)


def _stem(name: str) -> str:
    name = name.removesuffix(IN_PROGRESS)
    for suffix in (*_ZSTD, *_OTHER_CODECS):
        name = name.removesuffix(suffix)
    return name


def _chunks(source: BinaryIO, spoilt: list[str]) -> Iterator[bytes]:
    """Yield a file's content. zstd is known by its first bytes, so a renamed log is read as well.

    Spark's frames carry no content size, and there may be several: only a stream reads them.
    """
    compressed = source.read(4) == _ZSTD_MAGIC
    source.seek(0)
    if not compressed:
        while chunk := source.read(_CHUNK):
            yield chunk
        return
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    reading = decompressor.stream_reader(source, read_size=_PIECE, read_across_frames=True)
    with closing(reading) as reader:
        try:
            # read1: a damaged piece takes away only what was decompressed along with it.
            while chunk := reader.read1(_CHUNK):
                yield chunk
        except zstandard.ZstdError:
            spoilt.append("The log's compression is damaged; what comes after the damage was not read.")


def _split(chunks: Iterable[bytes], spoilt: list[str]) -> Iterator[bytes]:
    """Yield lines of any length up to the limit, the last one also without its end."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        held.append(first)
        size += len(first)
        for following in rest:
            if size <= MAX_LINE:
                yield b"".join(held)
            else:
                spoilt.append(f"An event of more than {MAX_LINE // 2**20} MiB was left out.")
            held, size = [following], len(following)
        if size > MAX_LINE:
            held = []  # its size goes on counting, so that the rest of it is left out as well
    if 0 < size <= MAX_LINE:
        yield b"".join(held)
