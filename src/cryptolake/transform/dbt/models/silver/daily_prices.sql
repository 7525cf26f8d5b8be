{{ config(unique_key=['coin_id', 'price_date'], partition_by=['years(price_date)']) }}

-- One row a coin and UTC day: the price at 00:00 UTC, by the vendor's newest word on it.
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
    where _loaded_at > {{ processed_up_to() }}
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

judged as (
    select
        *,
        coalesce(
            timestamp_ms % 86400000 <= {{ 60 * 60 * 1000 }}
            and _ingested_at >= {{ timestamp_of_ms('timestamp_ms + ' ~ 30 * 60 * 1000) }},
            false
        ) as is_daily
    from ranked
    where choice = 1
),

final as (
    select
        coin_id,
        {{ date_of_day_number('day_number') }} as price_date,
        price_usd,
        case when {{ usable('market_cap_usd') }} then market_cap_usd end as market_cap_usd,
        case when {{ usable('volume_24h_usd') }} then volume_24h_usd end as volume_24h_usd,
        {{ timestamp_of_ms('timestamp_ms') }} as observed_at,
        'coingecko' as price_source,
        {% if is_incremental() %}
        not is_daily as is_gone,
        {% endif %}
        _loaded_at as _processed_at
    from judged
    {% if not is_incremental() %}
    where is_daily
    {% endif %}
)

select * from final
