"""OpenSearch as far as it is used here, over real HTTP: its requests, its answers, its errors, its BM25.

It is strict where the real one is: newline-delimited bodies end in a newline, mappings admit no other field,
what is written can't be found before a refresh, and unknown keys of a request are refused.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

NDJSON = "application/x-ndjson"
CREDENTIALS = "gatehouse:s3cret"
_KEYS = "query size track_total_hits _source docvalue_fields sort track_scores timeout"
BODY = set(_KEYS.split())


class Refusal(Exception):
    def __init__(self, status: int, kind: str, reason: str = "") -> None:
        self.status = status
        self.error = {"type": kind, "reason": reason or kind}


@dataclass
class Index:
    properties: dict[str, dict[str, Any]]
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)


class FakeOpenSearch:
    def __init__(self) -> None:
        self.indexes: dict[str, Index] = {}
        self.requests: list[tuple[str, str, bytes]] = []
        self.down = False
        self.failed_shards = 0
        self.refuse_passages = False
        self.url = ""

    def handle(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests.append((method, target, body))
        expected = "Basic " + base64.b64encode(CREDENTIALS.encode()).decode()
        if headers.get("authorization") != expected:
            return 401, {"error": "Unauthorized"}
        if self.down:
            return 503, {"error": {"type": "cluster_block_exception"}, "status": 503}
        parts = urlsplit(target)
        path, query = unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}
        try:
            if path in ("/_bulk", "/_msearch") and method == "POST":
                if headers.get("content-type") != NDJSON:
                    raise Refusal(406, "media_type_header_exception")
                if not body.endswith(b"\n"):
                    raise Refusal(400, "illegal_argument_exception", "must end in a newline")
                lines = [json.loads(line) for line in body.splitlines()]
                return 200, self._bulk(lines) if path == "/_bulk" else self._msearch(lines)
            if path.endswith("/_refresh") and method == "POST":
                return 200, self._refresh(path[1 : -len("/_refresh")].split(","), query)
            if re.fullmatch(r"/[a-z0-9-]+", path) and method in ("HEAD", "PUT"):
                return self._index(method, path[1:], body)
            raise Refusal(405, "method_not_allowed")
        except Refusal as refusal:
            return refusal.status, {"error": {"root_cause": [refusal.error], **refusal.error}}

    def _index(self, method: str, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if method == "HEAD":
            return (200 if name in self.indexes else 404), {}
        if name in self.indexes:
            raise Refusal(400, "resource_already_exists_exception", f"index [{name}] already exists")
        described = json.loads(body)
        assert described.keys() <= {"settings", "mappings", "aliases"}
        assert described["mappings"]["dynamic"] == "strict"
        self.indexes[name] = Index(described["mappings"]["properties"])
        return 200, {"acknowledged": True, "shards_acknowledged": True, "index": name}

    def _refresh(self, names: list[str], query: dict[str, str]) -> dict[str, Any]:
        for name in names:
            if name not in self.indexes:
                if query.get("ignore_unavailable") != "true":
                    raise Refusal(404, "index_not_found_exception")
                continue
            self.indexes[name].shown = dict(self.indexes[name].written)
        return {"_shards": {"total": len(names), "successful": len(names), "failed": 0}}

    def _bulk(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        items: list[dict[str, Any]] = []
        rest = iter(lines)
        for head in rest:
            ((action, place),) = head.items()
            assert action in ("index", "delete")
            source = next(rest) if action == "index" else None
            items.append({action: {**place, **self._write(place, source)}})
        return {
            "took": 1,
            "errors": any(next(iter(i.values()))["status"] >= 300 for i in items),
            "items": items,
        }

    def _write(self, place: dict[str, Any], source: dict[str, Any] | None) -> dict[str, Any]:
        assert len(place["_id"].encode()) <= 512
        index = self.indexes.get(place["_index"])
        if index is None:
            return {"status": 404, "error": {"type": "index_not_found_exception"}}
        if self.refuse_passages:
            return {"status": 429, "error": {"type": "rejected_execution_exception"}}
        if source is None:
            return {"status": 200 if index.written.pop(place["_id"], None) else 404}
        if source.keys() - index.properties.keys():
            return {"status": 400, "error": {"type": "strict_dynamic_mapping_exception"}}
        created = place["_id"] not in index.written
        index.written[place["_id"]] = source
        return {"status": 201 if created else 200}

    def _msearch(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        pairs = [lines[i : i + 2] for i in range(0, len(lines), 2)]
        return {"took": 1, "responses": [self._search(*pair) for pair in pairs]}

    def _search(self, head: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        known = {"index", "search_type", "ignore_unavailable", "allow_no_indices"}
        if head.keys() - known or not head["ignore_unavailable"]:
            raise Refusal(400, "illegal_argument_exception")
        assert body.keys() == BODY
        assert body["sort"] == ["_score", {"path": "asc"}, {"ordinal": "asc"}]
        indexes = [self.indexes[name] for name in head["index"] if name in self.indexes]
        together = head["search_type"] == "dfs_query_then_fetch"
        groups = [indexes] if together else [[index] for index in indexes]
        bool_query = body["query"]["bool"]
        ((kind, match),) = bool_query["must"][0].items()
        assert kind == "multi_match"
        assert match["type"] == "most_fields"
        hits = [hit for group in groups for hit in _ranked(group, match)]
        tests = bool_query["filter"]
        hits = [hit for hit in hits if all(_passes(hit[1], test) for test in tests)]
        hits.sort(key=lambda hit: (-hit[0], hit[1]["path"], hit[1]["ordinal"]))
        return {
            "took": 1,
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": self.failed_shards},
            "hits": {
                "max_score": hits[0][0] if hits else None,
                "hits": [
                    {"_score": score, "fields": {name: [source[name]] for name in body["docvalue_fields"]}}
                    for score, source in hits[: body["size"]]
                ],
            },
            "status": 200,
        }


def _words(text: str) -> list[str]:
    return [word.removesuffix("s") for word in re.findall(r"[^\W_]+", text.casefold())]


def _ranked(indexes: list[Index], match: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
    sources = [source for index in indexes for source in index.shown.values()]
    scores: Counter[int] = Counter()
    for name in match["fields"]:
        field_name, _, boost = name.partition("^")
        texts = [_words(source[field_name]) for source in sources]
        average = sum(map(len, texts)) / max(1, len(texts))
        for word in _words(match["query"]):
            containing = sum(word in text for text in texts)
            weight = math.log(1 + (len(texts) - containing + 0.5) / (containing + 0.5))
            for number, text in enumerate(texts):
                if (often := text.count(word)) > 0:
                    norm = often + 1.2 * (0.25 + 0.75 * len(text) / average)
                    scores[number] += float(boost or 1) * weight * often / norm  # type: ignore[assignment]
    for number, score in scores.items():
        yield score, sources[number]


def _passes(source: dict[str, Any], test: dict[str, Any]) -> bool:
    ((kind, on),) = test.items()
    ((name, value),) = on.items()
    if kind == "term":
        held = source[name]
        return value in held if isinstance(held, list) else bool(held == value)
    assert kind == "range"
    return bool(source[name] >= value["gte"])


@contextlib.contextmanager
def running() -> Iterator[FakeOpenSearch]:
    fake = FakeOpenSearch()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, answer = fake.handle(self.command, self.path, self.headers, body)
            content = b"" if self.command == "HEAD" else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json; charset=UTF-8")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
