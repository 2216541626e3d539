"""A real Spark History Server, and logs that a real Spark has just written. Run by `make test-spark`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from servers.spark.connection import connect
from servers.spark.diagnosis import diagnose
from servers.spark.folder import FolderEngine
from servers.spark.history import HistoryEngine
from tests.servers.spark.logs import FILES, SPILLER, fill
from tests.servers.spark.same import assert_same

SPARK_HOME = os.environ.get("SPARK_HOME", "")
pytestmark = [
    pytest.mark.spark,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not SPARK_HOME, reason="SPARK_HOME is not set: `make test-spark` gets a Spark and sets it"
    ),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, and there is none on PATH"),
]

STARTED = re.compile(r"started at (http://\S+?)/?\s")
JOB = """
import sys
from pyspark.sql import SparkSession, functions as F

spark = (
    SparkSession.builder.master("local[2]").appName("just-now")
    .config("spark.eventLog.enabled", "true").config("spark.eventLog.dir", "file://" + sys.argv[1])
    .config("spark.eventLog.rolling.enabled", "true").config("spark.eventLog.rolling.maxFileSize", "10m")
    .config("spark.eventLog.compress", "true").config("spark.eventLog.compression.codec", "zstd")
    .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "8")
    .config("spark.sql.adaptive.enabled", "false").getOrCreate()
)
key = F.when(F.col("id") % 10 < 9, 0).otherwise(F.col("id") % 31)
skewed = spark.range(400_000).withColumn("region", key)
skewed.groupBy("region").count().collect()

def parse(row):
    if row.id == 1337:
        raise ValueError(f"bad row id={row.id}")
    return row.id

try:
    spark.range(5000).rdd.map(parse).count()
except Exception as error:
    print(type(error).__name__)
try:
    spark.range(10).select(F.raise_error(F.lit("no such account, account_id=77"))).collect()
except Exception as error:
    print(type(error).__name__)
spark.stop()
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of the other tests, and one that this machine's Spark writes now."""
    root: Path = tmp_path_factory.mktemp("real")
    (root / "job.py").write_text(JOB)
    folder = fill(root / "logs")
    done = subprocess.run(
        [os.environ.get("SPARK_PYTHON", sys.executable), str(root / "job.py"), str(folder)],
        env=environment(),
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("\n") == 2, done.stdout
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": SPARK_HOME}


@pytest.fixture(scope="module")
def server(logs: Path) -> Iterator[HistoryEngine]:
    settings = logs.parent / "history.conf"
    settings.write_text(
        f"spark.history.fs.logDirectory file://{logs}\nspark.history.ui.port 0\n"
        "spark.history.fs.update.interval 2s\n"
    )
    output = logs.parent / "history.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [
                f"{SPARK_HOME}/bin/spark-class",
                "org.apache.spark.deploy.history.HistoryServer",
                "--properties-file",
                str(settings),
            ],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: STARTED.search(output.read_text()) is not None, "the History Server did not start")
        address = STARTED.search(output.read_text())
        assert address is not None
        engine = connect(address[1])
        wanted = len(FILES) + 2
        until(lambda: len(engine.applications("", 50).applications) == wanted, "it did not find all logs")
        yield engine
        engine.close()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline, pause = time.monotonic() + 120, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, otherwise
        pause.wait(0.2)


def test_both_engines_say_the_same_of_every_log(logs: Path, server: HistoryEngine) -> None:
    folder = FolderEngine(logs)
    assert_same(folder, server)
    written = folder.applications("just-now", 1).applications[0].key
    one, other = folder.run(written), server.run(written)
    assert one == other
    assert diagnose(one, partial(folder.tasks, one)) == diagnose(other, partial(server.tasks, other))


def test_a_log_written_now_is_read_and_diagnosed(logs: Path) -> None:
    folder = FolderEngine(logs)
    run = folder.run(folder.applications("just-now", 1).applications[0].key)
    assert (logs / f"eventlog_v2_{run.application.id}").is_dir()
    assert not run.incomplete
    found = diagnose(run, partial(folder.tasks, run))
    assert found.verdict == "failed"
    rows = {finding.error.row for finding in found.findings if finding.error is not None}
    assert rows == {"id=1337", "account_id=77"}
    kinds = {finding.kind for finding in found.findings}
    assert {"python_exception", "exception"} <= kinds


def test_the_written_log_that_spills_is_one_that_spark_reads(server: HistoryEngine) -> None:
    run = server.run(SPILLER)
    assert run.stages[0].totals.disk_spilled == 1_200_000_000
