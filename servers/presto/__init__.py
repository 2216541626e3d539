"""The warehouse as MCP tools. Embedded it is DuckDB; another engine would implement `engine.Engine`."""
