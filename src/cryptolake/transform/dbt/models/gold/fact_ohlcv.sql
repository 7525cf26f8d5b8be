{{ config(unique_key=['venue', 'symbol', 'interval', 'bar_start_at'], partition_by=['days(bar_start_at)'], tags=['trades']) }}

-- One row an instrument, interval and bar that has trades, rolled up from the bars of a minute.
-- New bars of a minute build their whole day anew; the bars of other days are judged again while they are not complete.

{% set figures = bar_figures() %}
{% set minutes_of = {'1m': 1, '5m': 5, '15m': 15, '1h': 60, '4h': 240, '1d': 1440} %}

{% if is_incremental() %}
with new_bars as (
    select * from {{ new_in(ref('bars_1m')) }} as new
),

touched as (
    select venue, symbol, {{ bucket_of('bar_start_at', day_us()) }} as day
    from new_bars
    union
    select f.venue, f.symbol, {{ bucket_of('f.bar_start_at', day_us()) }} as day -- that a bar may have left
    from {{ this }} as f
    semi join {{ moved_in(ref('bars_1m')) }} as m on m.venue = f.venue and m.symbol = f.symbol
),

bars_1m as (
    select b.*
    from {{ around_new(ref('bars_1m'), 'day') }} as b
    semi join touched as t
        on t.venue = b.venue and t.symbol = b.symbol and t.day = {{ bucket_of('b.bar_start_at', day_us()) }}
),
{% else %}
with bars_1m as (
    select * from {{ ref('bars_1m') }}
),
{% endif %}

sums as (
    {% for interval, minutes in minutes_of.items() %}
    select
        venue,
        symbol,
        '{{ interval }}' as interval,
        ({{ bucket_of('bar_start_at', minutes * minute_us()) }}) * {{ minutes * minute_us() }} as start_us,
        {{ rolled_up() }}
    from bars_1m
    group by venue, symbol, {{ bucket_of('bar_start_at', minutes * minute_us()) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

built as (
    select
        *,
        {{ timestamp_of_us('start_us') }} as bar_start_at,
        {{ double_of('quote_volume') }} / nullif({{ double_of('volume') }}, 0) as vwap,
        1 as is_new
    from sums
),

bars as (
    select venue, symbol, interval, bar_start_at, {{ figures | join(', ') }}, is_new
    from built
    {% if is_incremental() %}
    union all
    select i.venue, i.symbol, i.interval, i.bar_start_at, i.{{ figures | join(', i.') }}, 0 as is_new
    from {{ incomplete_so_far() }} as i
    anti join touched as t
        on t.venue = i.venue and t.symbol = i.symbol and t.day = {{ bucket_of('i.bar_start_at', day_us()) }}
    {% endif %}
),

judged as (
{{ judged('bars') }}
),

{% if is_incremental() %}
gone as (
    select f.*
    from {{ this }} as f
    semi join {{ moved_in(ref('bars_1m')) }} as m on m.venue = f.venue and m.symbol = f.symbol
    anti join built as n
        on n.venue = f.venue and n.symbol = f.symbol and n.interval = f.interval and n.bar_start_at = f.bar_start_at
),
{% endif %}

final as (
    {{ changed_bars(['venue', 'symbol', 'interval', 'bar_start_at'], '_loaded_at') }}
)

select * from final
