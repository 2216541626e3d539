"""What the tools give back, for the model and its program to read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from servers.knowledge.catalogue import Citation, Document

PAGE = 20_000
"""Characters of a document in one result, so that it is within the guard's limit in any script."""
SNIPPET = 300

_Url = Annotated[str, Field(description="Where a person reads it; for citations")]
_Updated = Annotated[str, Field(description="ISO 8601, UTC")]


class SearchResult(TypedDict):
    """One document."""

    id: str
    title: str
    url: _Url


class SearchResults(TypedDict):
    """Documents, the best first."""

    results: list[SearchResult]


class Metadata(TypedDict):
    """What else is known of a document."""

    kind: str
    updated: _Updated
    characters: Annotated[int, Field(description="Of the whole document")]
    offset: Annotated[int, Field(description="Where `text` starts")]
    truncated: bool
    more: Annotated[str, Field(description="How to get the rest; empty where this is all")]


class FetchedDocument(TypedDict):
    """A document, or a part of a long one."""

    id: str
    title: str
    text: str
    url: _Url
    metadata: Metadata


class DescribedDocument(TypedDict):
    """One document with what it was found for."""

    id: str
    title: str
    url: _Url
    kind: str
    updated: _Updated
    heading: Annotated[str, Field(description="Of its best passage, outermost first")]
    snippet: Annotated[str, Field(description="How its best passage begins")]


class DocumentList(TypedDict):
    """Documents, the best first."""

    documents: list[DescribedDocument]
    truncated: bool
    more: Annotated[str, Field(description="How to see others; empty where these are all")]


class CitedPassage(TypedDict):
    """One passage to answer from."""

    citation: Annotated[int, Field(description="Cite it as [citation]")]
    id: Annotated[str, Field(description="Of its document; fetch it for the context")]
    title: str
    heading: str
    url: _Url
    updated: _Updated
    text: str


class Passages(TypedDict):
    """Passages, the best first. Without any, the documents that this caller may see don't answer."""

    passages: list[CitedPassage]
    truncated: bool
    more: Annotated[str, Field(description="How to see others; empty where these are all")]


def result(found: Citation, url: str) -> SearchResult:
    """One line of `search`."""
    return {"id": found.path, "title": found.title, "url": url}


def fetched(document: Document, url: str, offset: int) -> FetchedDocument:
    """A document from `offset`, as much as fits."""
    end = min(offset + PAGE, len(document.text))
    truncated = end < len(document.text)
    return {
        "id": document.path,
        "title": document.title,
        "text": document.text[offset:end],
        "url": url,
        "metadata": {
            "kind": document.kind,
            "updated": _time(document.updated),
            "characters": len(document.text),
            "offset": offset,
            "truncated": truncated,
            "more": f"Fetch it again with offset {end} for the rest." if truncated else "",
        },
    }


def described(found: Citation, url: str) -> DescribedDocument:
    """One document of `search_docs`."""
    text = " ".join(found.text.split())
    return {
        "id": found.path,
        "title": found.title,
        "url": url,
        "kind": found.kind,
        "updated": _time(found.updated),
        "heading": found.heading,
        "snippet": text if len(text) <= SNIPPET else text[: SNIPPET - 1] + "…",
    }


def cited(number: int, found: Citation, url: str) -> CitedPassage:
    """One passage of `ask`."""
    return {
        "citation": number,
        "id": found.path,
        "title": found.title,
        "heading": found.heading,
        "url": url,
        "updated": _time(found.updated),
        "text": found.text,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
