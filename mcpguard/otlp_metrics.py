"""The metrics that Prometheus would scrape, as OTLP has them: cumulative, under the same names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtlpMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

_SCOPE = InstrumentationScope("mcpguard")
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class MetricSender:
    """Sends all metrics of some registries to a collector."""

    def __init__(self, endpoint: str, resource: Resource, registries: Sequence[CollectorRegistry]) -> None:
        self._exporter = OTLPMetricExporter(endpoint, timeout=3)
        self._resource = resource
        self._registries = registries
        self._began = time.time_ns()

    def send(self) -> None:
        """Send what the metrics say now; the exporter logs where it can't."""
        now = time.time_ns()
        families = (family for registry in self._registries for family in registry.collect())
        metrics = [made for family in families if (made := converted(family, self._began, now)) is not None]
        scope = ScopeMetrics(_SCOPE, metrics, "")
        self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], "")]))


def converted(family: Metric, began: int, now: int) -> OtlpMetric | None:
    """Convert one family of samples; None where it has none, or is of a kind that nothing here has."""
    points: Sum | Gauge | Histogram
    if family.type == "counter":
        samples = [sample for sample in family.samples if sample.name.endswith("_total")]
        points = Sum([_number(sample, began, now) for sample in samples], _CUMULATIVE, is_monotonic=True)
    elif family.type == "gauge":
        points = Gauge([_number(sample, began, now) for sample in family.samples])
    elif family.type == "histogram":
        points = Histogram(_histograms(family.samples, began, now), _CUMULATIVE)
    else:
        return None
    name = f"{family.name}_total" if family.type == "counter" else family.name
    unit = "s" if "seconds" in family.name else "By" if "bytes" in family.name else ""
    return OtlpMetric(name, family.documentation, unit, points) if points.data_points else None


def _number(sample: Sample, began: int, now: int) -> NumberDataPoint:
    return NumberDataPoint(dict(sample.labels), began, now, sample.value)


def _histograms(samples: Iterable[Sample], began: int, now: int) -> list[HistogramDataPoint]:
    """Gather each histogram's samples; Prometheus counts its buckets up, OTLP each by itself."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    return [
        _histogram(dict(labels), sorted(counted), sums.get(labels, 0.0), began, now)
        for labels, counted in buckets.items()
    ]


def _histogram(
    labels: dict[str, str], counted: list[tuple[float, float]], total: float, began: int, now: int
) -> HistogramDataPoint:
    upto = [int(count) for _, count in counted]
    each = [count - before for count, before in zip(upto, [0, *upto], strict=False)]
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=began,
        time_unix_nano=now,
        count=upto[-1],
        sum=total,
        bucket_counts=each,
        explicit_bounds=[bound for bound, _ in counted[:-1]],
        min=0.0,
        max=0.0,
    )
