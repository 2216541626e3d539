"""What a table's name means: which catalog and schema are its own, and which may be named at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

HIDDEN_SCHEMAS = frozenset({"information_schema", "pg_catalog"})
"""They tell of tables beyond those that policy means; the tools that list things are the way to ask."""


class UnknownName(Exception):
    """The name is none that may be used here. The message is for the model."""


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """One table, in lower case."""

    catalog: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.catalog}.{self.schema}.{self.name}"

    def sql(self) -> str:
        """Return the name as SQL, each part quoted."""
        return ".".join(quoted(part) for part in (self.catalog, self.schema, self.name))


@dataclass(frozen=True, slots=True)
class Namespace:
    """Which tables a caller may name."""

    catalog: str
    """Where a name without one is looked up."""
    schema: str
    catalogs: frozenset[str]
    """Those that may be named."""
    tables: frozenset[TableName] | None = None
    """All there are; None where the engine alone knows and says so when it is asked."""

    def resolve(self, name: str, schema: str | None = None, catalog: str | None = None) -> TableName:
        """Return the table that a name stands for.

        Raises:
            UnknownName: there is none, or it may not be named.

        """
        found = TableName((catalog or self.catalog).lower(), (schema or self.schema).lower(), name.lower())
        hidden = found.catalog not in self.catalogs or found.schema in HIDDEN_SCHEMAS
        # "orders$files" and its like are an engine's own tables about a table: paths, partitions, history.
        if hidden or "$" in found.name or (self.tables is not None and found not in self.tables):
            said = ".".join(part for part in (catalog, schema, name) if part)
            raise UnknownName(
                f"There is no table {said[:128]}: list_tables and describe_table say what there is."
            )
        return found

    def parse(self, text: str) -> TableName:
        """Resolve `table`, `schema.table` or `catalog.schema.table`.

        Raises:
            UnknownName: there is none, or it may not be named.

        """
        parts = text.replace('"', "").split(".")
        if len(parts) > 3 or not all(parts):
            raise UnknownName(f"{text[:128]!r} is no table's name. list_tables says what there is.")
        name, schema, catalog = [*reversed(parts), None, None][:3]
        return self.resolve(name or "", schema, catalog)

    def of(self, catalog: str | None, schema: str | None) -> tuple[str, str]:
        """Return a catalog and schema, or the default ones.

        Raises:
            UnknownName: the catalog may not be named.

        """
        found = (catalog or self.catalog).lower()
        if found not in self.catalogs:
            raise UnknownName(f"There is no catalog {found[:128]!r}. list_catalogs says what there is.")
        if schema is None and found != self.catalog:
            raise UnknownName(f"Say which schema of {found}. list_schemas says what there is.")
        return found, (schema or self.schema).lower()


def visible(schemas: Collection[str]) -> list[str]:
    """Return the schemas that may be named, in order."""
    return sorted(name for name in schemas if name.lower() not in HIDDEN_SCHEMAS)


def quoted(identifier: str) -> str:
    """Return an identifier as SQL has it."""
    return '"' + identifier.replace('"', '""') + '"'
