"""Measure the masks of a study: head, abdomen and femur, in mm, as a table of the workspace."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sono.annotation.biometry import CONVENTIONS, LOINC, RULES, UnmeasuredError, measure
from sono.annotation.growth import centile, z_score
from sono.annotation.masks import check_masks, masks_of, pixels
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import atomic_path
from sono.curation.core.column_values import RANGES_MM
from sono.curation.core.console import progress
from sono.curation.core.csv_files import export_csv
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import BIOMETRY, Row, from_rows, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_file, check_privacy


@dataclass(frozen=True)
class MeasureSummary:
    """How many masks were measured, the values by measure, and why others were not measured.

    `proposed` of the measured masks are proposals that nobody has reviewed.
    """

    table: Path | None  # None if nothing was measured
    measured_masks: int
    proposed: int
    measures: dict[str, str]
    not_measured: dict[str, int]

    def refuse_nothing(self) -> None:
        """Raise SonoError if no mask was measured."""
        if not self.measured_masks:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.not_measured.items())
            raise SonoError(
                f"no mask was measured ({reasons}); a measurement needs a mask of "
                f"{', '.join(RULES)} on its plane and the pixel spacing of both axes. Give both "
                "with the columns `plane` and `spacing` (mm per pixel) of a records table: sono qc "
                "RAW --records FILE (docs/records.md)"
            )


def measure_masks(
    workspace: Workspace, csv: Path | None = None, no_vault: bool = False
) -> MeasureSummary:
    """Measure all masks that were not rejected and write `biometry.parquet`, perhaps a CSV, too.

    Without any measurement there is no table, and an earlier one is removed. Raises SonoError if
    there are no masks, PrivacyError if the CSV would contain something private.
    """
    if csv is not None:
        workspace.require_vault(no_vault)
        workspace.check_output(csv, ",".join(BIOMETRY.columns).encode())
    frames = workspace.accepted_images().drop_duplicates("image_id")
    masks = masks_of(workspace, frames["image_id"])
    check_masks(masks, frames)
    images = {str(row["image_id"]): row for row in rows_of(frames)}
    rows: list[dict[str, object]] = []
    skipped: Counter[str] = Counter()
    with progress("masks", len(masks)) as advance:
        for mask in rows_of(masks):
            advance()
            try:
                rows += _rows(mask, images[str(mask["image_id"])])
            except UnmeasuredError as error:
                skipped[str(error)] += 1
    table = from_rows(BIOMETRY, rows)
    if table.empty:
        with workspace.lock():
            workspace.path(BIOMETRY).unlink(missing_ok=True)
        return _summary(None, table, skipped)
    with workspace.lock():
        workspace.write(BIOMETRY, table)
        check_privacy(workspace)
    if csv is not None:
        with atomic_path(csv) as temporary:
            export_csv(temporary, table)
            check_file(workspace, temporary, csv.name)
    return _summary(workspace.path(BIOMETRY), table, skipped)


def sizes_of(
    mask: Mask, structure: str, plane: Any, spacing: tuple[float, float]
) -> dict[str, float]:
    """The measures in mm, by name, of a `mask` [H, W] of a `structure` on a `plane`.

    Raises UnmeasuredError if it is not measured there, or not with this shape, spacing and size.
    """
    _refuse_unmeasured(structure, plane, spacing)
    values = measure(mask, (float(spacing[0]), float(spacing[1])), structure)
    for name, value in values.items():
        low, high = RANGES_MM.get(name, (0, np.inf))
        if not low <= value <= high:
            raise UnmeasuredError(f"implausible {name}, outside {low:g} to {high:g} mm")
    return values


def _refuse_unmeasured(structure: str, plane: Any, spacing: tuple[float, float]) -> None:
    rule = RULES.get(structure)
    if rule is None:
        raise UnmeasuredError("structure without a measure")
    if plane not in rule.planes:
        where = "an unknown" if pd.isna(plane) else "another"
        raise UnmeasuredError(f"{structure} on {where} plane")
    if pd.isna(spacing[0]) or pd.isna(spacing[1]):
        raise UnmeasuredError("unknown pixel spacing")


def _rows(mask: Row, image: Mapping[str, Any]) -> list[dict[str, object]]:
    """The rows of one mask; UnmeasuredError if it is not measured."""
    structure, plane = str(mask["structure"]), image["plane"]
    spacing = image["row_spacing_mm"], image["col_spacing_mm"]
    _refuse_unmeasured(structure, plane, spacing)  # before its runs are decoded
    values = sizes_of(pixels(mask), structure, plane, spacing)
    copied = {name: mask[name] for name in ("mask_id", "image_id", "source", "state")}
    facts = {**copied, "patient_id": image["patient_id"], "plane": plane, "structure": structure}
    age = None if pd.isna(image["ga_days"]) else int(image["ga_days"])
    return [
        {
            **facts, "measure": name, "loinc": LOINC[name], "value_mm": round(value, 3),
            **_growth(name, value, age), "convention": CONVENTIONS[name],
        }
        for name, value in values.items()
    ]  # fmt: skip


def _growth(measure: str, value_mm: float, ga_days: int | None) -> dict[str, float | None]:
    """Where a value lies in the growth standards, if it can be said."""
    z = z_score(measure, value_mm, ga_days)
    if z is None:
        return {"z_score": None, "centile": None}
    return {"z_score": round(z, 2), "centile": round(centile(z), 1)}


def _summary(path: Path | None, table: pd.DataFrame, skipped: Counter[str]) -> MeasureSummary:
    measures = {
        str(name): (
            f"{len(values)} masks, median {values.median():.1f} mm, "
            f"{values.min():.1f} to {values.max():.1f} mm"
        )
        for name, values in table.groupby("measure")["value_mm"]
    }
    masks = table.drop_duplicates("mask_id")
    return MeasureSummary(
        path,
        len(masks),
        int((masks["state"] == "proposed").sum()),
        measures,
        dict(skipped.most_common()),
    )
