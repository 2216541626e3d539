"""The engine that is Airflow 3 itself, by its REST API v2."""
