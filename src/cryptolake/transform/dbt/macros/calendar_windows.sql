{# Windows of calendar days of a coin: a RANGE frame over the integer day number.

   A missing day makes the frame shorter, so "every day is there" is "the list has n members".
   A null member makes the figure null on every engine: DuckDB's fold turns null, Spark's list gets shorter. #}

{% macro last_days(value, n) -%}
{{ list_of(value) }} over (partition by coin_id order by day_number range between {{ n - 1 }} preceding and current row)
{%- endmacro %}

{% macro full_mean(list, n) -%}
case when {{ list_length(list) }} = {{ n }} then {{ list_sum(list) }} / {{ n }} end
{%- endmacro %}

{# The sample standard deviation of n values around their mean; null where the mean is. #}
{% macro full_stddev(list, mean, n) -%}
case when {{ mean }} is not null then sqrt({{ list_squares(list, mean) }} / {{ n - 1 }}) end
{%- endmacro %}
