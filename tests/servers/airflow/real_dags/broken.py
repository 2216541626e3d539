"""A dag that airflow can't import; without both words it wouldn't even try."""

import no_such_module_here  # noqa: F401
