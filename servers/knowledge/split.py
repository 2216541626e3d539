"""Cut the text of a section into passages short enough to be read by a model, several at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from servers.knowledge.engine import Passage

LONGEST = 1600
"""Characters of one passage."""
_PARAGRAPHS = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True, slots=True)
class Section:
    """Text below one heading; `heading` has those above it too."""

    heading: str
    text: str


def passages(sections: Iterable[Section]) -> tuple[Passage, ...]:
    """Number the pieces of all sections."""
    pieces = ((section.heading, text) for section in sections for text in _pieces(section.text))
    return tuple(Passage(ordinal, heading, text) for ordinal, (heading, text) in enumerate(pieces))


def _pieces(text: str) -> Iterator[str]:
    """Whole paragraphs together, as many as fit."""
    pending = ""
    for paragraph in _PARAGRAPHS.split(text):
        for part in _fitting(paragraph.strip("\n")):
            if pending and len(pending) + len(part) + 2 > LONGEST:
                yield pending
                pending = ""
            pending = f"{pending}\n\n{part}" if pending else part
    if pending:
        yield pending


def _fitting(paragraph: str) -> Iterator[str]:
    """A long paragraph in parts, cut at white space where there is some in the last quarter."""
    start = 0
    while len(paragraph) - start > LONGEST:
        end = start + LONGEST
        cut = max(paragraph.rfind("\n", start + LONGEST * 3 // 4, end), 0) or max(
            paragraph.rfind(" ", start + LONGEST * 3 // 4, end), 0
        )
        end = cut or end
        if part := paragraph[start:end].strip():
            yield part
        start = end
    if (part := paragraph[start:].strip("\n")) and part.strip():
        yield part


class Outline:
    """The headings open at a point of a document."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, depth: int, heading: str) -> str:
        """Note a heading of depth 1 to 6; returns all that are open now, as one line."""
        while self._open and self._open[-1][0] >= depth:
            self._open.pop()
        self._open.append((depth, heading))
        return " > ".join(text for _, text in self._open if text)
