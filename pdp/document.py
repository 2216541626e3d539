"""YAML text to plain JSON values that know where they stand, without YAML's surprises.

What YAML 1.1, YAML 1.2 and a human reader may read differently is refused with a hint, never guessed: `no`
and `on`, octal and sexagesimal numbers, `~` and nothing at all, anchors, aliases, merge keys and tags,
duplicate keys, and characters that hide text from a reviewer. A plain date or time stays the text it is.

libyaml's events are read rather than its composed nodes: composing recurses in C, so that a hundred kilobytes
of `[` end the whole process. Here depth is bounded while reading.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

from identity.principal import JsonValue
from pdp.model import Location
from pdp.problem import Problem, quoted

Path: TypeAlias = tuple[str | int, ...]
Mark: TypeAlias = tuple[int, int]
"""Line and column, both from 1."""

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
_MAX_INT = 2**53 - 1  # RFC 8785 section 3.2.2.3: beyond it a number is not the same everywhere

_JSON_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BEGINS_NUMBER = frozenset("0123456789+-.")
_WORDS = ("y", "yes", "n", "no", "on", "off", "true", "false", "null")
_TRAPS = {form for word in _WORDS for form in (word, word.capitalize(), word.upper())}
_TRAPS = _TRAPS - {"true", "false", "null"} | {"~", "=", "<<"}
# Integers and floats of YAML 1.1 that JSON doesn't have: 010, 0x1f, 1_000, +5, .5, 5., .inf, 1:30
_TRAP_NUMBER = re.compile(
    r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|(?:[0-9][0-9_]*)?\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
# Line breaks that editors don't show but YAML 1.1 honours, controls, and what reverses the reading direction.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|\r(?!\n)"
)
_KEY = -1
"""Where a key stands while it is read: no list has this index."""


class _Loader(yaml.CSafeLoader):
    """libyaml's parser; only its events are used."""


@dataclass(slots=True)
class Document:
    """One parsed file. `value` is None where the text is no YAML at all; `problems` says so."""

    file: str
    value: JsonValue = None
    problems: list[Problem] = field(default_factory=list)
    values: dict[Path, Mark] = field(default_factory=dict)
    """Where each value starts."""
    keys: dict[Path, Mark] = field(default_factory=dict)
    """Where the key of each mapping entry starts."""

    def at(self, path: Path, *, key: bool = False) -> Location:
        """The nearest place known for a path; steps that the text doesn't have are skipped."""
        known: Path = ()
        for step in path:
            if (*known, step) in self.values:
                known = (*known, step)
        found = (self.keys.get(known) if key else None) or self.values.get(known, (1, 1))
        return Location(self.file, *found)

    def report(self, mark: Mark, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(Location(self.file, *mark), message, hint))


def parse(file: str, data: bytes) -> Document:
    """Parse one file's bytes. Never raises for any input: what is wrong is in the document's problems."""
    document = Document(file)
    text = _text(document, data)
    if text is None:
        return document
    try:
        # A str, not bytes: libyaml would otherwise detect UTF-16 by itself.
        _read(document, iter(yaml.parse(text, Loader=_Loader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        document.report(place, f"not YAML: {error.problem or error.context}")
        document.value = None
    except (yaml.YAMLError, _Unreadable) as error:
        if not isinstance(error, _Unreadable):
            document.report((1, 1), "not YAML: a character that YAML doesn't allow")
        document.value = None
    return document


class _Unreadable(Exception):
    """Reading can't go on; the problem is reported already."""


def _text(document: Document, data: bytes) -> str | None:
    if len(data) > MAX_BYTES:
        document.report((1, 1), f"the file is larger than {MAX_BYTES} bytes")
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        document.report((line, 1), "not UTF-8")
        return None
    hidden = _HIDDEN.search(text)
    if hidden is None:
        return text
    line = text.count("\n", 0, hidden.start()) + 1
    column = hidden.start() - text.rfind("\n", 0, hidden.start())
    message = f"an invisible character, U+{ord(hidden[0]):04X}: what a reviewer sees is not what is read"
    document.report((line, column), message, "remove it")
    return None


def _read(document: Document, events: Iterator[yaml.Event]) -> None:
    for event in events:
        if isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
            continue
        mark = _mark(event)
        if isinstance(event, yaml.DocumentStartEvent):
            if () in document.values:
                document.report(mark, "a second document in one file", "one file, one document")
                raise _Unreadable
            continue
        document.value = _value(document, events, event, ())
    if () not in document.values:
        document.report((1, 1), "the file says nothing")


def _mark(event: yaml.Event) -> Mark:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _value(document: Document, events: Iterator[yaml.Event], event: yaml.Event, path: Path) -> JsonValue:
    mark = _mark(event)
    document.values[path] = mark
    if isinstance(event, yaml.AliasEvent):
        document.report(mark, f"an alias, *{event.anchor}", "say it again: policy is read where it stands")
        return None
    if not isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent):
        raise _Unreadable
    if event.anchor is not None:
        document.report(mark, f"an anchor, &{event.anchor}", "policy has no anchors; remove it")
    if event.tag is not None:
        document.report(mark, f"a tag, {quoted(event.tag)}", "policy has no tags; remove it")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(document, event, mark)
    if len(path) >= MAX_DEPTH:
        document.report(mark, f"nested deeper than {MAX_DEPTH}")
        raise _Unreadable
    if isinstance(event, yaml.SequenceStartEvent):
        return _sequence(document, events, path)
    return _mapping(document, events, path)


def _sequence(document: Document, events: Iterator[yaml.Event], path: Path) -> JsonValue:
    items: list[JsonValue] = []
    for event in events:
        if isinstance(event, yaml.SequenceEndEvent):
            break
        items.append(_value(document, events, event, (*path, len(items))))
    return items


def _mapping(document: Document, events: Iterator[yaml.Event], path: Path) -> JsonValue:
    entries: dict[str, JsonValue] = {}
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        key, mark = _key(document, events, event, path), _mark(event)
        entry = (*path, key)
        if key in entries:
            first = document.keys[entry][0]
            document.report(mark, f"the key {quoted(key)} stands here twice", f"first in line {first}")
        else:
            document.keys[entry] = mark
        entries[key] = _value(document, events, next(events), entry)
    return entries


def _key(document: Document, events: Iterator[yaml.Event], event: yaml.Event, path: Path) -> str:
    mark = _mark(event)
    value = _value(document, events, event, (*path, _KEY))
    del document.values[(*path, _KEY)]
    if isinstance(value, str):
        return value
    if not isinstance(event, yaml.ScalarEvent):
        document.report(mark, "a key that is not text")
        return f"?{mark[0]}:{mark[1]}"
    if value is not None:
        document.report(mark, f"the key {event.value} is not text", f'quote it: "{event.value}"')
    return str(event.value)


def _scalar(document: Document, event: yaml.ScalarEvent, mark: Mark) -> JsonValue:
    text: str = event.value
    if not event.implicit[0] or event.style:  # quoted, or a block of text
        return text
    if text in ("true", "false"):
        return text == "true"
    if text == "null" or not text:
        # Where a key is optional, saying null would mean "any": too wide a meaning for so small a word.
        document.report(mark, "nothing stands here", "give it a value, or leave the key out")
        return None
    if text in _TRAPS:
        hint = "quote it to mean text, or write true or false"
        document.report(mark, f"{text} is text to some readers of YAML and something else to others", hint)
        return text
    return _number(document, text, mark) if text[0] in _BEGINS_NUMBER else text


def _number(document: Document, text: str, mark: Mark) -> JsonValue:
    if _JSON_INT.fullmatch(text):
        if len(text) <= 17 and abs(int(text)) <= _MAX_INT:
            return int(text)
        document.report(mark, f"{quoted(text)} is too large a number", "quote it to mean text")
        return text
    if _JSON_NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
        document.report(mark, f"{quoted(text)} is too large a number", "quote it to mean text")
    elif _TRAP_NUMBER.fullmatch(text):
        hint = "quote it to mean text, or write the number in digits"
        document.report(mark, f"{text} is text to some readers of YAML and a number to others", hint)
    return text


def shallow(marks: Mapping[Path, Mark], depth: int) -> dict[Path, Mark]:
    """Only the marks that are needed after loading; of a thousand files the rest would fill memory."""
    return {path: mark for path, mark in marks.items() if len(path) <= depth}
