"""Find the lines that matter in a task's log, reading it once and keeping little of it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from servers.airflow.engine import LogLine, Raised

KEPT_LINES = 2000
"""From the end of a log; what stands before is only counted."""
FRAMES = 3
"""Of a traceback, the last ones."""
BEFORE = 3
"""Lines that show what the task was doing when it failed."""
MAX_TEXT = 500
"""Characters of one line."""

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)')
_CHAINS = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_ERROR_WORDS = re.compile(
    r"\b(?:error|exception|fatal|panic|critical|failed|failure|denied|refused|cannot|can't|killed|"
    r"not found|no such|out of memory|caused by)\b",
    re.IGNORECASE,
)
_ENDING = re.compile(r"(?:Task was killed|Task failed|Command exited|Command was killed|can't start)\b")
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|<frozen |/lib/python3\.\d+/")
"""Frames of code that somebody else wrote, Airflow's own among it."""


@dataclass(frozen=True, slots=True)
class Found:
    """Why an attempt failed, as far as its log says."""

    error: str
    """One line: the exception with its message, or the last line that looks like an error."""
    place: str = ""
    """`file:line in name`: the innermost frame of the task's own code."""
    lines: tuple[str, ...] = ()
    """What it was doing, the traceback's last frames, the error, how it ended."""


def tail(lines: Iterable[LogLine], count: int, end: int | None = None) -> tuple[list[LogLine], int, int]:
    """Return up to `count` lines before line `end`, the number of the first, and how many there are."""
    kept: deque[LogLine] = deque(maxlen=count)
    total = 0
    for line in lines:
        total += 1
        if end is None or total < end:
            kept.append(line)
    last = total if end is None else min(total, end - 1)
    return list(kept), last - len(kept) + 1, total


def find(lines: Iterable[LogLine]) -> Found | None:
    """Find why the attempt failed; None where the log says nothing at all."""
    kept = [line for line in tail(lines, KEPT_LINES)[0] if not line.chatter and line.text.strip()]
    if not kept:
        return None
    raised = [n for n, line in enumerate(kept) if line.raised]
    if raised:
        return _structured(kept, raised[-1])
    block = _last_traceback(kept)
    if block is not None:
        return _traceback(kept, *block)
    return _words(kept)


def _structured(lines: Sequence[LogLine], at: int) -> Found:
    chain = lines[at].raised
    error = _name(chain[0])
    causes = [f"caused by {_name(cause)}" for cause in chain[1:]]
    place = next((place for each in reversed(chain) if (place := _own(each.frames))), "")
    frames: list[str] = []
    for each in chain:
        own = [frame for frame in each.frames if not _LIBRARY.search(frame)] or list(each.frames)
        frames += [f"  at {frame}" for frame in own[-FRAMES:]]
    # Airflow reads a task's output beside its log, so what was printed before may stand after the error.
    context = _context(lines, at) + _context(lines, min(len(lines), at + 1 + BEFORE), at + 1)
    return Found(cut("; ".join([error, *causes])), place, (*context, *map(cut, frames), cut(error), *causes))


def _name(raised: Raised) -> str:
    words = " ".join(raised.message.split())
    return f"{raised.type}: {words}" if words else raised.type


def _own(frames: Sequence[str]) -> str:
    own = [frame for frame in frames if not _LIBRARY.search(frame)]
    return (own or list(frames) or [""])[-1]


def _last_traceback(lines: Sequence[LogLine]) -> tuple[int, int] | None:
    """Return where the last traceback begins, and where its error line stands."""
    starts = [n for n, line in enumerate(lines) if line.text.strip() == _TRACEBACK]
    if not starts:
        return None
    at = starts[-1] + 1
    indent = _indent(lines[starts[-1]].text)
    while at < len(lines) and _indent(lines[at].text) > indent:
        at += 1
    return starts[-1], min(at, len(lines) - 1)


def _traceback(lines: Sequence[LogLine], start: int, end: int) -> Found:
    frames: list[tuple[str, list[str]]] = []
    for line in lines[start + 1 : end]:
        if match := _FRAME.match(line.text):
            frames.append((f"{match['file']}:{match['line']} in {match['name']}", [line.text]))
        elif frames and line.text.strip("~^ "):
            frames[-1][1].append(line.text)
    shown = [text for _, texts in frames[-FRAMES:] for text in texts]
    error = lines[end].text.strip()
    if start >= 2 and lines[start - 1].text.strip() in _CHAINS:
        error = f"{error}; caused by {lines[start - 2].text.strip()}"
    place = _own([frame for frame, _ in frames])
    closing = [line.text for line in lines[end + 1 :] if _ENDING.match(line.text)][-1:]
    kept = (*_context(lines, start), *map(cut, shown), cut(error), *map(cut, closing))
    return Found(cut(error), place, kept)


def _words(lines: Sequence[LogLine]) -> Found:
    """Without a traceback: the last line that looks like an error, the engine's closing words left out."""
    own = [n for n, line in enumerate(lines) if not _ENDING.match(line.text)]
    grave = [n for n in own if lines[n].level in ("error", "critical")]
    said = [n for n in own if _ERROR_WORDS.search(lines[n].text)]
    closing = [line.text for line in lines if _ENDING.match(line.text)][-1:]
    at = max(said or grave or own, default=len(lines) - 1)
    # A killed task didn't choose to end: what it said last explains less than what killed it.
    killed = bool(closing) and not closing[0].startswith("Command exited")
    error = closing[0] if killed or (closing and not said) else lines[at].text.strip()
    around = [cut(line.text) for line in lines[max(0, at - BEFORE) : at + 1]]
    return Found(cut(error), "", tuple(dict.fromkeys([*around, *map(cut, closing)])))


def _context(lines: Sequence[LogLine], end: int, start: int = 0) -> tuple[str, ...]:
    return tuple(cut(line.text) for line in lines[max(start, end - BEFORE) : end])


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Shorten one line."""
    return text if len(text) <= limit else f"{text[:limit]} [{len(text) - limit} characters more]"


def same_error(one: Found, other: Found) -> bool:
    """Whether two attempts failed alike; numbers and addresses in the message may differ."""
    return _shape(one) == _shape(other)


def _shape(found: Found) -> tuple[str, str]:
    return re.sub(r"0x[0-9a-fA-F]+|\d+", "#", found.error), found.place
