"""
The lake: Iceberg tables, committed by PyIceberg and read by DuckDB in the same process.

=================  =================================================================
`lake.py`          `Lake`: open a catalog; create, read, append to and merge into tables
`catalog.py`       open any PyIceberg catalog; durable settings for the SQLite one
`commit.py`        one snapshot per change, compare and swap, with a stream position
`merge.py`         the rows that a merge changes, and the files that hold them
`rising.py`        the greatest key a table holds, so that newer rows need no look at older ones
`conform.py`       rows in the columns, order and stamps of a table
`encoding.py`      how columns are laid out in Parquet files
`overwrite.py`     overwrites that keep the list of manifests short
`retention.py`     which snapshots a commit expires
`evolve.py`        hold a table against its contract and apply additive changes
`scan.py`          a snapshot as DuckDB SQL, columns resolved by Iceberg field id
`reader.py`        `Reader`: a DuckDB connection with one view a table, now or as of a time
`compaction.py`    few large files of many small ones
`maintenance.py`   compact, expire snapshots, remove orphans
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
