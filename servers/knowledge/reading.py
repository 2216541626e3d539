"""From a file's bytes to a document: its characters, its front matter, its sections."""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import PurePosixPath

from servers.knowledge import html, markdown
from servers.knowledge.acl import AclRefused, level_of
from servers.knowledge.engine import Kind, Passage
from servers.knowledge.split import Section, passages
from servers.knowledge.yamltext import LONGEST, YamlRefused, mapping

KINDS: dict[str, Kind] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".txt": "text",
    ".text": "text",
}
_LONGEST_TITLE = 200
_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([A-Za-z0-9_-]{1,40})""", re.IGNORECASE)
# Not every codec of Python's: a page that says `utf-7` would be another text than it looks.
_CHARSETS = re.compile(
    r"utf-?8|(windows-?|cp)125[0-8]|iso-?8859-?\d\d?|latin-?1|koi8-[ru]|gbk?|gb2312|gb18030|big5|shift_jis|"
    r"euc-(jp|kr)"
)
_FENCE = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_CLAIMS_GROUPS = re.compile(r"^\s*groups\s*:", re.MULTILINE | re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class ReadingRefused(Exception):
    """The file is not to be indexed; the message says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one file says."""

    title: str
    text: str
    kind: Kind
    updated: float | None
    """From the front matter; None where the file's own time counts."""
    level: frozenset[str] | None
    """The groups of its front matter, if it names any."""
    passages: tuple[Passage, ...]


def kind_of(path: str) -> Kind | None:
    """Return which kind of document a file is by its name; None for one that isn't read."""
    return KINDS.get(PurePosixPath(path).suffix.lower())


def read(path: str, kind: Kind, content: bytes) -> Page:
    """Read a document.

    Raises:
        ReadingRefused: it is binary, or its front matter can't be trusted to say who may see it.

    """
    values, text = _front_matter(_characters(content, kind))
    try:
        level = level_of(values)
    except AclRefused as error:
        raise ReadingRefused(str(error)) from None
    title, sections = _sections(kind, text)
    if kind == "html":
        text = "\n\n".join(_shown(section) for section in sections)
    given = values.get("title")
    title = given if isinstance(given, str) and given.strip() else title or _title_of(path)
    return Page(
        title=" ".join(title.split())[:_LONGEST_TITLE],
        text=text.strip("\n"),
        kind=kind,
        updated=_updated(values.get("updated")),
        level=level,
        passages=passages(sections),
    )


def _characters(content: bytes, kind: Kind) -> str:
    """Decode: by byte order mark, by what HTML says, as UTF-8, and last as what Windows writes."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _clean(content[len(mark) :].decode(encoding, "replace"))
    if b"\0" in content:
        raise ReadingRefused("it is binary, or text in an encoding without a byte order mark")
    said = _CHARSET.search(content[:1024]) if kind == "html" else None
    if said is not None and _CHARSETS.fullmatch(name := said[1].decode("ascii").lower()):
        return _clean(content.decode(name, "replace"))
    try:
        return _clean(content.decode("utf-8"))
    except UnicodeDecodeError:
        return _clean(content.decode("cp1252", "replace"))


def _clean(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", _CONTROLS.sub("", text))


def _front_matter(text: str) -> tuple[dict[str, object], str]:
    """Split front matter off.

    What looks like front matter and names groups must be readable: a slip must not open a document.
    """
    if not text.startswith("---"):
        return {}, text
    found = _FENCE.match(text)
    if found is None:
        if _CLAIMS_GROUPS.search(text[:LONGEST]):
            raise ReadingRefused("its front matter has no end (a line `---`), and names groups")
        return {}, text
    try:
        values = mapping(found[1])
    except YamlRefused as error:
        raise ReadingRefused(f"its front matter can't be read: {error}") from None
    if values is not None:
        return values, text[found.end() :]
    if _CLAIMS_GROUPS.search(found[1]):
        raise ReadingRefused("its front matter is no mapping, and names groups")
    return {}, text  # prose between two rules, or nothing


def _sections(kind: Kind, text: str) -> tuple[str | None, list[Section]]:
    if kind == "markdown":
        return markdown.read(text)
    if kind == "html":
        return html.read(text)
    first = text.lstrip().partition("\n")[0].strip()
    return (first if len(first) <= 80 else None), [Section("", text)]


def _shown(section: Section) -> str:
    name = section.heading.rpartition(" > ")[2]
    return f"{name}\n{section.text}" if name and name != section.text else section.text


def _title_of(path: str) -> str:
    stem = PurePosixPath(path).stem
    return re.sub(r"[-_]+", " ", stem).strip() or stem


def _updated(value: object) -> float | None:
    """A date or time of the front matter, in UTC where it says no zone."""
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return None
