"""Revenue metrics: a fixed query whose only free parts are picked from lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Literal, TypeAlias

Metric: TypeAlias = Literal["revenue", "spend", "orders", "impressions", "clicks", "roas", "ctr", "cpo"]
Dimension: TypeAlias = Literal["day", "week", "month", "region", "channel", "advertiser", "campaign"]

MAX_DAYS = 731
MAX_DIMENSIONS = 3

# Ratios are of sums: an average of daily ratios would weigh a quiet day like a busy one. They are cast since
# Trino divides integers to an integer, and decimals to few digits.
METRICS: Mapping[str, str] = MappingProxyType(
    {
        "revenue": "sum(f.revenue_usd)",
        "spend": "sum(f.spend_usd)",
        "orders": "sum(f.orders)",
        "impressions": "sum(f.impressions)",
        "clicks": "sum(f.clicks)",
        "roas": "round(cast(sum(f.revenue_usd) as double) / nullif(sum(f.spend_usd), 0), 4)",
        "ctr": "round(cast(sum(f.clicks) as double) / nullif(sum(f.impressions), 0), 6)",
        "cpo": "round(cast(sum(f.spend_usd) as double) / nullif(sum(f.orders), 0), 4)",
    }
)
DIMENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "day": "f.day",
        "week": "cast(date_trunc('week', f.day) as date)",
        "month": "cast(date_trunc('month', f.day) as date)",
        "region": "c.region",
        "channel": "c.channel",
        "advertiser": "c.advertiser",
        "campaign": "c.name",
    }
)

_FACTS = """
with shown as (
  select m.day, a.campaign_id, sum(m.impressions) as impressions, sum(m.clicks) as clicks,
         sum(m.spend_usd) as spend_usd
  from daily_metrics m join ads a on a.ad_id = m.ad_id
  where m.day between date '{start}' and date '{end}'
  group by m.day, a.campaign_id
), f as (
  select s.day, s.campaign_id, s.impressions, s.clicks, s.spend_usd,
         coalesce(r.orders, 0) as orders, coalesce(r.revenue_usd, 0) as revenue_usd
  from shown s left join revenue r on r.day = s.day and r.campaign_id = s.campaign_id
)
"""


class MetricsRefused(Exception):
    """The arguments make no sense together. The message is for the model."""


def query(metric: Metric, start: date, end: date, dimensions: Sequence[Dimension]) -> str:
    """Return the SQL for one metric, in words that all engines read alike.

    Raises:
        MetricsRefused: the dates or dimensions make no sense.

    """
    if end < start:
        raise MetricsRefused("`end` is before `start`. Swap them; both days count.")
    if (end - start).days >= MAX_DAYS:
        raise MetricsRefused(f"The span is longer than {MAX_DAYS} days. Ask for a shorter one.")
    if len(dimensions) > MAX_DIMENSIONS or len(set(dimensions)) != len(dimensions):
        raise MetricsRefused(f"Give at most {MAX_DIMENSIONS} different dimensions.")
    keys = "".join(f"{DIMENSIONS[name]} as {name}, " for name in dimensions)
    positions = ", ".join(str(index + 1) for index in range(len(dimensions)))
    grouped = f"group by {positions} order by {positions}" if dimensions else ""
    facts = _FACTS.format(start=start.isoformat(), end=end.isoformat())
    return (
        f"{facts} select {keys}{METRICS[metric]} as {metric} "  # noqa: S608 - from the tables above alone
        f"from f join campaigns c on c.campaign_id = f.campaign_id {grouped}"
    )
