{# How a model's rows reach Iceberg.

   On DuckDB a lake table is a view over its files; the plugin merges what the model selects, by the
   key of the table's contract. A model's row with `is_gone` leaves the table instead. #}

{% macro generate_schema_name(custom, node) %}{{ custom or target.schema }}{% endmacro %}

{# True where a model may build on what is there. A lake table always exists, so the runner says which have rows. #}
{% macro is_incremental() %}
    {%- if target.type != 'duckdb' -%}{{ return(dbt.is_incremental()) }}{%- endif -%}
    {{ return(model.config.materialized == 'incremental' and not should_full_refresh() and (this.schema ~ '.' ~ this.identifier) in var('built')) }}
{% endmacro %}

{# The newest load of bronze that a silver table has seen. `_loaded_at` rises with every commit of a bronze table,
   so later rows are exactly those that it has not seen. #}
{% macro processed_up_to(only='true') -%}
(select coalesce(max(_processed_at), {{ timestamp_literal('1970-01-01 00:00:00+00:00') }}) from {{ this }} where {{ only }})
{%- endmacro %}

{% macro merge_into_lake(full) %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {% do adapter.store_relation('iceberg_plugin', this, [], '', '', {'sql': model.compiled_code, 'full': full}) %}
    {% call noop_statement('main', 'OK', 'OK') %}{{ model.compiled_code }}{% endcall %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmacro %}

{% materialization table, adapter='duckdb' %}{{ return(merge_into_lake(true)) }}{% endmaterialization %}
{% materialization incremental, adapter='duckdb' %}{{ return(merge_into_lake(should_full_refresh())) }}{% endmaterialization %}
