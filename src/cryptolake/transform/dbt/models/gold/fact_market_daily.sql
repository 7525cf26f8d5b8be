{{ config(unique_key=['coin_id', 'price_date'], partition_by=['years(price_date)']) }}

-- One row a coin and UTC day that has a daily price.
-- A change of a coin's prices recomputes that coin from the changed day on, since averages, returns and
-- drawdown look back; a change of the index takes the stored figures of that day and replaces the sentiment.

{% set return_windows = [7, 30, 60, 180] %}
{% set inputs = ['price_usd', 'market_cap_usd', 'volume_24h_usd', 'price_source'] %}
{% set figures = inputs + [
    'price_change_pct_1d', 'log_return_1d', 'moving_avg_7d', 'moving_avg_30d', 'price_stddev_7d',
    'volatility_7d', 'volatility_30d', 'volatility_60d', 'volatility_180d', 'avg_volume_7d',
    'roi_30d_pct', 'roi_365d_pct', 'drawdown_pct',
] %}

with daily_prices as (
    select
        coin_id,
        price_date,
        {{ day_number('price_date') }} as day_number,
        {{ inputs | join(', ') }}
    from {{ ref('daily_prices') }}
),

fear_greed as (
    select * from {{ ref('fear_greed') }}
),

{% if is_incremental() %}
compared as ( -- what the fact was built from, held against what is there now
    select
        coalesce(p.coin_id, t.coin_id) as coin_id,
        coalesce(p.price_date, t.price_date) as price_date,
        p.coin_id is null as is_gone,
        p.coin_id is null or t.coin_id is null
            {% for column in inputs %}
            or p.{{ column }} is distinct from t.{{ column }}
            {% endfor %} as has_new_price,
        i.fear_greed_value is distinct from t.fear_greed_value
            or i.classification is distinct from t.market_sentiment as has_new_sentiment
    from daily_prices as p
    full outer join {{ this }} as t on t.coin_id = p.coin_id and t.price_date = p.price_date
    left join fear_greed as i on i.index_date = coalesce(p.price_date, t.price_date)
),

differences as (
    select * from compared where has_new_price or has_new_sentiment
),

starts as ( -- per coin the first day to compute again
    select coin_id, min({{ day_number('price_date') }}) as first_day
    from differences
    where has_new_price
    group by coin_id
),
{% else %}
starts as (
    select coin_id, min(day_number) as first_day
    from daily_prices
    group by coin_id
),
{% endif %}

earlier_highs as (
    select p.coin_id, max(p.price_usd) as high
    from daily_prices as p
    join starts as s on s.coin_id = p.coin_id and p.day_number < s.first_day
    group by p.coin_id
),

days as ( -- the days to compute, and those before them that their windows hold
    select
        p.*,
        s.first_day,
        e.high as earlier_high,
        {% for n in [1, 30, 365] %}
        before_{{ n }}.price_usd as price_{{ n }}d_ago{{ ',' if not loop.last }}
        {% endfor %}
    from daily_prices as p
    join starts as s on s.coin_id = p.coin_id and p.day_number > s.first_day - {{ return_windows | max }}
    left join earlier_highs as e on e.coin_id = p.coin_id
    {% for n in [1, 30, 365] %}
    left join daily_prices as before_{{ n }}
        on before_{{ n }}.coin_id = p.coin_id and before_{{ n }}.day_number = p.day_number - {{ n }}
    {% endfor %}
),

returns as (
    select *, ln(price_usd / nullif(price_1d_ago, 0)) as log_return_1d from days
),

lists as (
    select
        *,
        greatest(earlier_high, max(price_usd) over (partition by coin_id order by day_number)) as high_so_far,
        {{ last_days('price_usd', 7) }} as prices_7d,
        {{ last_days('price_usd', 30) }} as prices_30d,
        {{ last_days('volume_24h_usd', 7) }} as volumes_7d,
        {% for n in return_windows %}
        {{ last_days('log_return_1d', n) }} as returns_{{ n }}d{{ ',' if not loop.last }}
        {% endfor %}
    from returns
),

means as (
    select
        *,
        {{ full_mean('prices_7d', 7) }} as moving_avg_7d,
        {{ full_mean('prices_30d', 30) }} as moving_avg_30d,
        {{ full_mean('volumes_7d', 7) }} as avg_volume_7d,
        {% for n in return_windows %}
        {{ full_mean('returns_' ~ n ~ 'd', n) }} as mean_return_{{ n }}d{{ ',' if not loop.last }}
        {% endfor %}
    from lists
    where day_number >= first_day
),

computed as (
    select
        coin_id,
        price_date,
        {{ inputs | join(', ') }},
        (price_usd / nullif(price_1d_ago, 0) - 1) * 100 as price_change_pct_1d,
        log_return_1d,
        moving_avg_7d,
        moving_avg_30d,
        {{ full_stddev('prices_7d', 'moving_avg_7d', 7) }} as price_stddev_7d,
        {% for n in return_windows %}
        {{ full_stddev('returns_' ~ n ~ 'd', 'mean_return_' ~ n ~ 'd', n) }} as volatility_{{ n }}d,
        {% endfor %}
        avg_volume_7d,
        (price_usd / nullif(price_30d_ago, 0) - 1) * 100 as roi_30d_pct,
        (price_usd / nullif(price_365d_ago, 0) - 1) * 100 as roi_365d_pct,
        (price_usd / nullif(high_so_far, 0) - 1) * 100 as drawdown_pct,
        false as is_gone
    from means
),

{% if is_incremental() %}
kept as ( -- rows that need no computing: only their sentiment is new, or their price is gone
    select
        t.coin_id,
        t.price_date,
        {% for column in figures %}
        t.{{ column }},
        {% endfor %}
        d.is_gone
    from {{ this }} as t
    join differences as d on d.coin_id = t.coin_id and d.price_date = t.price_date
    left join starts as s on s.coin_id = t.coin_id
    where d.is_gone or s.first_day is null or {{ day_number('t.price_date') }} < s.first_day
),
{% endif %}

measured as (
    select * from computed
    {% if is_incremental() %}
    union all
    select * from kept
    {% endif %}
),

final as (
    select
        m.coin_id,
        m.price_date,
        {% for column in figures %}
        m.{{ column }},
        {% endfor %}
        i.fear_greed_value,
        i.classification as market_sentiment,
        cast(case i.classification
            when 'Extreme Fear' then 1
            when 'Fear' then 2
            when 'Neutral' then 3
            when 'Greed' then 4
            when 'Extreme Greed' then 5
        end as int) as sentiment_score,
        case
            when m.price_usd > m.moving_avg_30d then 'ABOVE_MA30'
            when m.price_usd < m.moving_avg_30d then 'BELOW_MA30'
            when m.price_usd = m.moving_avg_30d then 'AT_MA30'
        end as ma30_signal,
        {% if is_incremental() %}
        m.is_gone,
        {% endif %}
        {{ run_time() }} as _loaded_at
    from measured as m
    left join fear_greed as i on i.index_date = m.price_date
)

select * from final
