{{ config(unique_key=['index_date']) }}

-- One row a UTC day: the index by its newest delivery.

with fear_greed as (
    select
        *,
        cast(floor(timestamp / 86400.0) as int) as day_number
    from {{ source('bronze', 'fear_greed') }}
    where value between 0 and 100
),

{% if is_incremental() %}
touched as (
    select distinct day_number
    from fear_greed
    where _loaded_at > {{ processed_up_to() }}
),
{% endif %}

deliveries as (
    select d.*
    from fear_greed as d
    {% if is_incremental() %}
    semi join touched as t on t.day_number = d.day_number
    {% endif %}
),

ranked as (
    select
        *,
        row_number() over (
            partition by day_number
            order by _ingested_at desc, _loaded_at desc, _run_id desc, timestamp desc
        ) as choice
    from deliveries
),

final as (
    select
        {{ date_of_day_number('day_number') }} as index_date,
        value as fear_greed_value,
        classification,
        _loaded_at as _processed_at
    from ranked
    where choice = 1
)

select * from final
