"""
How columns are laid out in Parquet files.

Ids and times that rise from row to row are stored as differences (DELTA_BINARY_PACKED), which PyIceberg
has no option for: a trade takes half the space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.io.fileformat import FileFormatFactory
from pyiceberg.io.pyarrow import ParquetFormatModel, ParquetFormatWriter
from pyiceberg.manifest import FileFormat

if TYPE_CHECKING:
    from pyiceberg.io import OutputFile
    from pyiceberg.schema import Schema
    from pyiceberg.typedef import Properties

    from cryptolake.contracts import Contract

RISING = "cryptolake.parquet.rising-columns"
"""The table property that names the columns to store as differences."""
ROWS_PER_GROUP = 131_072
"""A reader skips row groups by their bounds, and a writer holds one in memory; PyIceberg's default is 1,048,576."""


def encoding_properties(contract: Contract) -> dict[str, str]:
    """Return the table properties that say how files of *contract* are laid out."""
    names = [c.name for c in contract.columns if c.is_rising]
    return {RISING: ",".join(names), "write.parquet.row-group-limit": str(ROWS_PER_GROUP)} if names else {}


def use_encodings() -> None:
    """Let PyIceberg lay out the files of tables with our property as it says; other tables stay as they are."""
    if not isinstance(FileFormatFactory.get(FileFormat.PARQUET), _Model):
        FileFormatFactory._registry[FileFormat.PARQUET] = _Model()  # noqa: SLF001 (`register` accepts no second one)


class _Model(ParquetFormatModel):
    def create_writer(
        self, output_file: OutputFile, file_schema: Schema, properties: Properties
    ) -> ParquetFormatWriter:
        writer = super().create_writer(output_file, file_schema, properties)
        if rising := properties.get(RISING):
            rising_names = rising.split(",")
            writer._parquet_writer_kwargs |= {  # noqa: SLF001 (there is no option for it)
                "column_encoding": dict.fromkeys(rising_names, "DELTA_BINARY_PACKED"),
                "use_dictionary": [n for n in file_schema.column_names if n not in rising_names],
            }
        return writer
