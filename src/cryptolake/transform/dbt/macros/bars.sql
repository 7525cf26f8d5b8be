{# What bars have in common. #}

{% macro minute_us() %}{{ return(60 * 1000000) }}{% endmacro %}
{% macro day_us() %}{{ return(24 * 60 * 60 * 1000000) }}{% endmacro %}

{% macro bar_figures() %}
{{ return([
    'open', 'high', 'low', 'close', 'volume', 'quote_volume', 'trade_count', 'taker_buy_volume', 'taker_buy_quote_volume',
    'vwap', 'first_trade_id', 'last_trade_id',
]) }}
{% endmacro %}

{# The figures of bars that are made of bars of a minute, but vwap: exact, since sums of decimals are. #}
{% macro rolled_up() %}
        min_by(open, first_trade_id) as open,
        max(high) as high,
        min(low) as low,
        max_by(close, last_trade_id) as close,
        cast(sum(volume) as decimal(38, 12)) as volume,
        cast(sum(quote_volume) as decimal(38, 24)) as quote_volume,
        cast(sum(trade_count) as bigint) as trade_count,
        cast(sum(taker_buy_volume) as decimal(38, 12)) as taker_buy_volume,
        cast(sum(taker_buy_quote_volume) as decimal(38, 24)) as taker_buy_quote_volume,
        min(first_trade_id) as first_trade_id,
        max(last_trade_id) as last_trade_id
{% endmacro %}

{# The rows of a CTE that have first_trade_id and last_trade_id, with is_complete: whether their ids lie strictly inside
   a range of held ones. Ranges are apart, so the one that begins last below an id reaches farthest. #}
{% macro judged(bars) %}
    select
        b.*,
        case
            when b.venue is null{% for venue in var('opaque_venues') %} or b.venue = '{{ venue }}'{% endfor %} then null
            else coalesce(r.reach > b.last_trade_id, false)
        end as is_complete
    from {{ bars }} as b
    left join (
        select venue, symbol, id, reach
        from (
            select
                venue,
                symbol,
                id,
                is_range,
                max(last_id) over (
                    partition by venue, symbol order by id, is_range rows between unbounded preceding and current row
                ) as reach
            from (
                select distinct venue, symbol, first_trade_id as id, 0 as is_range, cast(null as bigint) as last_id
                from {{ bars }}
                union all
                select venue, symbol, first_id as id, 1 as is_range, last_id
                from {{ ref('held_ranges') }}
            ) as ends
        ) as swept
        where is_range = 0
    ) as r on r.venue = b.venue and r.symbol = b.symbol and r.id = b.first_trade_id
{% endmacro %}

{# The bars of this run: those of the CTE `judged` that are new or have become complete; after them, where there were some
   before, those of `gone`, marked to be removed. *stamp* is the column that says when a row was made. #}
{% macro changed_bars(key, stamp) -%}
{% set columns = key + bar_figures() + ['is_complete'] -%}
select {{ columns | join(', ') }}{% if is_incremental() %}, false as is_gone{% endif %}, {{ run_time() }} as {{ stamp }}
    from judged
    where is_new = 1 or is_complete
{%- if is_incremental() %}
    union all
    select {{ columns | join(', ') }}, true as is_gone, {{ run_time() }} as {{ stamp }} from gone
{%- endif %}
{%- endmacro %}

{# The declared instruments as rows. #}
{% macro declared_instruments() %}
    select
        cast(venue as {{ dbt.type_string() }}) as venue,
        cast(symbol as {{ dbt.type_string() }}) as symbol,
        cast(coin_id as {{ dbt.type_string() }}) as coin_id,
        cast(base_currency as {{ dbt.type_string() }}) as base_currency,
        cast(quote_currency as {{ dbt.type_string() }}) as quote_currency,
        is_reference
    from (
        values
        {% for i in var('instruments') %}
        ('{{ i.venue }}', '{{ i.symbol }}', '{{ i.coin_id }}', '{{ i.base_currency }}', '{{ i.quote_currency }}', {{ i.is_reference | lower }}),
        {% endfor %}
        (null, null, null, null, null, false)
    ) as declared (venue, symbol, coin_id, base_currency, quote_currency, is_reference)
    where venue is not null
{% endmacro %}
