"""
Refine the lake: bronze to silver to gold, by one dbt project.

===================  =================================================================
`dbt/`               the project: models, their tests, and the macros that engines differ in
`run.py`             `Transform`: run the project in this process
`narrowing.py`       parts of tables: what is new to a model, and what lies around it
`instruments.py`     what the instruments are: the one declared file
`iceberg_plugin.py`  what dbt-duckdb loads: shows dbt the lake's tables, commits what models select
===================  =================================================================
"""
