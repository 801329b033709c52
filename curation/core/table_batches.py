"""Read and write a table in batches, so that it never has to be in memory as a whole."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sono.curation.core.atomic import atomic_path
from sono.curation.core.errors import SonoError
from sono.curation.core.table_checks import (
    STUDY,
    TableSpec,
    arrow_of,
    check_rows,
    readable,
    to_pandas,
    typed,
    with_new_columns,
)

ROWS = 1 << 16  # that are in memory at a time


def read_batches(
    path: Path, spec: TableSpec, columns: Sequence[str], study: str = ""
) -> Iterator[pd.DataFrame]:
    """Yield some columns of a table, `ROWS` rows at a time; the index counts rows of the table.

    Rows are checked as by `read_table`, but keys are compared within a batch alone.
    """
    start = 0
    with readable(path, spec, study) as file:
        present = [name for name in columns if name in file.schema_arrow.names]
        for rows in file.iter_batches(ROWS, columns=present):
            table = pa.Table.from_batches([rows])
            table.validate(full=True)
            where = f"{path}: after row {start:,}" if start else str(path)
            table = typed(with_new_columns(table, spec, columns), spec, where)
            check_rows(table, spec, where)
            frame = to_pandas(table)
            yield frame.set_axis(range(start, start + len(frame)))
            start += len(frame)


@contextmanager
def write_batches(
    path: Path, spec: TableSpec, study: str
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that checks, sorts and writes a batch; the table is there after the block.

    A batch is a row group, and what follows it has larger values in the first column of the key.
    Raises SonoError for rows that `write_table` refuses, or a batch that is not behind the last.
    """
    mark = {b"sono_table": spec.name.encode(), STUDY: study.encode()}
    first, last = spec.key[0], ""
    with atomic_path(path) as temporary:
        schema = spec.schema.with_metadata(mark)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

            def write(batch: pd.DataFrame) -> None:
                nonlocal last
                ordered = batch.sort_values(list(spec.key), na_position="first", kind="stable")
                table = arrow_of(ordered, spec, str(path))
                if len(table) and str(ordered[first].iloc[0]) <= last:
                    raise SonoError(f"{path}: rows of {first} {last} are in two batches")
                last = str(ordered[first].iloc[-1]) if len(table) else last
                writer.write_table(table.replace_schema_metadata(mark))

            yield write
