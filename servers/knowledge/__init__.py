"""A folder of documents as MCP tools. Embedded it is SQLite's FTS5; others implement `engine.Engine`."""
