"""What there is to query: catalogs, schemas, tables, columns."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from mcpguard import authorize_tool
from servers.presto.asking import asker
from servers.presto.blocking import ask
from servers.presto.engine import Asker, Engine, Table
from servers.presto.results import CatalogList, SchemaList, TableDescription, TableList, result

MOST = 200
"""Names in one list."""
_NARROWER = "Only the first {} of {} are here. Give `like`, a part of the name."

READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)

CatalogName = Annotated[
    str | None, Field(description="A catalog; the default one if left out", max_length=128)
]
SchemaName = Annotated[str | None, Field(description="A schema; the default one if left out", max_length=128)]
Like = Annotated[str, Field(description="Only names that contain this", max_length=128)]


def add_catalogue(mcp: MCPServer[dict[str, Any]], engine: Engine) -> None:
    """Add the tools."""
    _add_places(mcp, engine)
    _add_tables(mcp, engine)


def _add_places(mcp: MCPServer[dict[str, Any]], engine: Engine) -> None:
    @mcp.tool(title="List catalogs", annotations=READ_ONLY)
    @authorize_tool()
    async def list_catalogs() -> Annotated[CallToolResult, CatalogList]:
        """List the warehouse's catalogs and say which one is the default."""
        who = asker()
        found = await ask(engine, lambda: engine.catalogs(who))
        return result(
            {"dialect": engine.dialect, "default": engine.namespace.catalog, "catalogs": list(found)}
        )

    @mcp.tool(title="List schemas", annotations=READ_ONLY)
    @authorize_tool()
    async def list_schemas(
        catalog: CatalogName = None, like: Like = ""
    ) -> Annotated[CallToolResult, SchemaList]:
        """List a catalog's schemas and say which one is the default."""
        who, space = asker(), engine.namespace

        def find() -> tuple[str, list[str]]:
            where = space.of(catalog, space.schema)[0]
            return where, [name for name in engine.schemas(who, where) if like.lower() in name.lower()]

        where, found = await ask(engine, find)
        return result(
            {
                "dialect": engine.dialect,
                "catalog": where,
                "default": space.schema,
                "schemas": found[:MOST],
                "truncated": len(found) > MOST,
                "more": _NARROWER.format(MOST, len(found)) if len(found) > MOST else "",
            }
        )


def _add_tables(mcp: MCPServer[dict[str, Any]], engine: Engine) -> None:
    @mcp.tool(title="List tables", annotations=READ_ONLY)
    @authorize_tool()
    async def list_tables(
        catalog: CatalogName = None, schema: SchemaName = None, like: Like = ""
    ) -> Annotated[CallToolResult, TableList]:
        """List a schema's tables with what each holds and about how many rows it has, where that is known."""
        who = asker()

        def find() -> tuple[str, str, list[Table]]:
            where = engine.namespace.of(catalog, schema)
            found = engine.tables(who, *where)
            return (*where, [table for table in found if like.lower() in table.name.name])

        where, within, found = await ask(engine, find)
        return result(
            {
                "dialect": engine.dialect,
                "catalog": where,
                "schema": within,
                "tables": [
                    {"name": table.name.name, "rows": table.rows, "description": table.description}
                    for table in found[:MOST]
                ],
                "truncated": len(found) > MOST,
                "more": _NARROWER.format(MOST, len(found)) if len(found) > MOST else "",
            }
        )

    @mcp.tool(title="Describe a table", annotations=READ_ONLY)
    @authorize_tool()
    async def describe_table(
        table: Annotated[
            str, Field(description="table, schema.table or catalog.schema.table", max_length=400)
        ],
    ) -> Annotated[CallToolResult, TableDescription]:
        """Describe one table: its columns with their types and meaning."""
        who = asker()
        found = await ask(engine, lambda: _described(engine, who, table))
        columns = [{"name": c.name, "type": c.type, "description": c.description} for c in found.columns]
        return result(
            {
                "dialect": engine.dialect,
                "name": str(found.name),
                "description": found.description,
                "rows": found.rows,
                "columns": columns,
            }
        )


def _described(engine: Engine, who: Asker, table: str) -> Table:
    return engine.table(who, engine.namespace.parse(table))
