{{ config(unique_key=['venue', 'symbol', 'trade_id'], partition_by=['days(traded_at)'], tags=['trades']) }}

-- One row a trade: the best of its copies.
-- A copy that is better than the one held replaces it: the contract prefers columns in the order used here.
-- Few trades have copies, so only those are ranked.

{% set arrived = new_in(source('bronze', 'realtime_trades'), '_loaded_at') %}
{% set columns = [
    'venue', 'symbol', 'trade_id', 'price', 'quantity', 'is_buyer_maker', 'traded_at', 'event_at', 'received_at', 'received_via',
] %}

with copied as (
    select venue, symbol, trade_id
    from {{ arrived }} as arrived
    group by venue, symbol, trade_id
    having count(*) > 1
),

ranked as (
    select
        a.{{ columns | join(', a.') }},
        row_number() over (
            partition by a.venue, a.symbol, a.trade_id
            order by
                case a.received_via when 'websocket' then 0 when 'rest' then 1 when 'archive' then 2 else 3 end,
                a.received_at,
                a.price,
                a.quantity,
                a.is_buyer_maker,
                a.traded_at
        ) as choice
    from {{ arrived }} as a
    semi join copied as c on c.venue = a.venue and c.symbol = a.symbol and c.trade_id = a.trade_id
),

chosen as (
    select a.{{ columns | join(', a.') }}
    from {{ arrived }} as a
    anti join copied as c on c.venue = a.venue and c.symbol = a.symbol and c.trade_id = a.trade_id
    union all
    select {{ columns | join(', ') }}
    from ranked
    where choice = 1
),

final as (
    select
        *,
        cast(traded_at as date) as traded_date,
        {{ run_time() }} as _processed_at
    from chosen
)

select * from final
