{{ config(unique_key=['coin_id', 'price_date'], partition_by=['years(price_date)']) }}

-- One row a coin and UTC day: the price at 00:00 UTC, by the vendor's newest word on it, or, where the vendor has none,
-- the last trade of a complete day before on the coin's reference instrument.
-- What a day's earliest observation says is the price, or there is none; all others are intraday points.

with historical_prices as (
    select
        *,
        cast(floor(timestamp_ms / 86400000.0) as int) as day_number
    from {{ source('bronze', 'historical_prices') }}
    where {{ usable('price_usd') }}
),

{% if is_incremental() %}
touched as ( -- whole days, since the choice is among all observations of a day
    select distinct
        coin_id,
        day_number
    from historical_prices
    where _loaded_at > {{ processed_up_to("price_source = 'coingecko'") }}
),
{% endif %}

observations as (
    select o.*
    from historical_prices as o
    {% if is_incremental() %}
    semi join touched as t on t.coin_id = o.coin_id and t.day_number = o.day_number
    {% endif %}
),

ranked as (
    select
        *,
        row_number() over (
            partition by coin_id, day_number
            order by timestamp_ms, _ingested_at desc, _loaded_at desc, _run_id desc
        ) as choice
    from observations
),

judged_observations as (
    select
        coin_id,
        {{ date_of_day_number('day_number') }} as price_date,
        price_usd,
        case when {{ usable('market_cap_usd') }} then market_cap_usd end as market_cap_usd,
        case when {{ usable('volume_24h_usd') }} then volume_24h_usd end as volume_24h_usd,
        {{ timestamp_of_ms('timestamp_ms') }} as observed_at,
        'coingecko' as price_source,
        coalesce(
            timestamp_ms % 86400000 <= {{ 60 * 60 * 1000 }}
            and _ingested_at >= {{ timestamp_of_ms('timestamp_ms + ' ~ 30 * 60 * 1000) }},
            false
        ) as is_daily,
        _loaded_at as _processed_at
    from ranked
    where choice = 1
),

vendor_days as ( -- that have a row of the vendor's, now
    select coin_id, price_date
    from judged_observations
    where is_daily
    {% if is_incremental() %}
    union all
    select t.coin_id, t.price_date
    from {{ this }} as t
    anti join judged_observations as j on j.coin_id = t.coin_id and j.price_date = t.price_date
    where t.price_source = 'coingecko'
    {% endif %}
),

instruments as (
{{ declared_instruments() }}
),

traded_days as (
    select
        i.coin_id,
        b.venue,
        b.symbol,
        {{ bucket_of('b.bar_start_at', day_us()) }} as day_number,
        max_by(b.close, b.last_trade_id) as close,
        min(b.first_trade_id) as first_trade_id,
        max(b.last_trade_id) as last_trade_id,
        max_by(b._processed_at, b.last_trade_id) as _processed_at
    from {{ ref('bars_1m') }} as b
    join instruments as i on i.venue = b.venue and i.symbol = b.symbol and i.is_reference
    group by i.coin_id, b.venue, b.symbol, {{ bucket_of('b.bar_start_at', day_us()) }}
),

judged_days as (
{{ judged('traded_days') }}
),

closes as (
    select
        *,
        {{ date_of_day_number('day_number + 1') }} as price_date,
        row_number() over (partition by coin_id, day_number order by venue, symbol) as choice
    from judged_days
    where is_complete
),

traded_prices as (
    select c.*
    from closes as c
    anti join vendor_days as v on v.coin_id = c.coin_id and v.price_date = c.price_date
    where c.choice = 1
),

{% if is_incremental() %}
gone as (
    select t.*
    from {{ this }} as t
    left join judged_observations as j on j.coin_id = t.coin_id and j.price_date = t.price_date
    anti join vendor_days as v on v.coin_id = t.coin_id and v.price_date = t.price_date
    anti join traded_prices as p on p.coin_id = t.coin_id and p.price_date = t.price_date
    where t.price_source <> 'coingecko' or not j.is_daily
),
{% endif %}

final as (
    select
        coin_id,
        price_date,
        price_usd,
        market_cap_usd,
        volume_24h_usd,
        observed_at,
        price_source,
        {% if is_incremental() %}
        false as is_gone,
        {% endif %}
        _processed_at
    from judged_observations
    where is_daily
    union all
    select
        coin_id,
        price_date,
        {{ double_of('close') }} as price_usd,
        cast(null as double) as market_cap_usd,
        cast(null as double) as volume_24h_usd,
        {{ timestamp_of_us('(day_number + 1) * ' ~ day_us()) }} as observed_at,
        concat('trades:', venue) as price_source,
        {% if is_incremental() %}
        false as is_gone,
        {% endif %}
        _processed_at
    from traded_prices
    {% if is_incremental() %}
    union all
    select
        coin_id,
        price_date,
        price_usd,
        market_cap_usd,
        volume_24h_usd,
        observed_at,
        price_source,
        true as is_gone,
        _processed_at
    from gone
    {% endif %}
)

select * from final
