{{ config(unique_key=['coin_id']) }}

-- One row a coin: what is known of it over all its tracked days.

with daily_prices as (
    select
        *,
        max(price_usd) over (partition by coin_id) as high,
        min(price_usd) over (partition by coin_id) as low
    from {{ ref('daily_prices') }}
),

coins as (
    select
        coin_id,
        min(price_date) as first_tracked_date,
        max(price_date) as last_tracked_date,
        cast(count(*) as int) as total_days_tracked,
        max(high) as all_time_high,
        min(case when price_usd = high then price_date end) as all_time_high_date,
        max(low) as all_time_low,
        min(case when price_usd = low then price_date end) as all_time_low_date,
        max(volume_24h_usd) as max_daily_volume,
        max(market_cap_usd) as max_market_cap,
        {{ ordered_list('price_usd', 'price_date') }} as prices,
        {{ ordered_list('volume_24h_usd', 'price_date') }} as volumes
    from daily_prices
    group by coin_id
),

figures as (
    select
        coin_id,
        cast(null as {{ dbt.type_string() }}) as symbol,
        cast(null as {{ dbt.type_string() }}) as name,
        first_tracked_date,
        last_tracked_date,
        total_days_tracked,
        cast({{ day_number('last_tracked_date') }} - {{ day_number('first_tracked_date') }} + 1 - total_days_tracked as int) as missing_days,
        all_time_high,
        all_time_high_date,
        all_time_low,
        all_time_low_date,
        {{ list_sum('prices') }} / total_days_tracked as avg_price,
        {{ list_sum('volumes') }} / nullif({{ list_length('volumes') }}, 0) as avg_daily_volume,
        max_daily_volume,
        max_market_cap,
        (all_time_high - all_time_low) / nullif(all_time_low, 0) * 100 as price_range_pct,
        {{ run_time() }} as _loaded_at
    from coins
),

final as (
    {% if is_incremental() %}
    select *, false as is_gone from figures
    union all
    select
        t.coin_id,
        t.symbol,
        t.name,
        t.first_tracked_date,
        t.last_tracked_date,
        t.total_days_tracked,
        t.missing_days,
        t.all_time_high,
        t.all_time_high_date,
        t.all_time_low,
        t.all_time_low_date,
        t.avg_price,
        t.avg_daily_volume,
        t.max_daily_volume,
        t.max_market_cap,
        t.price_range_pct,
        t._loaded_at,
        true as is_gone
    from {{ this }} as t
    anti join figures as f on f.coin_id = t.coin_id
    {% else %}
    select * from figures
    {% endif %}
)

select * from final
