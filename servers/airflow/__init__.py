"""Workflows as MCP tools. Embedded they are YAML files run as subprocesses; the other engine is Airflow 3."""
