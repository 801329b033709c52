"""The published partition of a records table, as set by `[splits] column` in `sono.toml`."""

from dataclasses import dataclass

import pandas as pd

from sono.curation.core.errors import SonoError, counted
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.splits import SplitConfig
from sono.curation.records.partition import missing_column, partition_remark, read_partition
from sono.curation.records.table_reading import TableReading


@dataclass(frozen=True)
class PublishedSplits:
    """The split of each line of the records table, and a remark on its column."""

    splits: dict[int, str]
    column: str = ""  # the column that is used
    remark: str = ""

    def remarks(self, own: pd.DataFrame) -> list[str]:
        """Remarks on the partition, given the rows `own` of this folder."""
        accepted = own[own["status"] == "accepted"]
        without = int(accepted["partition"].isna().sum())
        if self.column and without:
            return [
                f"{counted(without, 'accepted frame has', 'accepted frames have')}"
                f" no value in '{self.column}' and {'is' if without == 1 else 'are'} split as usual"
            ]
        return [self.remark] if self.remark else []


def published_splits(workspace: Workspace, reading: TableReading | None) -> PublishedSplits:
    """Read the splits of a records table from the column set by `[splits] column`.

    Raises SonoError if neither this table nor an earlier one of the workspace has the column.
    """
    if reading is None:
        return PublishedSplits({})
    splits = workspace.settings("splits", SplitConfig)
    if not splits.column:
        return PublishedSplits({}, remark=partition_remark(reading.sheet))
    found = read_partition(reading, splits.column, splits.values)
    if found is not None:
        return PublishedSplits(found, splits.column)
    missing = missing_column(reading, splits.column)
    if workspace.sources(["partition"])["partition"].isna().all():
        raise SonoError(f"{missing}; correct [splits] column in sono.toml, or remove it")
    return PublishedSplits({}, remark=f"{missing}; its frames are split as usual")
