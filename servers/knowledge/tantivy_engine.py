"""tantivy, an extra for some 50,000 documents and more: an index a scope, in folders beside the catalogue.

Like FTS5's, its weight of a word goes by one index; boosts exchange it for the weight over all the scopes
that are searched together. What is taken out still counts in the average length until tantivy merges it away.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tantivy
from tantivy import FieldType, Filter, Occur, TextAnalyzerBuilder, Tokenizer

from servers.knowledge.engine import (
    TITLE_WEIGHT,
    Change,
    EngineError,
    Entry,
    Filters,
    Hit,
    Query,
    idf,
    ranked,
)

_HEAP = 64_000_000
_ANALYZER = "english"
_FIELDS: Mapping[str, float] = {"title": TITLE_WEIGHT, "body": 1.0}
_EVERY = "every"
"""A field with the same word in each passage: how often it is there is how many tantivy counts with."""


@dataclass(frozen=True, slots=True)
class _Term:
    """A stemmed word in one field of one scope."""

    field: str
    word: str


class TantivyEngine:
    """An `Engine` in a folder."""

    name = "tantivy"

    def __init__(self, root: Path) -> None:
        """Open what is there.

        Raises:
            EngineError: it can't be opened; without the folder everything is indexed anew.

        """
        self._root = root
        self._schema = _schema()
        self._analyzer = _analyzer()
        self._lock = threading.Lock()
        self._indexes: dict[str, tantivy.Index] = {}
        root.mkdir(parents=True, exist_ok=True)
        for folder in sorted(root.iterdir()):
            try:
                self._open(folder.name)
            except ValueError as error:
                raise EngineError(f"{folder}: {error}; remove {root} to index anew") from None

    def holds(self, scope: str) -> bool:
        """Whether this scope has an index."""
        return scope in self._indexes

    def apply(self, changes: Sequence[Change]) -> None:
        """Take changes, one commit a scope."""
        removed, added = _by_scope(c.before for c in changes), _by_scope(c.after for c in changes)
        for scope in sorted(removed.keys() | added.keys()):
            index = self._indexes.get(scope) or self._open(scope)
            try:
                writer = index.writer(_HEAP, 1)
                for entry in (*removed.get(scope, ()), *added.get(scope, ())):
                    writer.delete_documents_by_term("path", entry.path)
                for entry in added.get(scope, ()):
                    for document in _documents(entry):
                        writer.add_document(document)
                writer.commit()
                writer.wait_merging_threads()
                index.reload()
            except ValueError as error:
                raise EngineError(f"the index could not be written: {error}") from None
            if index.searcher().num_docs == 0:
                self._drop(scope)

    def search(self, query: Query) -> list[Hit]:
        """Rank within each scope by the statistics of all, and merge."""
        with self._lock:
            indexes = {scope: self._indexes[scope] for scope in query.scopes if scope in self._indexes}
        searchers = {scope: index.searcher() for scope, index in indexes.items()}
        terms = [_Term(field, word) for word in self._words(query.words) for field in _FIELDS]
        if not terms:
            return []
        scopes = [_Scope(self._schema, searcher, terms) for searcher in searchers.values()]
        total = sum(scope.documents for scope in scopes)
        weights = {term: idf(total, sum(scope.counts[term] for scope in scopes)) for term in terms}
        hits = [hit for scope in scopes for hit in scope.best(weights, query.filters, query.limit)]
        return ranked(hits, query.limit)

    def close(self) -> None:
        """Let go of the indexes."""
        with self._lock:
            self._indexes.clear()

    def _words(self, words: Iterable[str]) -> list[str]:
        """Stem as the index does; a word may become none, or several."""
        return list(dict.fromkeys(stem for word in words for stem in self._analyzer.analyze(word)))

    def _open(self, scope: str) -> tantivy.Index:
        folder = self._root / scope
        folder.mkdir(exist_ok=True)
        index = tantivy.Index(self._schema, str(folder))
        index.register_tokenizer(_ANALYZER, self._analyzer)
        index.config_reader("manual")
        with self._lock:
            self._indexes[scope] = index
        return index

    def _drop(self, scope: str) -> None:
        with self._lock:
            del self._indexes[scope]
        shutil.rmtree(self._root / scope)


class _Scope:
    """One scope's part in a search."""

    def __init__(self, schema: tantivy.Schema, searcher: tantivy.Searcher, terms: Sequence[_Term]) -> None:
        self.documents = searcher.num_docs
        self._schema = schema
        self._searcher = searcher
        self._counted = searcher.doc_freq(_EVERY, _EVERY)
        self._frequency = {term: searcher.doc_freq(term.field, term.word) for term in terms}
        whole = self._counted == self.documents
        self.counts = {term: self._frequency[term] if whole else self._living(term) for term in terms}

    def best(self, weights: Mapping[_Term, float], filters: Filters, limit: int) -> list[Hit]:
        should = []
        for term, weight in weights.items():
            if self._frequency[term]:
                # tantivy counts with what was taken out and is not merged away yet, so its own weight is
                # divided out by its own count.
                own = idf(self._counted, self._frequency[term])
                boost = _FIELDS[term.field] * weight / own
                should.append((Occur.Should, tantivy.Query.boost_query(self._query(term), boost)))
        if not should:
            return []
        query = tantivy.Query.boolean_query(should)
        if musts := self._musts(filters):
            query = tantivy.Query.boolean_query([(Occur.Must, query), *((Occur.Must, m) for m in musts)])
        found = self._searcher.search(query, limit, count=False).hits
        return [self._hit(score, address) for score, address in found]

    def _hit(self, score: float, address: tantivy.DocAddress) -> Hit:
        stored = self._searcher.doc(address)
        return Hit(str(stored.get_first("path")), int(stored.get_first("ordinal") or 0), score)

    def _query(self, term: _Term) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, term.field, term.word, "freq")

    def _living(self, term: _Term) -> int:
        query = tantivy.Query.term_query(self._schema, term.field, term.word, "basic")
        found: int = self._searcher.search(query, 1, count=True).count  # type: ignore[attr-defined]
        return found

    def _musts(self, filters: Filters) -> list[tantivy.Query]:
        query, schema = tantivy.Query, self._schema
        musts = []
        if filters.folder is not None:
            musts.append(query.term_query(schema, "folder", filters.folder, "basic"))
        if filters.kind is not None:
            musts.append(query.term_query(schema, "kind", filters.kind, "basic"))
        if filters.updated_since is not None:
            since = datetime.fromtimestamp(filters.updated_since, UTC)
            musts.append(query.range_query(schema, "updated", FieldType.Date, lower_bound=since))
        return [query.const_score_query(must, 0.0) for must in musts]


def _by_scope(entries: Iterable[Entry | None]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry is not None:
            found.setdefault(entry.scope, []).append(entry)
    return found


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in _FIELDS:
        builder.add_text_field(name, tokenizer_name=_ANALYZER, index_option="freq")
    builder.add_text_field("path", stored=True, tokenizer_name="raw", index_option="basic")
    for name in ("folder", "kind", _EVERY):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_unsigned_field("ordinal", stored=True)
    builder.add_date_field("updated", fast=True, indexed=True)
    return builder.build()


def _analyzer() -> tantivy.TextAnalyzer:
    builder = TextAnalyzerBuilder(Tokenizer.simple())
    for step in (Filter.remove_long(100), Filter.lowercase(), Filter.ascii_fold(), Filter.stemmer("english")):
        builder = builder.filter(step)
    return builder.build()


def _documents(entry: Entry) -> Iterable[tantivy.Document]:
    updated = datetime.fromtimestamp(entry.updated, UTC)
    for passage in entry.passages:
        document = tantivy.Document()
        document.add_text("title", entry.headline(passage))
        document.add_text("body", passage.text)
        document.add_text("path", entry.path)
        document.add_text("kind", entry.kind)
        document.add_text(_EVERY, _EVERY)
        for folder in entry.folders:
            document.add_text("folder", folder)
        document.add_unsigned("ordinal", passage.ordinal)
        document.add_date("updated", updated)
        yield document
