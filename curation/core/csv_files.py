"""Write tables as CSV."""

from pathlib import Path

import pandas as pd

from sono.curation.core.atomic import atomic_path


def export_csv(path: Path, frame: pd.DataFrame, mode: int = 0o644) -> None:
    """Write a CSV whose text cells are not read as formulas by spreadsheets."""
    safe = frame.apply(lambda column: column.map(plain_cell))
    with atomic_path(path, mode) as temporary:
        safe.to_csv(temporary, index=False, errors="surrogateescape")


def plain_cell(value: object) -> object:
    """The value of a cell; a text that a spreadsheet would read as a formula begins with '."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
