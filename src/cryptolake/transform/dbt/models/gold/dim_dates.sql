{{ config(unique_key=['date_day']) }}

-- One row a calendar day, from the first to the last daily price of any coin.

with daily_prices as (
    select price_date from {{ ref('daily_prices') }}
),

bounds as (
    select
        min(price_date) as first_date,
        max(price_date) as last_date
    from daily_prices
),

series as (
    select {{ date_series('first_date', 'last_date') }} as day_start
    from bounds
    where first_date is not null
),

calendar as (
    select
        cast(day_start as date) as date_day,
        {{ day_number('cast(day_start as date)') }} as day_number
    from series
),

{% if is_incremental() %}
stored as (
    select date_day, {{ day_number('date_day') }} as day_number from {{ this }}
),
{% endif %}

days as (
    {% if is_incremental() %}
    select c.*, false as is_gone
    from calendar as c
    anti join stored as t on t.date_day = c.date_day
    union all
    select t.*, true as is_gone
    from stored as t
    anti join calendar as c on c.date_day = t.date_day
    {% else %}
    select * from calendar
    {% endif %}
),

weekdays as (
    select
        *,
        cast((day_number + 3) % 7 + 1 as int) as day_of_week -- day 0 was a Thursday
    from days
),

final as (
    select
        date_day,
        cast(year(date_day) as int) as year,
        cast(quarter(date_day) as int) as quarter,
        cast(month(date_day) as int) as month,
        {{ name_of('month(date_day)', ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December']) }} as month_name,
        cast(weekofyear(date_day) as int) as week_of_year,
        cast(year({{ date_of_day_number('day_number + 4 - day_of_week') }}) as int) as iso_year, -- that of the week's Thursday
        cast(day(date_day) as int) as day_of_month,
        day_of_week,
        {{ name_of('day_of_week', ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday']) }} as day_name,
        day_of_week >= 6 as is_weekend,
        {% if is_incremental() %}
        is_gone,
        {% endif %}
        {{ run_time() }} as _loaded_at
    from weekdays
)

select * from final
