"""Statistics of a dataset, counted from its tables, for the report and `sono stats`."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from sono.curation.clinical.gestational_age import weeks_and_days
from sono.curation.core.column_values import (
    CAPTION_STATES,
    LEVELS,
    MASK_STATES,
    SPLITS,
    STATUSES,
    TIERS,
    TRAINED_STATES,
)
from sono.curation.core.errors import counted
from sono.curation.core.planes import NO_PLANE, OTHER, PLANE_UNKNOWN, PlaneTable
from sono.curation.core.reasons import REASONS, SEVERITIES
from sono.curation.core.tables import usable_captions
from sono.curation.dataset.split_checks import ids_in_several_splits

DAYS_A_WEEK = 7
UNKNOWN = "unknown"
UNSPLIT = "none"
QUALITY_MEASURES = (
    "brightness",
    "contrast",
    "clipped_dark",
    "clipped_bright",
    "peak",
    "sharpness",
    "speckle",
    "shadow",
    "blockiness",
    "sector_fraction",
    "overlay",
    "strokes",
    "doppler",
    "known_kind",
)
PERCENTILES = (5, 25, 50, 75, 95)
IMAGE_COLUMNS = (
    "image_id",
    "source_id",
    "patient_id",
    "patient_group",
    "study_id",
    "center",
    "machine",
    "plane",
    "region",
    "ga_days",
    "status",
    "reasons",
    "split",
    "duplicate_group",
    "duplicate_kind",
    *QUALITY_MEASURES,
)  # columns of the images table that are used here


@dataclass(frozen=True)
class Statistics:
    """Counts of a study; those that describe content count accepted frames only."""

    # frames, files, accepted, and distinct patients, studies, centers, machines among accepted
    frames: dict[str, int]
    status: dict[str, int]
    # code, status, meaning, frames: each frame not accepted, under its most serious reason
    exclusions: pd.DataFrame
    reasons: pd.DataFrame  # code, status, meaning, frames: every code of any frame
    center: pd.DataFrame  # center, frames, accepted, patients, machines, with_plane, with_ga
    machine: pd.DataFrame  # machine, frames, accepted, patients
    # plane, name, region, frames, patients, one column per split; table order, then other, unknown
    plane: pd.DataFrame
    region: dict[str, int]
    ga_weeks: dict[int, int]  # completed weeks: frames, without gaps
    ga: dict[str, float | None]  # known, missing, and in weeks: min, median, max
    split: pd.DataFrame  # split, frames, patients
    frames_per_patient: dict[str, float | None]
    duplicates: dict[str, int]
    # patients (those who may be one count as one) and duplicate groups in several splits
    leaks: dict[str, int]
    quality: pd.DataFrame  # center, measure, p5, p25, p50, p75, p95
    masks: pd.DataFrame  # structure, source, one column per state
    mask_totals: dict[str, int]  # masks, by state, usable, trained_on, frames_with_masks
    trained_states: tuple[str, ...]  # the states of masks that training uses
    captions: pd.DataFrame  # template, level, one column per tier; without those that are wrong
    caption_reviews: dict[str, int]  # corrected by a reviewer, or marked as wrong and not used
    caption_tokens: dict[str, float | None]

    @property
    def age_range(self) -> str:
        """`11+0 to 37+6 weeks, median 28+0`: the ages of the frames whose age is known."""
        days = [round(DAYS_A_WEEK * float(self.ga[name] or 0)) for name in ("min", "max", "median")]
        low, high, middle = ("{}+{}".format(*weeks_and_days(one)) for one in days)
        return f"{low} to {high} weeks, median {middle}"

    def _ages(self) -> str:
        """The ages of frames for the terminal."""
        known = int(self.ga["known"] or 0)
        counts = f"{counted(known, 'frame')} with, {self.ga['missing']} without"
        return f"{counts}; {self.age_range}" if known else counts

    def headline(self) -> dict[str, Any]:
        """The numbers for a terminal; the report has all of them."""
        planes = self.plane[self.plane["frames"] > 0]
        return {
            **self.frames,
            "status": self.status,
            "not_accepted": self.exclusions.set_index("code")["frames"].to_dict(),
            "planes": dict(zip(planes["plane"], planes["frames"], strict=True)),
            "gestational_age": self._ages(),
            "split": dict(zip(self.split["split"], self.split["frames"], strict=True)),
            "duplicates": self.duplicates,
            "leaks": self.leaks,
            "masks": {"all": self.mask_totals["masks"]}
            | {name: count for name, count in self.mask_totals.items() if name != "masks"},
            "mask_states_trained_on": ", ".join(self.trained_states),
            "captions": self._captions_by_level(),
            "captions_reviewed": self.caption_reviews if any(self.caption_reviews.values()) else {},
        }

    def _captions_by_level(self) -> dict[str, int]:
        counts = self.captions.groupby("level", sort=False)[list(TIERS)].sum().sum(axis=1)
        return {str(level): int(count) for level, count in counts.items()}

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON: tables are lists of rows, missing numbers are null."""
        return {field.name: _json_value(getattr(self, field.name)) for field in fields(self)}


def compute_statistics(
    images: pd.DataFrame,
    masks: pd.DataFrame,
    captions: pd.DataFrame,
    planes: PlaneTable,
    trained_states: tuple[str, ...] = TRAINED_STATES,
) -> Statistics:
    """Count the three tables of a study; masks and captions may be empty."""
    accepted = images[images["status"] == "accepted"]
    by_plane = _by_plane(accepted, planes)
    used = usable_captions(captions)
    return Statistics(
        frames=_headline(images, accepted),
        status=_in_order(images["status"], STATUSES),
        exclusions=_exclusions(images),
        reasons=_reason_table(images["reasons"].explode().dropna()),
        center=_by_center(images),
        machine=_by(images, "machine")[["machine", "frames", "accepted", "patients"]],
        plane=by_plane,
        region=_by_region(accepted, by_plane),
        ga_weeks=_ga_histogram(accepted["ga_days"]),
        ga=_ga_summary(accepted["ga_days"]),
        split=_by_split(accepted),
        frames_per_patient=_spread(accepted.groupby("patient_id").size()),
        duplicates=_duplicates(images),
        leaks=_leaks(accepted),
        quality=_quality(accepted),
        masks=_mask_table(masks),
        mask_totals=_mask_totals(masks, accepted, trained_states),
        trained_states=trained_states,
        captions=_caption_table(used),
        caption_reviews=_in_order(captions["state"], CAPTION_STATES),
        caption_tokens=_spread(used["tokens"].dropna()),
    )


def _headline(images: pd.DataFrame, accepted: pd.DataFrame) -> dict[str, int]:
    counts = {
        "frames": len(images),
        "files": images["source_id"].nunique(),
        "accepted": len(accepted),
    }
    names = {
        "patients": "patient_id",
        "studies": "study_id",
        "centers": "center",
        "machines": "machine",
    }
    return {name: int(count) for name, count in counts.items()} | {
        name: int(accepted[column].nunique()) for name, column in names.items()
    }


def _in_order(values: pd.Series, order: tuple[str, ...]) -> dict[str, int]:
    counts = values.value_counts()
    return {name: int(counts.get(name, 0)) for name in order}


def _exclusions(images: pd.DataFrame) -> pd.DataFrame:
    out = images[images["status"] != "accepted"]
    first = [
        _deciding_code(codes, status)
        for codes, status in zip(out["reasons"], out["status"], strict=True)
    ]
    return _reason_table(pd.Series(first, dtype="object"))


def _deciding_code(codes: object, status: str) -> str:
    """The code that decided a frame's status, else the status itself."""
    # an array
    listed = [] if codes is None or isinstance(codes, float) else list(codes)  # type: ignore[call-overload]
    return next(
        (code for code in listed if code in REASONS and REASONS[code].status == status), status
    )


def _reason_table(codes: pd.Series) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for code, frames in codes.value_counts().items():
        reason = REASONS.get(str(code))
        status, meaning = (
            (reason.status, reason.meaning) if reason else (str(code), "no reason recorded")
        )
        rows.append({"code": code, "status": status, "meaning": meaning, "frames": int(frames)})
    rows.sort(key=lambda row: (-SEVERITIES.index(row["status"]), -row["frames"], row["code"]))
    return pd.DataFrame(rows, columns=["code", "status", "meaning", "frames"])


def _by(images: pd.DataFrame, column: str) -> pd.DataFrame:
    """Frames, accepted frames and patients by the values of `column`, the most frequent first."""
    keyed = images.assign(**{column: images[column].fillna(UNKNOWN)})
    accepted = keyed[keyed["status"] == "accepted"]
    counts = {
        "frames": keyed.groupby(column).size(),
        "accepted": accepted.groupby(column).size(),
        "patients": accepted.groupby(column)["patient_id"].nunique(),
        "machines": accepted.groupby(column)["machine"].nunique(),
        "with_plane": accepted.groupby(column)["plane"].count(),
        "with_ga": accepted.groupby(column)["ga_days"].count(),
    }
    table = pd.DataFrame(counts).fillna(0).astype(int).rename_axis(column).reset_index()
    return table.sort_values(["frames", column], ascending=[False, True], ignore_index=True)


def _by_center(images: pd.DataFrame) -> pd.DataFrame:
    return _by(images, "center")


def _by_plane(accepted: pd.DataFrame, planes: PlaneTable) -> pd.DataFrame:
    """One row per plane in table order, also planes without frames, then other and unknown."""
    keyed = accepted.assign(
        plane=accepted["plane"].fillna(UNKNOWN), split=accepted["split"].fillna(UNSPLIT)
    )
    known = [(plane.id, plane.name, plane.region) for plane in planes.planes]
    extra = sorted(set(keyed["plane"]) - {*planes.by_id, OTHER, UNKNOWN})
    rows = [
        *known,
        *((name, name, "") for name in extra),
        (OTHER, NO_PLANE, ""),
        (UNKNOWN, PLANE_UNKNOWN, ""),
    ]
    table = pd.DataFrame(rows, columns=["plane", "name", "region"]).set_index("plane")
    table["frames"] = keyed.groupby("plane").size()
    table["patients"] = keyed.groupby("plane")["patient_id"].nunique()
    for split in (*SPLITS, UNSPLIT):
        table[split] = keyed[keyed["split"] == split].groupby("plane").size()
    counts = ["frames", "patients", *SPLITS, UNSPLIT]
    table[counts] = table[counts].fillna(0).astype(int)
    return table.reset_index()


def _by_region(accepted: pd.DataFrame, by_plane: pd.DataFrame) -> dict[str, int]:
    """Frames per region, by the plane, else by the record where the table lacks the plane."""
    of_plane = dict(zip(by_plane["plane"], by_plane["region"], strict=True))
    named = accepted["plane"].map(of_plane).replace("", None)
    counts = named.fillna(accepted["region"]).fillna(UNKNOWN).value_counts()
    return {
        str(region): int(frames)
        for region, frames in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    }


def _ga_histogram(ga_days: pd.Series) -> dict[int, int]:
    weeks = ga_days.dropna().astype(int) // DAYS_A_WEEK
    counts = weeks.value_counts()
    return (
        {week: int(counts.get(week, 0)) for week in range(weeks.min(), weeks.max() + 1)}
        if len(weeks)
        else {}
    )


def _ga_summary(ga_days: pd.Series) -> dict[str, float | None]:
    weeks = ga_days.dropna().astype(float) / DAYS_A_WEEK
    ends = {"min": weeks.min(), "median": weeks.median(), "max": weeks.max()}
    return {"known": len(weeks), "missing": len(ga_days) - len(weeks)} | {
        name: round(float(value), 2) if len(weeks) else None for name, value in ends.items()
    }


def _by_split(accepted: pd.DataFrame) -> pd.DataFrame:
    keyed = accepted.assign(split=accepted["split"].fillna(UNSPLIT))
    groups = keyed.groupby("split")
    counts = pd.DataFrame({"frames": groups.size(), "patients": groups["patient_id"].nunique()})
    return counts.reindex([*SPLITS, UNSPLIT], fill_value=0).rename_axis("split").reset_index()


def _spread(values: pd.Series) -> dict[str, float | None]:
    """Count, mean, extremes and quartiles; null where there is no value."""
    numbers = values.to_numpy(dtype=float)
    if not len(numbers):
        return {"count": 0} | dict.fromkeys(("mean", "min", "p25", "median", "p75", "max"))
    low, quarter, half, three, high = (
        float(point) for point in np.percentile(numbers, (0, 25, 50, 75, 100))
    )
    ends = {"min": low, "p25": quarter, "median": half, "p75": three, "max": high}
    return {"count": len(numbers), "mean": round(float(numbers.mean()), 2), **ends}


def _duplicates(images: pd.DataFrame) -> dict[str, int]:
    grouped = images.dropna(subset=["duplicate_group"])
    kinds = grouped["duplicate_kind"].value_counts()
    return {
        "groups": int(grouped["duplicate_group"].nunique()),
        "exact": int(kinds.get("exact", 0)),
        "near": int(kinds.get("near", 0)),
        "largest_group": int(grouped.groupby("duplicate_group").size().max())
        if len(grouped)
        else 0,
    }


def _leaks(accepted: pd.DataFrame) -> dict[str, int]:
    # patients who may be one count as their group
    people = accepted["patient_group"].fillna(accepted["patient_id"])
    keys = {"patients": people, "duplicate_groups": accepted["duplicate_group"]}
    return {name: len(ids_in_several_splits(ids, accepted["split"])) for name, ids in keys.items()}


def _quality(accepted: pd.DataFrame) -> pd.DataFrame:
    """Percentiles of each measure by center; measures that a center lacks have no row."""
    rows = []
    for center, frames in accepted.assign(center=accepted["center"].fillna(UNKNOWN)).groupby(
        "center"
    ):
        for measure in QUALITY_MEASURES:
            values = frames[measure].dropna().to_numpy(dtype=float)
            if len(values):
                points = np.percentile(values, PERCENTILES)
                named = {f"p{p}": float(x) for p, x in zip(PERCENTILES, points, strict=True)}
                rows.append({"center": center, "measure": measure} | named)
    return pd.DataFrame(
        rows, columns=["center", "measure", *(f"p{percent}" for percent in PERCENTILES)]
    )


def _mask_table(masks: pd.DataFrame) -> pd.DataFrame:
    table = pd.crosstab([masks["structure"], masks["source"]], masks["state"])
    table = table.reindex(columns=list(MASK_STATES), fill_value=0).astype(int)
    return table.rename_axis(columns=None).reset_index()


def _mask_totals(
    masks: pd.DataFrame, accepted: pd.DataFrame, trained_states: tuple[str, ...]
) -> dict[str, int]:
    """Count masks, by state too, and those of accepted frames: usable, trained on, their frames."""
    known = set(accepted["image_id"])  # pandas' isin takes minutes on millions of Arrow strings
    placed = np.array([image_id in known for image_id in masks["image_id"]], bool)
    usable = masks[(masks["state"] != "rejected").to_numpy(bool) & placed]
    return {
        "masks": len(masks),
        **_in_order(masks["state"], MASK_STATES),
        "usable": len(usable),
        "trained_on": int(usable["state"].isin(trained_states).sum()),
        "frames_with_masks": int(usable["image_id"].nunique()),
    }


def _caption_table(captions: pd.DataFrame) -> pd.DataFrame:
    table = pd.crosstab([captions["template"], captions["level"]], captions["tier"])
    levels = [
        (template, level) for template in sorted(set(captions["template"])) for level in LEVELS
    ]
    table = table.reindex(
        index=pd.MultiIndex.from_tuples(levels, names=["template", "level"]), fill_value=0
    )
    return (
        table.reindex(columns=list(TIERS), fill_value=0)
        .astype(int)
        .rename_axis(columns=None)
        .reset_index()
    )


def _json_value(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return [
            {str(key): _json_value(cell) for key, cell in row.items()}
            for row in value.to_dict("records")
        ]
    if isinstance(value, dict):
        return {str(key): _json_value(cell) for key, cell in value.items()}
    if isinstance(value, np.generic):
        return _json_value(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
