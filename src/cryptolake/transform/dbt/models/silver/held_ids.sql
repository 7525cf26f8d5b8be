{{ config(unique_key=['venue', 'symbol', 'first_id'], tags=['trades']) }}

-- One row a longest run of adjacent trade ids that are all held.
-- New trades join the runs that they touch. The ids of a minute mostly are one run; only where they are not, trades are
-- looked at one by one.

with trades as (
    {% if is_incremental() %}
    select * from {{ new_in(ref('trades')) }} as new
    {% else %}
    select * from {{ ref('trades') }}
    {% endif %}
),

minutes as (
    select
        venue,
        symbol,
        {{ bucket_of('traded_at', minute_us()) }} as minute,
        min(trade_id) as first_id,
        max(trade_id) as last_id,
        max_by(traded_at, trade_id) as last_traded_at,
        count(*) as trade_count
    from trades
    group by venue, symbol, {{ bucket_of('traded_at', minute_us()) }}
),

numbered as (
    select
        t.venue,
        t.symbol,
        t.trade_id,
        t.traded_at,
        t.trade_id - row_number() over (partition by t.venue, t.symbol order by t.trade_id) as run
    from trades as t
    semi join minutes as m
        on m.venue = t.venue and m.symbol = t.symbol and m.minute = {{ bucket_of('t.traded_at', minute_us()) }}
        and m.last_id - m.first_id + 1 > m.trade_count
),

pieces as (
    select venue, symbol, first_id, last_id, last_traded_at, 1 as is_new
    from minutes
    where last_id - first_id + 1 = trade_count
    union all
    select
        venue,
        symbol,
        min(trade_id) as first_id,
        max(trade_id) as last_id,
        max_by(traded_at, trade_id) as last_traded_at,
        1 as is_new
    from numbered
    group by venue, symbol, run
    {% if is_incremental() %}
    union all
    select h.venue, h.symbol, h.first_id, h.last_id, h.last_traded_at, 0 as is_new
    from {{ this }} as h
    semi join minutes as m on m.venue = h.venue and m.symbol = h.symbol
    {% endif %}
),

reaches as (
    select
        *,
        max(last_id) over (
            partition by venue, symbol order by first_id, last_id, is_new rows between unbounded preceding and 1 preceding
        ) as reach
    from pieces
),

joined as (
    select
        *,
        sum(case when first_id <= reach + 1 then 0 else 1 end) over (
            partition by venue, symbol order by first_id, last_id, is_new rows between unbounded preceding and current row
        ) as run
    from reaches
),

runs as (
    select
        venue,
        symbol,
        min(first_id) as first_id,
        max(last_id) as last_id,
        max_by(last_traded_at, last_id * 2 + is_new) as last_traded_at
    from joined
    group by venue, symbol, run
),

{% if is_incremental() %}
gone as (
    select h.venue, h.symbol, h.first_id, h.last_id, h.last_traded_at
    from {{ this }} as h
    semi join minutes as m on m.venue = h.venue and m.symbol = h.symbol
    anti join runs as r on r.venue = h.venue and r.symbol = h.symbol and r.first_id = h.first_id
),
{% endif %}

final as (
    {{ with_gone('runs') }}
)

select * from final
