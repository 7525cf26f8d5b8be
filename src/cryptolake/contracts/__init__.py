"""
Every table said once, as a data contract; schemas, checks and docs are derived from it.

=================  =================================================================
`contract.py`      what a contract promises: `Contract`, `Column`, `Retention`
`load.py`          `load_contracts()`: the ODCS v3 files under `tables/`, parsed and checked
`schemas.py`       the Arrow and Iceberg schemas, partitioning and sort order of a contract
`dictionary.py`    the data dictionary in `docs/reference/`
`tables/`          one Open Data Contract Standard file a table, its only declaration
=================  =================================================================
"""

from cryptolake.contracts.contract import Column, Contract, Partition, Retention
from cryptolake.contracts.load import load_contracts, parse_contract

__all__ = ["Column", "Contract", "Partition", "Retention", "load_contracts", "parse_contract"]
