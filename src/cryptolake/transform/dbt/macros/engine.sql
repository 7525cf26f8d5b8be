{# The only places where engines are written differently.

   A fold goes over a list from left to right, so that every engine adds the same doubles in the
   same order and gets the same bits, wherever a window's partition starts. #}

{% macro day_number(date) %}{{ return(adapter.dispatch('day_number')(date)) }}{% endmacro %}
{% macro duckdb__day_number(date) %}date_diff('day', date '1970-01-01', {{ date }}){% endmacro %}
{% macro spark__day_number(date) %}unix_date({{ date }}){% endmacro %}

{% macro date_of_day_number(number) %}{{ return(adapter.dispatch('date_of_day_number')(number)) }}{% endmacro %}
{% macro duckdb__date_of_day_number(number) %}date '1970-01-01' + cast({{ number }} as int){% endmacro %}
{% macro spark__date_of_day_number(number) %}date_add(date '1970-01-01', cast({{ number }} as int)){% endmacro %}

{% macro timestamp_of_ms(ms) %}{{ return(adapter.dispatch('timestamp_of_ms')(ms)) }}{% endmacro %}
{% macro duckdb__timestamp_of_ms(ms) %}make_timestamptz(({{ ms }}) * 1000){% endmacro %}
{% macro spark__timestamp_of_ms(ms) %}timestamp_millis({{ ms }}){% endmacro %}

{% macro timestamp_literal(text) %}{{ return(adapter.dispatch('timestamp_literal')(text)) }}{% endmacro %}
{% macro duckdb__timestamp_literal(text) %}timestamptz '{{ text }}'{% endmacro %}
{% macro spark__timestamp_literal(text) %}timestamp '{{ text }}'{% endmacro %}

{# One row a day from first to last; stands alone in its select, as Spark wants it. #}
{% macro date_series(first, last) %}{{ return(adapter.dispatch('date_series')(first, last)) }}{% endmacro %}
{% macro duckdb__date_series(first, last) %}unnest(generate_series({{ first }}, {{ last }}, interval 1 day)){% endmacro %}
{% macro spark__date_series(first, last) %}explode(sequence({{ first }}, {{ last }}, interval 1 day)){% endmacro %}

{# An aggregate, also over a frame: the values in order. DuckDB keeps nulls, Spark drops them. #}
{% macro list_of(value) %}{{ return(adapter.dispatch('list_of')(value)) }}{% endmacro %}
{% macro duckdb__list_of(value) %}list({{ value }}){% endmacro %}
{% macro spark__list_of(value) %}collect_list({{ value }}){% endmacro %}

{# An aggregate: the values that are not null, in the order of another column. #}
{% macro ordered_list(value, by) %}{{ return(adapter.dispatch('ordered_list')(value, by)) }}{% endmacro %}
{% macro duckdb__ordered_list(value, by) -%}
coalesce(list({{ value }} order by {{ by }}) filter (where {{ value }} is not null), [])
{%- endmacro %}
{% macro spark__ordered_list(value, by) -%}
transform(array_sort(collect_list(case when {{ value }} is not null then struct({{ by }}, {{ value }} as v) end)), s -> s.v)
{%- endmacro %}

{% macro list_length(list) %}{{ return(adapter.dispatch('list_length')(list)) }}{% endmacro %}
{% macro duckdb__list_length(list) %}len({{ list }}){% endmacro %}
{% macro spark__list_length(list) %}size({{ list }}){% endmacro %}

{% macro list_sum(list) %}{{ return(adapter.dispatch('list_sum')(list)) }}{% endmacro %}
{% macro duckdb__list_sum(list) %}list_reduce({{ list }}, lambda a, x: a + x, cast(0 as double)){% endmacro %}
{% macro spark__list_sum(list) %}aggregate({{ list }}, 0D, (a, x) -> a + x){% endmacro %}

{# The sum of the squared distances from a mean. #}
{% macro list_squares(list, mean) %}{{ return(adapter.dispatch('list_squares')(list, mean)) }}{% endmacro %}
{% macro duckdb__list_squares(list, mean) -%}
list_reduce({{ list }}, lambda a, x: a + (x - {{ mean }}) * (x - {{ mean }}), cast(0 as double))
{%- endmacro %}
{% macro spark__list_squares(list, mean) -%}
aggregate({{ list }}, 0D, (a, x) -> a + (x - {{ mean }}) * (x - {{ mean }}))
{%- endmacro %}

{# How many times n microseconds fit between 1970 and a timestamp; and the timestamp at a number of microseconds. #}
{% macro bucket_of(timestamp, us) %}{{ return(adapter.dispatch('bucket_of')(timestamp, us)) }}{% endmacro %}
{% macro duckdb__bucket_of(timestamp, us) %}epoch_us({{ timestamp }}) // {{ us }}{% endmacro %}
{% macro spark__bucket_of(timestamp, us) %}unix_micros({{ timestamp }}) div {{ us }}{% endmacro %}

{% macro timestamp_of_us(us) %}{{ return(adapter.dispatch('timestamp_of_us')(us)) }}{% endmacro %}
{% macro duckdb__timestamp_of_us(us) %}make_timestamptz({{ us }}){% endmacro %}
{% macro spark__timestamp_of_us(us) %}timestamp_micros({{ us }}){% endmacro %}

{# The product of two decimals(28, 12) as a decimal(38, 24), exact or an error. Spark: with allowPrecisionLoss = false. #}
{% macro exact_product(a, b) %}{{ return(adapter.dispatch('exact_product')(a, b)) }}{% endmacro %}
{% macro duckdb__exact_product(a, b) %}cast({{ a }} as decimal(38, 12)) * cast({{ b }} as decimal(38, 12)){% endmacro %}
{% macro spark__exact_product(a, b) %}cast({{ a }} * {{ b }} as decimal(38, 24)){% endmacro %}

{# The double that is nearest to a decimal. #}
{% macro double_of(decimal) %}{{ return(adapter.dispatch('double_of')(decimal)) }}{% endmacro %}
{% macro duckdb__double_of(decimal) %}cast(cast({{ decimal }} as varchar) as double){% endmacro %}
{% macro spark__double_of(decimal) %}cast({{ decimal }} as double){% endmacro %}

{# A part of a lake table, by file: on DuckDB the plugin makes the view that a model names; Spark prunes by itself. #}
{% macro narrowed(table, how) %}{{ return(adapter.dispatch('narrowed')(table, how)) }}{% endmacro %}
{% macro duckdb__narrowed(table, how) -%}
{%- if table is string or table.is_cte -%}{{ table }}{%- else -%}"{{ table.schema }}.{{ table.identifier }} {{ how }}"{%- endif -%}
{%- endmacro %}
{% macro spark__narrowed(table, how) %}{{ table }}{% endmacro %}
