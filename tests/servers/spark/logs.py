"""Event logs for tests: the real ones, and one written here that spills, in the events that Spark writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zstandard

VECTORS = Path(__file__).parents[2] / "vectors" / "spark-eventlogs"
SUCCESS = "local-1795383786963"
UDF = "local-1795383804511"
SKEW = "local-1795383826205"
OOM = "app-20261122214413-0000"
FILES = {SUCCESS: "success", UDF: "udf_failure", SKEW: "skew", OOM: "executor_oom"}

SPILLER = "local-1795390000000"
START = 1795390000000
NO_STORAGE = {
    "Use Disk": False,
    "Use Memory": False,
    "Use Off Heap": False,
    "Deserialized": False,
    "Replication": 1,
}


def text_of(app: str) -> bytes:
    """Return a real log's lines."""
    compressed = (VECTORS / f"{FILES[app]}.zstd").read_bytes()
    return zstandard.ZstdDecompressor().decompressobj().decompress(compressed)


def lines_of(app: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text_of(app).splitlines()]


def written(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)


def stage_info(**more: Any) -> dict[str, Any]:
    rdd = {
        "RDD ID": 1,
        "Name": "MapPartitionsRDD",
        "Callsite": "save at job.py:12",
        "Parent IDs": [],
        "Storage Level": NO_STORAGE,
        "Barrier": False,
        "DeterministicLevel": "DETERMINATE",
        "Number of Partitions": 4,
        "Number of Cached Partitions": 0,
        "Memory Size": 0,
        "Disk Size": 0,
    }
    return {
        "Stage ID": 0,
        "Stage Attempt ID": 0,
        "Stage Name": "save at job.py:12",
        "Number of Tasks": 4,
        "RDD Info": [rdd],
        "Parent IDs": [],
        "Details": "",
        "Submission Time": START + 2000,
        "Accumulables": [],
        "Resource Profile Id": 0,
        "Shuffle Push Enabled": False,
        "Shuffle Push Mergers Count": 0,
        **more,
    }


def task_info(index: int, finish: int = 0) -> dict[str, Any]:
    return {
        "Task ID": index,
        "Index": index,
        "Attempt": 0,
        "Partition ID": index,
        "Launch Time": START + 2100,
        "Executor ID": "driver",
        "Host": "localhost",
        "Locality": "PROCESS_LOCAL",
        "Speculative": False,
        "Getting Result Time": 0,
        "Finish Time": finish,
        "Failed": False,
        "Killed": False,
        "Accumulables": [],
    }


def task_metrics(run_time: int, gc: int, memory_spilled: int, disk_spilled: int, read: int) -> dict[str, Any]:
    return {
        "Executor Deserialize Time": 5,
        "Executor Deserialize CPU Time": 4_000_000,
        "Executor Run Time": run_time,
        "Executor CPU Time": run_time * 900_000,
        "Peak Execution Memory": 400_000_000,
        "Result Size": 2000,
        "JVM GC Time": gc,
        "Result Serialization Time": 0,
        "Memory Bytes Spilled": memory_spilled,
        "Disk Bytes Spilled": disk_spilled,
        "Shuffle Read Metrics": {
            "Remote Blocks Fetched": 0,
            "Local Blocks Fetched": 4,
            "Fetch Wait Time": 0,
            "Remote Bytes Read": 0,
            "Remote Bytes Read To Disk": 0,
            "Local Bytes Read": read,
            "Total Records Read": 1_000_000,
            "Remote Requests Duration": 0,
        },
        "Shuffle Write Metrics": {
            "Shuffle Bytes Written": 0,
            "Shuffle Write Time": 0,
            "Shuffle Records Written": 0,
        },
        "Input Metrics": {"Bytes Read": 0, "Records Read": 0},
        "Output Metrics": {"Bytes Written": 50_000_000, "Records Written": 1_000_000},
        "Updated Blocks": [],
    }


def spilling(app: str = SPILLER, disk_spilled: int = 300_000_000) -> list[dict[str, Any]]:
    """Four even tasks that each spill a gigabyte of memory, with a third of their time spent on garbage."""
    properties = {
        "spark.app.id": app,
        "spark.app.name": "spiller",
        "spark.executor.memory": "2g",
        "spark.master": "local[4]",
        "spark.sql.shuffle.partitions": "4",
        "spark.hadoop.fs.s3a.secret.key": "must-never-be-seen",
    }
    environment = {
        "JVM Information": {"Java Version": "17"},
        "Spark Properties": properties,
        "Hadoop Properties": {},
        "System Properties": {},
        "Metrics Properties": {},
        "Classpath Entries": {},
    }
    log_start = {"Event": "SparkListenerLogStart", "Spark Version": "4.3.0"}
    started = {
        "Event": "SparkListenerApplicationStart",
        "App Name": "spiller",
        "App ID": app,
        "Timestamp": START,
        "User": "ada",
    }
    submitted = {"Event": "SparkListenerStageSubmitted", "Stage Info": stage_info(), "Properties": {}}
    job = {
        "Event": "SparkListenerJobStart",
        "Job ID": 0,
        "Submission Time": START + 1900,
        "Stage Infos": [stage_info()],
        "Stage IDs": [0],
        "Properties": {},
    }
    tasks: list[dict[str, Any]] = []
    for index in range(4):
        where = {"Stage ID": 0, "Stage Attempt ID": 0}
        tasks.append({"Event": "SparkListenerTaskStart", **where, "Task Info": task_info(index)})
    for index in range(4):
        run_time = 20_000 + 100 * index
        tasks.append(
            {
                "Event": "SparkListenerTaskEnd",
                **where,
                "Task Type": "ResultTask",
                "Task End Reason": {"Reason": "Success"},
                "Task Info": task_info(index, START + 2100 + run_time),
                "Task Executor Metrics": {},
                "Task Metrics": task_metrics(run_time, 7_000, 1_000_000_000, disk_spilled, 250_000_000),
            }
        )
    completed = stage_info(**{"Completion Time": START + 23_000})
    executor = {
        "Event": "SparkListenerExecutorAdded",
        "Timestamp": START + 500,
        "Executor ID": "driver",
        "Executor Info": {"Host": "localhost", "Total Cores": 4, "Log Urls": {}, "Attributes": {}},
    }
    return [
        log_start,
        {"Event": "SparkListenerEnvironmentUpdate", **environment},
        started,
        executor,
        job,
        submitted,
        *tasks,
        {"Event": "SparkListenerStageCompleted", "Stage Info": completed},
        {
            "Event": "SparkListenerJobEnd",
            "Job ID": 0,
            "Completion Time": START + 23_100,
            "Job Result": {"Result": "JobSucceeded"},
        },
        {"Event": "SparkListenerApplicationEnd", "Timestamp": START + 24_000},
    ]


def fill(folder: Path) -> Path:
    """Put the four real logs and the one that spills into a folder, named as Spark names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for app, name in FILES.items():
        (folder / f"{app}.zstd").write_bytes((VECTORS / f"{name}.zstd").read_bytes())
    (folder / f"{SPILLER}.zstd").write_bytes(zstandard.ZstdCompressor().compress(written(spilling())))
    return folder
