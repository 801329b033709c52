"""A table that is read in batches has the rows of the table, and the same checks."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sono.curation.core import table_batches
from sono.curation.core.errors import SonoError
from sono.curation.core.table_batches import read_batches
from sono.curation.core.tables import CAPTIONS, from_rows, read_table, write_table


def _captions(count: int) -> pd.DataFrame:
    row = {"level": "global", "template": "t", "tier": "label", "tokens": 9}
    rows = [row | {"image_id": f"{n:04}", "text": f"Text {n}."} for n in range(count)]
    return from_rows(CAPTIONS, rows)


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_batches_are_the_table_and_count_its_rows(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_batches, "ROWS", rows)
    path, columns = tmp_path / "captions.parquet", ["text", "tokens", "reviewer"]
    write_table(path, _captions(7), CAPTIONS)
    batches = list(read_batches(path, CAPTIONS, columns))
    assert len(batches) == -(-7 // rows) and max(map(len, batches)) == min(rows, 7)
    pd.testing.assert_frame_equal(pd.concat(batches), read_table(path, CAPTIONS, columns))


def test_a_bad_cell_and_a_damaged_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_batches, "ROWS", 3)
    path = tmp_path / "captions.parquet"
    table = pa.Table.from_pandas(_captions(7), schema=CAPTIONS.schema, preserve_index=False)
    levels = pa.array(["global"] * 5 + ["nowhere", "global"])
    pq.write_table(table.set_column(table.schema.get_field_index("level"), "level", levels), path)
    with pytest.raises(SonoError, match=r"after row 3: row 3: column 'level' has 'nowhere'"):
        list(read_batches(path, CAPTIONS, ["level"]))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SonoError, match="not a readable Parquet table"):
        list(read_batches(path, CAPTIONS, ["level"]))
