"""The embedded engine: DAGs declared in YAML, run as subprocesses, remembered in SQLite."""
