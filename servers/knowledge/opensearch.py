"""OpenSearch by its REST API: an index a scope, found and ranked together.

`dfs_query_then_fetch` first gathers the statistics of exactly the indexes that are searched, so a ranking
knows nothing of the others. The words go into a `multi_match`, as text: no query language is reachable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import httpx

from mcpguard import trace_headers
from servers.knowledge.engine import TITLE_WEIGHT, Change, EngineError, Entry, Filters, Hit, Query, ranked

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_BULK = 4 * 1024 * 1024
"""Bytes of one bulk request, about."""
_SETTINGS: Json = {
    "settings": {"index": {"number_of_shards": 1}},
    "mappings": {
        "dynamic": "strict",
        "properties": {
            "title": {"type": "text", "analyzer": "english"},
            "body": {"type": "text", "analyzer": "english"},
            "path": {"type": "keyword"},
            "folder": {"type": "keyword"},
            "kind": {"type": "keyword"},
            "ordinal": {"type": "integer"},
            "updated": {"type": "date", "format": "epoch_millis"},
        },
    },
}
_DOWN = "The search engine does not answer now. Try again in a minute."


class OpenSearchEngine:
    """An `Engine` at an address."""

    name = "opensearch"

    def __init__(self, client: httpx.Client, prefix: str = "knowledge") -> None:
        """Use `client`, which has address, credentials and timeout; index names begin with `prefix`."""
        self._client = client
        self._prefix = prefix
        self._made: set[str] = set()

    def holds(self, scope: str) -> bool:
        """Whether this scope has an index.

        Raises:
            EngineError: OpenSearch doesn't say.

        """
        return self._send("HEAD", f"/{self._index(scope)}", missing_is_fine=True).status_code == 200

    def apply(self, changes: Sequence[Change]) -> None:
        """Send changes in bulk. Ids come from the passages' places, so sending twice is harmless."""
        scopes = {c.after.scope for c in changes if c.after is not None}
        for scope in sorted(scopes - self._made):
            self._make(scope)
        touched = scopes | {c.before.scope for c in changes if c.before is not None}
        for body in _chunks(line for change in changes for line in self._lines(change)):
            answer = self._send("POST", "/_bulk", content=body, kind="application/x-ndjson")
            _check_bulk(answer.json())
        names = ",".join(self._index(scope) for scope in sorted(touched))
        self._send("POST", f"/{names}/_refresh?ignore_unavailable=true")

    def search(self, query: Query) -> list[Hit]:
        """Rank over all scopes as over one index of exactly their passages."""
        # By way of _msearch because there the indexes stand in the body: an address line has 4 KiB.
        head: Json = {
            "index": [self._index(scope) for scope in query.scopes],
            "search_type": "dfs_query_then_fetch",
            "ignore_unavailable": True,
            "allow_no_indices": True,
        }
        body = _lines_of(head, _search_body(query))
        answer = self._send("POST", "/_msearch", content=body, kind="application/x-ndjson").json()
        (found,) = answer["responses"]
        if "error" in found or found.get("timed_out") or found["_shards"]["failed"]:
            raise EngineError(_DOWN)
        return ranked(
            [
                Hit(hit["fields"]["path"][0], hit["fields"]["ordinal"][0], hit["_score"])
                for hit in found["hits"]["hits"]
            ],
            query.limit,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _index(self, scope: str) -> str:
        return f"{self._prefix}-{scope}"

    def _make(self, scope: str) -> None:
        if not self.holds(scope):
            answer = self._send("PUT", f"/{self._index(scope)}", content=_dump(_SETTINGS), tolerate=400)
            if answer.status_code == 400 and "resource_already_exists_exception" not in answer.text:
                raise EngineError(f"OpenSearch made no index: {_why(answer)}")
        self._made.add(scope)

    def _lines(self, change: Change) -> Iterator[bytes]:
        before, after = change.before, change.after
        if before is not None:
            kept = len(after.passages) if after is not None and after.scope == before.scope else 0
            for passage in before.passages[kept:]:
                place: Json = {"_index": self._index(before.scope), "_id": _id(before.path, passage.ordinal)}
                yield _lines_of({"delete": place})
        if after is not None:
            for passage in after.passages:
                place = {"_index": self._index(after.scope), "_id": _id(after.path, passage.ordinal)}
                yield _lines_of({"index": place}, _source(after, passage.ordinal))

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        kind: str = "application/json",
        missing_is_fine: bool = False,
        tolerate: int = 0,
    ) -> httpx.Response:
        try:
            headers = trace_headers() | ({"content-type": kind} if content is not None else {})
            answer = self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise EngineError(_DOWN) from error
        if answer.is_success or answer.status_code == tolerate:
            return answer
        if answer.status_code == 404 and missing_is_fine:
            return answer
        raise EngineError(_DOWN) from RuntimeError(f"{method} {path.partition('?')[0]}: {_why(answer)}")


def _search_body(query: Query) -> Json:
    fields: list[Json] = [f"title^{TITLE_WEIGHT}", "body"]
    match: Json = {"multi_match": {"query": " ".join(query.words), "fields": fields, "type": "most_fields"}}
    return {
        "query": {"bool": {"must": [match], "filter": list(_filters(query.filters))}},
        "size": query.limit,
        "track_total_hits": False,
        "_source": False,
        "docvalue_fields": ["path", "ordinal"],
        "sort": ["_score", {"path": "asc"}, {"ordinal": "asc"}],
        "track_scores": True,
        "timeout": "10s",
    }


def _filters(filters: Filters) -> Iterator[Json]:
    if filters.folder is not None:
        yield {"term": {"folder": filters.folder}}
    if filters.kind is not None:
        yield {"term": {"kind": filters.kind}}
    if filters.updated_since is not None:
        yield {"range": {"updated": {"gte": int(filters.updated_since * 1000)}}}


def _source(entry: Entry, ordinal: int) -> Json:
    passage = entry.passages[ordinal]
    return {
        "title": entry.headline(passage),
        "body": passage.text,
        "path": entry.path,
        "folder": list(entry.folders),
        "kind": entry.kind,
        "ordinal": ordinal,
        "updated": int(entry.updated * 1000),
    }


def _id(path: str, ordinal: int) -> str:
    """A passage's id: the same from every replica, and short, since OpenSearch takes up to 512 bytes."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.{ordinal}"


def _dump(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _lines_of(*values: Json) -> bytes:
    return b"".join(_dump(value) + b"\n" for value in values)


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    pending = bytearray()
    for line in lines:
        if pending and len(pending) + len(line) > _BULK:
            yield bytes(pending)
            pending.clear()
        pending += line
    if pending:
        yield bytes(pending)


def _check_bulk(answer: dict[str, Json]) -> None:
    """A bulk request is answered with 200 even where single actions failed."""
    items = answer["items"]
    for item in items if isinstance(items, list) else ():
        for action, outcome in item.items() if isinstance(item, dict) else ():
            status = outcome.get("status") if isinstance(outcome, dict) else None
            if not isinstance(status, int) or (status >= 300 and not (action == "delete" and status == 404)):
                raise EngineError(f"OpenSearch did not take a passage: {_dump(outcome)[:300].decode()}")


def _why(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text[:300]}"
