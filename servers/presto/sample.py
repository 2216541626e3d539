"""A sample warehouse of an imaginary ads business: the same rows on every machine, every time.

Its numbers come from integer arithmetic over row numbers, since DuckDB's own `random` and `hash` may change
with its version.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

CAMPAIGNS = 60
ADS_EACH = 4
DAYS = 180
FIRST_DAY = "2026-01-01"

# A number in [0, 1) from an integer: multiplicative hashing, as Knuth has it.
_NOISE = "create temp macro noise(n) as ((n + 1) * 2654435761 % 4294967296) / 4294967296.0"

_CAMPAIGNS = """
create table campaigns as
select (1000 + i)::integer as campaign_id,
       ['Spring', 'Summer', 'Back to School', 'Holiday', 'Always On'][1 + i % 5]
         || ' ' || (1 + i // 5) as name,
       ['Acme', 'Globex', 'Initech', 'Umbrella', 'Hooli', 'Stark'][1 + i % 6] as advertiser,
       ['search', 'social', 'video', 'display'][1 + i % 4] as channel,
       ['EMEA', 'AMER', 'APAC'][1 + i % 3] as region,
       (200 + 50 * (i % 9))::decimal(10, 2) as daily_budget_usd
from range($campaigns) t(i)
"""
_ADS = """
create table ads as
select (10000 + i)::integer as ad_id,
       (1000 + i // $ads_each)::integer as campaign_id,
       ['text', 'image', 'carousel', 'video'][1 + i % 4] as format,
       ['Try it free', 'Save 20%', 'New arrivals', 'Limited offer'][1 + (i // 3) % 4] as headline
from range($campaigns * $ads_each) t(i)
"""
_METRICS = """
create table daily_metrics as
with base as (
  select date $first + d::integer as day, ad_id, a.campaign_id, d, ad_id * 977 + d as seed
  from ads a, range($days) t(d)
), shown as (
  select *, (1500 + 6000 * noise(seed) + 300 * (d % 7))::integer as impressions from base
), clicked as (
  select *, (impressions * (0.01 + 0.03 * noise(seed + 13)))::integer as clicks from shown
)
select day, ad_id, impressions, clicks,
       (clicks * (0.02 + 0.06 * noise(seed + 29)))::integer as conversions,
       (clicks * (0.25 + 0.9 * noise(seed + 41)))::decimal(12, 2) as spend_usd
from clicked order by day, ad_id
"""
_REVENUE = """
create table revenue as
select m.day, a.campaign_id,
       sum(m.conversions)::integer as orders,
       sum(m.conversions * (18 + 40 * noise(m.ad_id * 31 + m.conversions)))::decimal(12, 2) as revenue_usd
from daily_metrics m join ads a using (ad_id)
group by m.day, a.campaign_id order by m.day, a.campaign_id
"""
_COMMENTS = """
comment on table campaigns is 'One row a campaign: who advertises, through which channel, in which region.';
comment on table ads is 'One row an ad; each belongs to a campaign.';
comment on table daily_metrics is 'One row a day and ad: impressions, clicks, conversions and spend.';
comment on table revenue is 'One row a day and campaign: orders and revenue attributed to it.';
comment on column daily_metrics.spend_usd is 'What the ad cost that day, in US dollars.';
comment on column revenue.revenue_usd is 'Attributed revenue of that day, in US dollars.';
"""


def ensure_sample(path: Path) -> bool:
    """Create the sample warehouse where there is no file yet; True where it was created.

    It appears whole or not at all: it is built beside its place and then moved there.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{os.getpid()}")
    building.unlink(missing_ok=True)
    try:
        with duckdb.connect(str(building)) as connection:
            _fill(connection)
        building.replace(path)
    finally:
        building.unlink(missing_ok=True)
    return True


def _fill(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(_NOISE)
    values = {"campaigns": CAMPAIGNS, "ads_each": ADS_EACH, "days": DAYS, "first": FIRST_DAY}
    for statement in (_CAMPAIGNS, _ADS, _METRICS, _REVENUE):
        text = statement
        for name, value in values.items():  # constants of this module: DDL takes no parameters
            text = text.replace(f"${name}", f"'{value}'" if isinstance(value, str) else str(value))
        connection.execute(text)
    connection.execute(_COMMENTS)
    connection.execute("checkpoint")
