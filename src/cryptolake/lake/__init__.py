"""
The lake: Iceberg tables, committed by PyIceberg and read by DuckDB in the same process.

=================  =================================================================
`lake.py`          `Lake`: open a catalog; create, read, append to and merge into tables
`catalog.py`       open any PyIceberg catalog; durable settings for the SQLite one
`commit.py`        one snapshot per change, compare and swap, with a stream position
`retention.py`     which snapshots a commit expires
`evolve.py`        hold a table against its contract and apply additive changes
`scan.py`          a snapshot as DuckDB SQL, columns resolved by Iceberg field id
`reader.py`        `Reader`: a DuckDB connection with one view a table, now or as of a time
`maintenance.py`   compact small files, expire snapshots, remove orphans
`durable_io.py`    files that are on disk before the catalog names them
`faults.py`        what the storage and the catalog say when they break, as `LakeError`
=================  =================================================================

Only this room knows PyIceberg's internals.
"""

from cryptolake.lake.commit import Committed, Position
from cryptolake.lake.lake import Lake
from cryptolake.lake.maintenance import Maintained
from cryptolake.lake.reader import Reader

__all__ = ["Committed", "Lake", "Maintained", "Position", "Reader"]
