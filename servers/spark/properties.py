"""Spark's configuration: what of it may be shown, and what it says where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping

from servers.spark.fields import Json

_SECRET = (
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "access.key",
    "accesskey",
    "apikey",
    "api.key",
)


def public_properties(properties: Mapping[str, Json]) -> dict[str, str]:
    """Return those properties that may be shown. Spark redacts secrets by name, old versions fewer."""
    return {
        name: value
        for name, value in properties.items()
        if isinstance(value, str) and not any(word in name.lower() for word in _SECRET)
    }


def adaptive(properties: Mapping[str, str], spark_version: str) -> bool:
    """Whether adaptive query execution was on: by default it is since Spark 3.2."""
    said = properties.get("spark.sql.adaptive.enabled")
    if said is not None:
        return said.lower() == "true"
    major, _, rest = spark_version.partition(".")
    minor = rest.partition(".")[0]
    known = major.isdecimal() and minor.isdecimal()
    return not known or (int(major), int(minor)) >= (3, 2)
