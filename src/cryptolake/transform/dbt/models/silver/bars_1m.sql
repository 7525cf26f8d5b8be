{{ config(unique_key=['venue', 'symbol', 'bar_start_at'], partition_by=['days(bar_start_at)'], tags=['trades']) }}

-- One row an instrument and minute that has trades; trades are in the order of their ids.
-- New trades build their minutes anew, from all trades of these. A bar that is complete stays so, since ids are only ever
-- added; the others are judged again by what is held now.

{% set figures = bar_figures() %}

{% if is_incremental() %}
with new_trades as (
    select * from {{ new_in(ref('trades')) }} as new
),

touched as (
    select venue, symbol, {{ bucket_of('traded_at', minute_us()) }} as minute
    from new_trades
    union
    select b.venue, b.symbol, {{ bucket_of('b.bar_start_at', minute_us()) }} as minute -- that a trade has left
    from {{ this }} as b
    semi join {{ moved_in(ref('trades')) }} as m
        on m.venue = b.venue and m.symbol = b.symbol and m.trade_id between b.first_trade_id and b.last_trade_id
),

trades as (
    select t.*, {{ bucket_of('t.traded_at', minute_us()) }} as minute
    from {{ around_new(ref('trades'), 'hour') }} as t
    semi join touched as n
        on n.venue = t.venue and n.symbol = t.symbol and n.minute = {{ bucket_of('t.traded_at', minute_us()) }}
),
{% else %}
with trades as (
    select *, {{ bucket_of('traded_at', minute_us()) }} as minute
    from {{ ref('trades') }}
),
{% endif %}

sums as (
    select
        venue,
        symbol,
        minute,
        min_by(price, trade_id) as open,
        max(price) as high,
        min(price) as low,
        max_by(price, trade_id) as close,
        cast(sum(quantity) as decimal(38, 12)) as volume,
        cast(sum({{ exact_product('price', 'quantity') }}) as decimal(38, 24)) as quote_volume,
        count(*) as trade_count,
        cast(sum(case when is_buyer_maker then 0 else quantity end) as decimal(38, 12)) as taker_buy_volume,
        cast(
            sum(case when is_buyer_maker then 0 else {{ exact_product('price', 'quantity') }} end) as decimal(38, 24)
        ) as taker_buy_quote_volume,
        min(trade_id) as first_trade_id,
        max(trade_id) as last_trade_id
    from trades
    group by venue, symbol, minute
),

built as (
    select
        *,
        {{ timestamp_of_us('minute * ' ~ minute_us()) }} as bar_start_at,
        {{ double_of('quote_volume') }} / nullif({{ double_of('volume') }}, 0) as vwap,
        1 as is_new
    from sums
),

bars as (
    select venue, symbol, bar_start_at, {{ figures | join(', ') }}, is_new
    from built
    {% if is_incremental() %}
    union all
    select i.venue, i.symbol, i.bar_start_at, i.{{ figures | join(', i.') }}, 0 as is_new
    from {{ incomplete_so_far() }} as i
    anti join touched as t
        on t.venue = i.venue and t.symbol = i.symbol and t.minute = {{ bucket_of('i.bar_start_at', minute_us()) }}
    {% endif %}
),

judged as (
{{ judged('bars') }}
),

{% if is_incremental() %}
gone as (
    select b.*
    from {{ this }} as b
    semi join {{ moved_in(ref('trades')) }} as m
        on m.venue = b.venue and m.symbol = b.symbol and m.trade_id between b.first_trade_id and b.last_trade_id
    anti join built as n on n.venue = b.venue and n.symbol = b.symbol and n.bar_start_at = b.bar_start_at
),
{% endif %}

final as (
    {{ changed_bars(['venue', 'symbol', 'bar_start_at'], '_processed_at') }}
)

select * from final
