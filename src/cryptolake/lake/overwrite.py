"""
Overwrites that keep the list of manifests short.

PyIceberg's own keeps, for ever, each manifest that says nothing but which files an earlier snapshot removed, and
merges none: planning a table whose newest file is replaced every few seconds would take longer each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles

if TYPE_CHECKING:
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Transaction

TARGET_BYTES = 8 * 2**20
FEWEST_TO_MERGE = 20


class Overwrite(_OverwriteFiles):
    """A snapshot of *tx* that removes files and adds others."""

    @classmethod
    def of(cls, tx: Transaction, snapshot_properties: dict[str, str]) -> Overwrite:
        """Return the overwrite of the main branch of the table of *tx*, to be used as a context manager."""
        return cls(
            operation=Operation.OVERWRITE,
            transaction=tx,
            io=tx._table.io,  # noqa: SLF001 (as PyIceberg's own)
            snapshot_properties=snapshot_properties,
        )

    def _existing_manifests(self) -> list[ManifestFile]:
        """Return the manifests of older snapshots that still name a file."""
        return [m for m in super()._existing_manifests() if m.has_added_files() or m.has_existing_files()]

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        merging: Any = _ManifestMergeManager(TARGET_BYTES, FEWEST_TO_MERGE, True, self)
        return merging.merge_manifests(manifests)
