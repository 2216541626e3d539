"""HTML in sections, by libxml2 as a stream of events: no tree, no scripts, nothing fetched.

A tree would cost the square of the depth in an HTML5 parser: 100,000 nested `div` took one 27 seconds. What a
reader of the page doesn't see is left out, so that nothing is said to a model alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from lxml import etree

from servers.knowledge.split import Outline, Section


def _tags(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNREAD = _tags(
    """
    script style template noscript iframe object embed svg math nav form select textarea audio video canvas
    """
)
_VOID = _tags("area base br col embed hr img input link meta source track wbr")
_BLOCKS = _tags(
    """
    address article aside blockquote body br dd details div dl dt fieldset figcaption figure footer header hr
    li main ol p pre section summary table tbody td tfoot th thead tr ul
    """
)
_APART = _tags("p pre ul ol dl table blockquote")
_HEADINGS = {f"h{depth}": depth for depth in range(1, 7)}
_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d]*[1-9])", re.I)
_SPACES = re.compile(r"[ \t\r\n\f\v\xa0]+")
# Where blocks meet: characters that no document has by now, so that the line breaks of `pre` stay apart.
_LINE, _PARAGRAPH = "\x01", "\x02"
_BREAKS = re.compile(r" *[\x01\x02][ \x01\x02]*")


class _Reader:
    """A parser target of lxml."""

    def __init__(self) -> None:
        self.title: str | None = None
        self.first: str | None = None
        self.sections: list[Section] = []
        self._outline = Outline()
        self._heading = ""
        self._text: list[str] = []
        self._depth = 0
        self._skipped_at: int | None = None
        """How deep the element lies whose inside isn't read."""
        self._in_title = False
        self._pre = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag not in _VOID:
            self._depth += 1
        if self._skipped_at is not None:
            return
        if (tag in _UNREAD or _hidden(attributes)) and tag not in _VOID:
            self._skipped_at = self._depth
        elif tag == "title" and self.title is None:
            self._in_title = True
        elif tag in _HEADINGS:
            self._close_section()
        elif tag in _BLOCKS:
            self._pre += tag == "pre"
            self._text.append(_PARAGRAPH if tag in _APART else _LINE)

    def end(self, tag: str) -> None:
        if tag in _VOID:
            return
        depth, self._depth = self._depth, self._depth - 1
        if self._skipped_at is not None:
            if depth <= self._skipped_at:
                self._skipped_at = None
        elif tag == "title" and self._in_title:
            self._in_title = False
            self.title = self._taken().replace("\n", " ") or None
        elif tag in _HEADINGS:
            heading = self._taken().replace("\n", " ")
            if tag == "h1" and self.first is None:
                self.first = heading or None
            self._heading = self._outline.enter(_HEADINGS[tag], heading)
        elif tag in _BLOCKS:
            self._pre -= tag == "pre"
            self._text.append(_PARAGRAPH if tag in _APART else _LINE)

    def data(self, data: str | bytes) -> None:
        if self._skipped_at is None and isinstance(data, str):
            self._text.append(data if self._pre else _SPACES.sub(" ", data))

    def comment(self, text: str | bytes) -> None:
        """Leave comments out."""

    def pi(self, target: str, data: str | None = None) -> None:
        """Leave processing instructions out."""

    def close(self) -> _Reader:
        self._close_section()
        return self

    def _close_section(self) -> None:
        text = self._taken()
        if text or self._heading:
            self.sections.append(Section(self._heading, text or self._heading.rpartition(" > ")[2]))
        self._heading = ""

    def _taken(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return _BREAKS.sub(lambda gap: "\n\n" if _PARAGRAPH in gap[0] else "\n", text).strip()


def _hidden(attributes: Mapping[str, str]) -> bool:
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden", "").strip().lower() == "true"
        or _INVISIBLE.search(attributes.get("style", "")) is not None
    )


def read(text: str) -> tuple[str | None, list[Section]]:
    """Return the title and the sections as plain text."""
    reader = _Reader()
    parser = etree.HTMLParser(target=cast("etree.ParserTarget", reader), no_network=True, recover=True)
    try:
        parser.feed(text)
        parser.close()
    except etree.XMLSyntaxError:  # an empty document, to libxml2
        reader.close()
    return reader.title or reader.first, [s for s in reader.sections if s.text]
