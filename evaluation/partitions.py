"""Who is in each partition of a study: frames, patients, ages, planes, machines, mothers."""

from collections.abc import Collection, Iterator

import pandas as pd

from sono.curation.clinical.gestational_age import weeks_and_days
from sono.evaluation.statistics.bootstrap import cluster_index

HEADINGS = (
    "partition", "frames", "patients", "age in weeks: median (range)", "planes", "machines",
    "BMI 30 and above", "parous",
)  # fmt: skip
UNKNOWN = "unknown"


def partition_rows(images: pd.DataFrame, held_out: Collection[str]) -> list[tuple[str, ...]]:
    """A row of texts for each split, and for each held-out center, of accepted frames [images]."""
    parts = images["split"].astype(object).fillna("no split")
    outside = images["center"].isin(held_out)
    parts = parts.where(~outside, "center " + images["center"].astype(object))
    order = [name for name in ("train", "val", "test") if name in set(parts)]
    order += sorted(set(parts) - set(order))
    return [tuple(_cells(name, images[parts == name])) for name in order]


def machine_counts(images: pd.DataFrame) -> str:
    """The machines with their frames, the most frequent ones first."""
    counts = images["machine"].value_counts()
    named = [f"{name} ({count})" for name, count in counts.head(10).items()]
    more = [f"{len(counts) - 10} others"] if len(counts) > 10 else []
    unknown = int(images["machine"].isna().sum())
    return ", ".join([*named, *more, *([f"{UNKNOWN} ({unknown})"] if unknown else [])])


def _cells(name: str, frames: pd.DataFrame) -> Iterator[str]:
    yield name
    yield str(len(frames))
    clusters = cluster_index(frames["patient_id"], frames["study_id"], frames["source_id"])
    yield str(len(set(clusters.tolist())))
    yield _ages(frames["ga_days"].dropna())
    yield str(frames["plane"].nunique())
    yield str(frames["machine"].nunique() or UNKNOWN)
    for column, value in (("bmi_band", "30 and above"), ("parity", "parous")):
        known = frames[column].dropna()
        yield f"{100 * (known == value).mean():.0f} % of {len(known)}" if len(known) else UNKNOWN


def _ages(days: "pd.Series[int]") -> str:
    if days.empty:
        return UNKNOWN
    middle, low, high = (weeks_and_days(int(each))[0] for each in days.quantile([0.5, 0, 1]))
    return f"{middle} ({low} to {high}); of {len(days)}"
