-- What analysts ask, one query a paragraph; each must pass the guard and keep its meaning.

select count(*) from ads;

select format, count(*) n, count(distinct campaign_id) c from ads group by 1 having count(*) > 1
order by 2 desc, 1;

select date_trunc('month', day) m, sum(revenue_usd)::double / nullif(sum(orders), 0) r from revenue
group by all order by 1;

select c.channel, sum(r.revenue_usd) from revenue r join campaigns c using (campaign_id) group by 1
order by 1;

select * from revenue where day between date '2026-01-01' and date '2026-01-03' and campaign_id in
(1000, 1001) order by all;

with a as (select campaign_id, sum(orders) o from revenue group by 1), b as (select max(o) m from a)
select a.* from a, b where o = m order by 1;

select * from (select *, row_number() over (partition by campaign_id order by revenue_usd desc, day)
n from revenue) where n = 1 order by campaign_id;

select ad_id from ads qualify row_number() over (partition by campaign_id order by ad_id) = 1 order
by 1;

select day, sum(clicks) / sum(impressions) from daily_metrics group by day order by day limit 3
offset 2;

select 5 / 2, 5 // 2, 5 % 2, 2 ** 3, -1, 1 + 2 * 3, (1 + 2) * 3;

select case when campaign_id % 2 = 0 then 'even' else 'odd' end k, count(*) from campaigns group by
1 order by 1;

select lower(name), upper(region), length(name), substr(name, 1, 3), name || '!', concat(name, '-',
region), replace(name, ' ', '_'), split_part(name, ' ', 1), trim(' x '), left(name, 2), right(name,
2) from campaigns order by 1, 2, 3 limit 5;

select name from campaigns where name ilike 'spring%' or name like '_ummer%' or regexp_matches(name,
'^H') or contains(name, 'On') order by 1;

select extract(year from day), month(day), dayofweek(day), dayname(day), strftime(day, '%Y-%m'),
date_diff('day', date '2026-01-01', day), day + interval 3 day, last_day(day), quarter(day),
week(day) from revenue order by day limit 3;

select min(day), max(day), avg(orders), median(orders), round(stddev(orders), 6),
quantile_cont(orders, 0.9), approx_count_distinct(campaign_id) > 0, arg_max(day, revenue_usd),
any_value(1), count_if(orders > 5), bool_and(orders >= 0), round(corr(orders, revenue_usd), 6),
mode(1) from revenue;

select sum(orders) filter (where campaign_id = 1000) from revenue;

select lag(orders) over w, lead(orders) over w, rank() over w, sum(orders) over (order by day rows
between 2 preceding and current row) from revenue where campaign_id = 1000 window w as (order by
day) order by day limit 5;

select region, channel, count(*) from campaigns group by rollup (region, channel) order by all;

select region, channel, grouping(region), count(*) from campaigns group by grouping sets ((region),
(channel)) order by all;

select campaign_id from campaigns except select campaign_id from ads where format = 'text' order by
1;

select campaign_id from campaigns intersect select campaign_id from ads order by 1;

select distinct region from campaigns union select 'X' order by 1;

select distinct on (region) region, name from campaigns order by region, name;

select coalesce(null, 1), ifnull(null, 2), greatest(1, 3), least(1, 3), round(2.345, 2), abs(-1),
floor(1.5), ceil(1.5), sqrt(4), ln(1), power(2, 3), trunc(1.7), sign(-2);

select try_cast('x' as int), cast('5' as int), '5'::bigint, null is null, 1 is distinct from null,
not true, true and false or true, xor(5, 3);

select exists (select 1 from ads where campaign_id = 9), 1000 = any (select campaign_id from ads), 1
< all (select campaign_id from ads);

select * from campaigns c left join lateral (select max(day) d from revenue r where r.campaign_id =
c.campaign_id) x on true order by 1 limit 3;

select a.ad_id from ads a semi join campaigns c on a.campaign_id = c.campaign_id order by 1 limit 3;

select c.name from campaigns c anti join ads a using (campaign_id) order by 1;

select * from (values (1, 'a'), (2, 'b')) v(n, s) order by n;

select campaigns.name, ads.headline from campaigns cross join ads order by 1, 2 limit 3;

select name n from campaigns where (region, channel) in (select region, channel from campaigns where
campaign_id = 1000) order by n;

from campaigns select count(*);

select time_bucket(interval '1 week', day) b, sum(orders) from revenue group by 1 order by 1 limit 3;

select hash from (select md5(name) as hash from campaigns) order by 1 limit 2;

select "name" as "The Name" from campaigns order by 1 limit 1;

select date_part('dow', day), epoch(day), isfinite(orders::double), date_sub('day', date
'2026-01-01', day) from revenue order by day, campaign_id limit 2;

select timestamp '2026-01-01 10:00:00' at time zone 'UTC' is not null, make_date(2026, 1, 2),
strptime('2026-01-02', '%Y-%m-%d');
