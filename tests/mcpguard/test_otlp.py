"""A server started by its command line, and a collector that speaks OTLP over HTTP as it is specified."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from identity.signing import generate_signing_key
from mcpguard.listener import StartError
from mcpguard.otlp import export
from tests.mcpguard.running import MODERN, Running, modern
from tests.mcpguard.test_reports import EVA, PARENT, world
from tests.mcpguard.workshop import NAME, PASSWORD


class _Handler(BaseHTTPRequestHandler):
    """OTLP/HTTP with binary protobuf: https://opentelemetry.io/docs/specs/otlp/#otlphttp."""

    spans: ExportTraceServiceRequest
    metrics: ExportMetricsServiceRequest
    backend_saw: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.headers["content-type"] == "application/x-protobuf"
        answer: Any
        if self.path == "/v1/traces":
            self.spans.MergeFrom(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse()
        else:
            assert self.path == "/v1/metrics"
            self.metrics.CopyFrom(
                ExportMetricsServiceRequest.FromString(body)
            )  # cumulative: the last says all
            answer = ExportMetricsServiceResponse()
        self._answer(answer.SerializeToString(), "application/x-protobuf")

    def do_GET(self) -> None:
        self.backend_saw.append(self.headers.get("traceparent", ""))
        self._answer(b"ok", "text/plain")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, type[_Handler]]]:
    handler = type(
        "Handler",
        (_Handler,),
        {"spans": ExportTraceServiceRequest(), "metrics": ExportMetricsServiceRequest(), "backend_saw": []},
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()


@contextmanager
def process(root: Path, backend: str, *options: str) -> Iterator[tuple[Running, Path]]:
    made, keys = world(root), generate_signing_key()
    (root / "public.jwks").write_bytes(keys.public_jwks())
    command = [
        sys.executable, "-m", "tests.mcpguard.otlp_server", "--policies", str(made.policies),
        "--reviewers", str(made.reviewers), "--identity-keys", str(root / "public.jwks"), *options, backend,
    ]  # fmt: skip
    log = root / "log"
    with log.open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, log.read_text()
        running = Running(made, keys, int(json.loads(line)["listen"].rpartition(":")[2]), NAME)
        with running.http:
            yield running, log
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0, log.read_text()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]


def test_traces_and_metrics_reach_a_collector(tmp_path: Path, collector: tuple[str, type[_Handler]]) -> None:
    url, received = collector
    usage = tmp_path / "usage.jsonl"
    with process(tmp_path, url, "--otlp", url, "--usage-file", str(usage), "--strict") as (server, log):
        body = modern("tools/call", {"name": "ask", "arguments": {}})
        body["params"]["_meta"]["traceparent"] = PARENT
        headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "ask"}
        assert server.post(body, EVA, **headers).json()["result"]["content"][0]["text"] == "ok"
        server.call("crash", EVA)
        server.call("echo", EVA, {"text": "password=hunter2"})
    spans = [span for r in received.spans.resource_spans for scope in r.scope_spans for span in scope.spans]
    names = {span.name: span for span in spans}
    assert names.keys() == {"tools/call ask", "tools/call crash", "tools/call echo"}
    ask = names["tools/call ask"]
    assert ask.trace_id.hex() == PARENT[3:35]
    assert ask.parent_span_id.hex() == PARENT[36:52]
    assert received.backend_saw == [f"00-{PARENT[3:35]}-{ask.span_id.hex()}-01"]  # the span is the parent now
    attributes = {a.key: a.value.string_value for a in ask.attributes}
    assert attributes["gen_ai.tool.name"] == "ask"
    resource = {a.key: a.value.string_value for a in received.spans.resource_spans[0].resource.attributes}
    assert resource["service.name"] == NAME
    metrics = {
        m.name: m for r in received.metrics.resource_metrics for s in r.scope_metrics for m in s.metrics
    }
    (decided,) = [
        p for p in metrics["mcp_authz_decisions_total"].sum.data_points
        if any(a.value.string_value == "echo" for a in p.attributes)
    ]  # fmt: skip
    assert decided.as_double == 1
    backend = metrics["mcp_backend_duration_seconds"].histogram.data_points[0]
    assert (backend.count, sum(backend.bucket_counts)) == (1, 1)
    assert len(backend.bucket_counts) == len(backend.explicit_bounds) + 1
    assert metrics["mcp_minutes_saved_total"].sum.is_monotonic
    everything = received.spans.SerializeToString() + received.metrics.SerializeToString()
    for secret in (PASSWORD, "hunter2", "eva"):
        assert secret.encode() not in everything
        if secret != "eva":
            assert secret not in log.read_text()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [
        line["trace_id"] for line in lines if line.get("tool") == "ask" and line.get("event") == "call"
    ] == [PARENT[3:35]]
    assert [json.loads(line)["kind"] for line in usage.read_text().splitlines()] == ["inventory"] + [
        "usage"
    ] * 3


def test_a_collector_that_is_gone_holds_up_nobody(tmp_path: Path) -> None:
    with process(tmp_path, "", "--otlp", "http://127.0.0.1:9") as (server, _):
        for _ in range(3):
            assert server.call("echo", EVA, {"text": "x"}).status_code == 200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--otlp", "http://collector.corp.example:4318"], "plain HTTP is for loopback only"),
        (["--usage-spool", "x"], "need --usage-ingest"),
        (["--usage-ingest", "nowhere"], "expected http"),
        (["--deadline", "0"], "greater than zero"),
        (["--calls-per-tool", "0"], "greater than zero"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str], says: str) -> None:
    made = world(tmp_path)
    (tmp_path / "public.jwks").write_bytes(generate_signing_key().public_jwks())
    command = [
        sys.executable, "-m", "tests.mcpguard.otlp_server", "--policies", str(made.policies),
        "--reviewers", str(made.reviewers), "--identity-keys", str(tmp_path / "public.jwks"), *options, "",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_sent_unless_told() -> None:
    sender = export(None, "x", ())
    sender.start()
    sender.close()
    with pytest.raises(StartError):
        export("nonsense", "x", ())


def test_help_says_all_options() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.mcpguard.otlp_server", "--help", ""],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    page = Path("docs/telemetry.md").read_text()
    for option in ("--otlp", "--usage-file", "--usage-ingest", "--usage-spool", "--log-payloads", "--redact",
                   "--deadline", "--calls-per-caller", "--calls-per-tool", "--result-bytes"):  # fmt: skip
        assert option in done.stdout
        assert f"`{option}" in page
