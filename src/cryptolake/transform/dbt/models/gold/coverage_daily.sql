{{ config(unique_key=['venue', 'symbol', 'traded_date'], tags=['trades']) }}

-- One row an instrument and UTC day that has trades: what is held of it, and what is missing.
-- Ids that are not held count towards the day of the next lower held trade.

with days as (
    select * from {{ ref('fact_ohlcv') }} where interval = '1d'
),

trade_gaps as (
    select * from {{ ref('trade_gaps') }} where state <> 'filled'
),

held_ids as (
    select * from {{ ref('held_ids') }}
),

swept as (
    select
        venue,
        symbol,
        first_id,
        last_id,
        state,
        max(held_id) over (
            partition by venue, symbol order by first_id, last_id rows between unbounded preceding and current row
        ) as lower_id
    from (
        select venue, symbol, first_id, last_id, state, cast(null as bigint) as held_id
        from trade_gaps
        union all
        select venue, symbol, last_id as first_id, last_id, 'held' as state, last_id as held_id
        from held_ids
    ) as ids
),

first_days as (
    select venue, symbol, min(cast(bar_start_at as date)) as first_date
    from days
    group by venue, symbol
),

dated as (
    select
        s.venue,
        s.symbol,
        s.state,
        s.last_id - s.first_id + 1 as ids,
        coalesce(cast(h.last_traded_at as date), f.first_date) as traded_date
    from swept as s
    join first_days as f on f.venue = s.venue and f.symbol = s.symbol
    left join held_ids as h on h.venue = s.venue and h.symbol = s.symbol and h.last_id = s.lower_id
    where s.state <> 'held'
),

counted as (
    select
        venue,
        symbol,
        traded_date,
        {% for column, state in [('missing_ids', 'open'), ('absent_ids', 'absent'), ('rejected_ids', 'rejected')] %}
        cast(sum(case when state = '{{ state }}' then ids else 0 end) as bigint) as {{ column }}{{ ',' if not loop.last }}
        {% endfor %}
    from dated
    group by venue, symbol, traded_date
),

coverage as (
    select
        d.venue,
        d.symbol,
        cast(d.bar_start_at as date) as traded_date,
        d.trade_count,
        d.first_trade_id,
        d.last_trade_id,
        coalesce(c.missing_ids, 0) as missing_ids,
        coalesce(c.absent_ids, 0) as absent_ids,
        coalesce(c.rejected_ids, 0) as rejected_ids,
        d.is_complete
    from days as d
    left join counted as c
        on c.venue = d.venue and c.symbol = d.symbol and c.traded_date = cast(d.bar_start_at as date)
),

final as (
    select
        *,
        {% if is_incremental() %}
        false as is_gone,
        {% endif %}
        {{ run_time() }} as _loaded_at
    from coverage
    {% if is_incremental() %}
    union all
    select
        t.venue,
        t.symbol,
        t.traded_date,
        t.trade_count,
        t.first_trade_id,
        t.last_trade_id,
        t.missing_ids,
        t.absent_ids,
        t.rejected_ids,
        t.is_complete,
        true as is_gone,
        t._loaded_at
    from {{ this }} as t
    anti join coverage as c on c.venue = t.venue and c.symbol = t.symbol and c.traded_date = t.traded_date
    {% endif %}
)

select * from final
