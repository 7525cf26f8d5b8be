{{ config(unique_key=['venue', 'symbol'], tags=['trades']) }}

-- One row an instrument, declared or captured; what is captured and not declared has a null coin.

with declared as (
{{ declared_instruments() }}
),

captured as (
    select distinct venue, symbol
    from {{ ref('held_ids') }}
),

instruments as (
    select *
    from declared
    union all
    select
        c.venue,
        c.symbol,
        cast(null as {{ dbt.type_string() }}) as coin_id,
        cast(null as {{ dbt.type_string() }}) as base_currency,
        cast(null as {{ dbt.type_string() }}) as quote_currency,
        false as is_reference
    from captured as c
    anti join declared as d on d.venue = c.venue and d.symbol = c.symbol
),

final as (
    select
        *,
        {% if is_incremental() %}
        false as is_gone,
        {% endif %}
        {{ run_time() }} as _loaded_at
    from instruments
    {% if is_incremental() %}
    union all
    select
        t.venue,
        t.symbol,
        t.coin_id,
        t.base_currency,
        t.quote_currency,
        t.is_reference,
        true as is_gone,
        t._loaded_at
    from {{ this }} as t
    anti join instruments as i on i.venue = t.venue and i.symbol = t.symbol
    {% endif %}
)

select * from final
