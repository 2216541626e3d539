"""A dag that airflow can't import; without both words it wouldn't even try."""
