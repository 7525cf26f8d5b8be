{# What a model has not seen yet, and what that touches.

   A table property tells up to which stamp of each input a table was made; the runner hands them in. Stamps
   rise with every commit, so later rows are exactly those that the model has not seen. Where very much is new, the
   runner tells up to which stamp to take it now. #}

{# The newest stamp of an input that this model has seen. #}
{% macro processed_of(input) -%}
{%- if not is_incremental() -%}
{{ timestamp_literal('1970-01-01 00:00:00+00:00') }}
{%- elif input is string or input.is_cte -%}
{{ timestamp_literal(var('unit_tests_processed_up_to')) }}
{%- else -%}
{{ timestamp_literal(var('processed').get(this.schema ~ '.' ~ this.identifier, {}).get(input.schema ~ '.' ~ input.identifier, '1970-01-01 00:00:00+00:00')) }}
{%- endif -%}
{%- endmacro %}

{# The rows of an input that this model has not seen. #}
{% macro new_in(input, stamp='_processed_at') -%}
(select * from {{ narrowed(input, 'new') }} where {{ stamp }} > {{ processed_of(input) }}
{%- if not input.is_cte and var('up_to').get(input.schema ~ '.' ~ input.identifier) %} and {{ stamp }} <= {{ timestamp_literal(var('up_to')[input.schema ~ '.' ~ input.identifier]) }}{% endif %})
{%- endmacro %}

{# The same, but none where no row of the input has left the input, or the time it had, since the model saw it. #}
{% macro moved_in(input, stamp='_processed_at') -%}
(select * from {{ narrowed(input, 'moved') }} where {{ stamp }} > {{ processed_of(input) }})
{%- endmacro %}

{# The rows of an input from the same hours, or days, as those that this model has not seen; all, where rows have moved. #}
{% macro around_new(input, unit) %}{{ narrowed(input, 'around new by ' ~ unit) }}{% endmacro %}

{# The rows of this model that were not complete. #}
{% macro incomplete_so_far() %}(select * from {{ narrowed(this, 'incomplete') }} where not is_complete){% endmacro %}

{# The *rows* of this run; after them, where there were some before, those of `gone`, marked to be removed. #}
{% macro with_gone(rows) -%}
select *{% if is_incremental() %}, false as is_gone{% endif %}, {{ run_time() }} as _processed_at from {{ rows }}
{%- if is_incremental() %}
union all
select *, true as is_gone, {{ run_time() }} as _processed_at from gone
{%- endif %}
{%- endmacro %}

{# Where the ranges of ids of a CTE lie: spans of each instrument, parted only where an eighth of the ids from its first to
   its last is free. So there are at most eight, and a join with them is not quadratic. #}
{% macro spans_of(ranges) -%}
select venue, symbol, min(first_id) as first_id, max(last_id) as last_id
from (
    select
        *,
        sum(case when first_id - reach > width / 8 then 1 else 0 end) over (
            partition by venue, symbol order by first_id, last_id rows between unbounded preceding and current row
        ) as span
    from (
        select
            *,
            max(last_id) over (
                partition by venue, symbol order by first_id, last_id rows between unbounded preceding and 1 preceding
            ) as reach,
            max(last_id) over (partition by venue, symbol) - min(first_id) over (partition by venue, symbol) as width
        from {{ ranges }}
    ) as reaching
) as parted
group by venue, symbol, span
{%- endmacro %}
