"""Record a real History Server's answers for the fake: `python -m tests.servers.spark.record URL`."""

from __future__ import annotations

import gzip
import json
import sys
from typing import Any

import httpx

from tests.servers.spark.logs import FILES, SPILLER, VECTORS

RECORDED = VECTORS.parent / "spark-history" / "recorded.json.gz"


def record(url: str) -> dict[str, Any]:
    """Return every answer that the engine may need, by path."""
    with httpx.Client(base_url=f"{url}/api/v1", trust_env=False, timeout=60) as client:

        def get(path: str, **query: str) -> Any:
            return client.get(path, params=query).raise_for_status().json()

        answers: dict[str, Any] = {"/applications": get("/applications")}
        for app in (*FILES, SPILLER):
            base = f"/applications/{app}"
            for path in ("", "/jobs", "/allexecutors", "/environment"):
                answers[base + path] = get(base + path)
            answers[f"{base}/sql"] = get(f"{base}/sql", details="false", planDescription="true")
            stages = get(f"{base}/stages", withSummaries="true", quantiles="0.5,1.0")
            answers[f"{base}/stages"] = stages
            for stage in stages:
                path = f"{base}/stages/{stage['stageId']}/{stage['attemptId']}/taskList"
                answers[path] = get(path, length="1000")
        return answers


if __name__ == "__main__":
    RECORDED.parent.mkdir(exist_ok=True)
    text = json.dumps(record(sys.argv[1]), separators=(",", ":"), sort_keys=True).encode()
    RECORDED.write_bytes(gzip.compress(text, mtime=0))
    print(len(text), RECORDED.stat().st_size)
