{{ config(unique_key=['venue', 'symbol', 'first_id'], tags=['trades']) }}

-- One row a longest stretch of trade ids that are all held or absent, from a held one to a held one.
-- What is new of an instrument recomputes its ranges, which are few: one more than there are holes.

with held_ids as (
    select * from {{ ref('held_ids') }}
),

trade_gaps as (
    select * from {{ ref('trade_gaps') }}
),

{% if is_incremental() %}
touched as (
    select venue, symbol from {{ new_in(ref('held_ids')) }} as new_ids
    union
    select venue, symbol from {{ new_in(ref('trade_gaps')) }} as new_gaps
),
{% endif %}

pieces as (
    select p.*
    from (
        select venue, symbol, first_id, last_id, 1 as is_held
        from held_ids
        union all
        select venue, symbol, first_id, last_id, 0 as is_held
        from trade_gaps
        where state = 'absent'
    ) as p
    {% if is_incremental() %}
    semi join touched as t on t.venue = p.venue and t.symbol = p.symbol
    {% endif %}
),

reaches as (
    select
        *,
        max(last_id) over (
            partition by venue, symbol order by first_id, last_id, is_held rows between unbounded preceding and 1 preceding
        ) as reach
    from pieces
),

joined as (
    select
        *,
        sum(case when first_id <= reach + 1 then 0 else 1 end) over (
            partition by venue, symbol order by first_id, last_id, is_held rows between unbounded preceding and current row
        ) as stretch
    from reaches
),

ranges as (
    select
        venue,
        symbol,
        min(first_id) as first_id,
        max(last_id) as last_id,
        cast(sum(last_id - first_id + 1) as bigint) as trade_count
    from joined
    where is_held = 1
    group by venue, symbol, stretch
),

{% if is_incremental() %}
gone as (
    select r.venue, r.symbol, r.first_id, r.last_id, r.trade_count
    from {{ this }} as r
    semi join touched as t on t.venue = r.venue and t.symbol = r.symbol
    anti join ranges as n on n.venue = r.venue and n.symbol = r.symbol and n.first_id = r.first_id
),
{% endif %}

final as (
    {{ with_gone('ranges') }}
)

select * from final
