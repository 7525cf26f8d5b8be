{# The name that stands at a number, counted from one. #}
{% macro name_of(number, names) -%}
case {{ number }}{% for name in names %} when {{ loop.index }} then '{{ name }}'{% endfor %} end
{%- endmacro %}

{# When this run takes place; told to dbt, never asked of the engine. #}
{% macro run_time() %}{{ timestamp_literal(var('now')) }}{% endmacro %}

{% macro usable(number) -%}
{{ number }} > 0 and {{ number }} < cast('infinity' as double) {#- NaN sorts above infinity -#}
{%- endmacro %}
