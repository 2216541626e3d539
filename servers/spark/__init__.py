"""Why a Spark application failed or was slow, as MCP tools: from event logs, or a Spark History Server."""
