"""One policy file, parsed: what it says, or everything that is wrong with it."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pdp.document import Document, Mark, Path, parse, shallow
from pdp.model import Location
from pdp.names import Definitions, Reference, definitions, references
from pdp.problem import Problem, quoted, suggest
from pdp.rules import faults
from pdp.schema import PolicyFile

Kind_co = TypeVar("Kind_co", bound=PolicyFile, covariant=True)

_KEPT_DEPTH = 2
"""Deep enough for a rule, a tool, a group, an approval: what decisions name."""


@dataclass(frozen=True, slots=True)
class Source(Generic[Kind_co]):
    """One file as it stands. `model` is None where the file can't be used; then `problems` is not empty."""

    file: str
    text_digest: bytes
    first_line: str
    model: Kind_co | None
    problems: tuple[Problem, ...]
    marks: Mapping[Path, Mark]
    defines: Definitions
    """Names that other files may use, as far as the text could be read."""
    references: tuple[Reference, ...]
    """Names that must be known elsewhere."""

    def at(self, *path: str | int) -> Location:
        """Where a list item, or the key of a mapping's entry, stands; at most two steps deep."""
        return Location(self.file, *self.marks.get(path, (1, 1)))


def read(file: str, data: bytes, kind: type[Kind_co]) -> Source[Kind_co]:
    """Parse one file as `kind`. Never raises for any bytes."""
    document = parse(file, data)
    unreadable = bool(document.problems)
    model: Kind_co | None = None
    if isinstance(document.value, dict):
        try:
            model = kind.model_validate(document.value)
        except ValidationError as error:
            said = {problem.location for problem in document.problems}
            found = _translate(document, kind, error)
            document.problems += [problem for problem in found if problem.location not in said]
        else:
            document.problems += [
                Problem(document.at(fault.path, key=fault.key), fault.message, fault.hint)
                for fault in faults(model)
            ]
    elif not unreadable:
        document.report((1, 1), "expected keys and values, such as apiVersion: gatehouse/v1")
    faulty = {problem.location for problem in document.problems}
    marks = {**shallow(document.values, _KEPT_DEPTH), **shallow(document.keys, _KEPT_DEPTH)}
    return Source(
        file=file,
        text_digest=hashlib.sha256(data).digest(),
        first_line=data.split(b"\n", 1)[0].decode("utf-8", "replace"),
        model=None if document.problems else model,
        problems=tuple(sorted(set(document.problems), key=_position)),
        marks=marks,
        defines=definitions(document.value),
        references=tuple(use for use in references(document) if use.location not in faulty),
    )


def copied(source: Source[Kind_co], file: str, text_digest: bytes, first_line: str) -> Source[Kind_co]:
    """The same text in another file, below one more line: what an approved copy is of its proposal."""
    return replace(
        source,
        file=file,
        text_digest=text_digest,
        first_line=first_line,
        marks={path: (line + 1, column) for path, (line, column) in source.marks.items()},
        references=tuple(
            replace(use, location=Location(file, use.location.line + 1, use.location.column))
            for use in source.references
        ),
    )


def _position(problem: Problem) -> tuple[int, int, str]:
    return problem.location.line, problem.location.column, problem.message


def _translate(document: Document, kind: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Pydantic's errors as a person would say them, each at its place."""
    details = error.errors(include_url=False, include_input=False)
    # An item that is wrong also leaves its list too short; that is no second problem.
    deep = {detail["loc"][:-1] for detail in details}
    return [
        _problem(document, kind, detail)
        for detail in details
        if not (detail["type"] == "too_short" and detail["loc"] in deep)
    ]


def _problem(document: Document, kind: type[BaseModel], detail: ErrorDetails) -> Problem:
    path, what = detail["loc"], detail["type"]
    last = str(path[-1]) if path else ""
    if what == "extra_forbidden":
        hint = suggest(last, _known_keys(kind, path[:-1]))
        if " " in last:
            hint = "within { } a text with a comma must be quoted"
        return Problem(document.at(path, key=True), f"unknown key {quoted(last)}", hint)
    if what == "missing":
        return Problem(document.at(path), f"the key {quoted(last)} is missing")
    if last == "[key]":
        name = quoted(str(path[-2]))
        return Problem(document.at(path, key=True), f"{name}: {detail['msg']}")
    return Problem(document.at(path), *_message(detail))


_EXPECTED: Mapping[str, tuple[str, str | None]] = types.MappingProxyType(
    {
        "string_type": ("expected text", "quote it"),
        "bool_type": ("expected true or false", None),
        "float_type": ("expected a number", None),
        "dict_type": ("expected keys and values", None),
        "model_type": ("expected keys and values", None),
        "model_attributes_type": ("expected keys and values", None),
        "tuple_type": ("expected a list", "write [item, item] or one '- item' a line"),
        "too_short": ("an empty list", "name at least one, or leave the key out"),
        "greater_than_equal": ("expected a number of 0 or more", None),
    }
)


def _message(detail: ErrorDetails) -> tuple[str, str | None]:
    if detail["type"] in _EXPECTED:
        return _EXPECTED[detail["type"]]
    if detail["type"] == "literal_error":
        return f"expected {detail['ctx']['expected']}", None
    return detail["msg"], None


def _known_keys(kind: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """The keys that belong where an unknown one stands."""
    annotation: Any = kind
    for step in path:
        annotation = _step(_bare(annotation), step)
    found = _bare(annotation)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        return set()
    return {field.alias or name for name, field in found.model_fields.items()}


def _step(annotation: Any, step: int | str) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        return fields[str(step)].annotation if str(step) in fields else None
    arguments = get_args(annotation)
    return arguments[1 if get_origin(annotation) is dict else 0] if arguments else None


def _bare(annotation: Any) -> Any:
    """Without Annotated and Optional."""
    while get_origin(annotation) in (Annotated, Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    return annotation
