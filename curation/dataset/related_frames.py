"""Frames related to others by patient, exam, duplicates or center, which an evaluation excludes."""

from collections.abc import Collection, Sequence

import pandas as pd

from sono.curation.core.errors import SonoError, counted, near_match
from sono.curation.dataset.exams import exam_ties
from sono.curation.records.centers import centers_called, like_centers


def related_rows(
    frames: pd.DataFrame,
    images: pd.DataFrame,
    image_ids: Collection[str],
    patients: Collection[str],
) -> "pd.Series[bool]":
    """Whether each of `frames` [rows] is related to the `image_ids` or the `patients`.

    A frame is related if it is one of these images or a near duplicate of one, or if its patient is
    that of one of these images, or one of these patients, or may be. It is also related if it
    shares a study or exam folder with one of these images and the folder contains frames of unknown
    patients.
    """
    known = images["image_id"].isin(list(image_ids))
    groups = set(images.loc[known, "duplicate_group"].dropna())
    patients = {*patients, *images.loc[known, "patient_id"].dropna()}
    own = known | images["patient_id"].isin(list(patients))
    possible = set(images.loc[own, "patient_group"].dropna())
    tied = pd.Series(False, index=frames.index)
    for ids in exam_ties(images):
        own = ids[images["image_id"].isin(frames["image_id"]).to_numpy(bool)]
        near = set(images.loc[own.index[own.isin(set(ids[known].dropna()))], "image_id"])
        tied |= frames["image_id"].isin(near)
    return (
        tied
        | frames["image_id"].isin(list(image_ids))
        | frames["patient_id"].isin(list(patients))
        | frames["patient_group"].isin(list(possible))
        | frames["duplicate_group"].isin(list(groups))
    )


def training_rows(images: pd.DataFrame, hold_out: Sequence[str]) -> pd.DataFrame:
    """The accepted rows that are unrelated to the centers of `hold_out`.

    They share no center, patient, exam folder or duplicate group with a held-out center. A held-out
    center matches in any spelling, and so do centers that may be the same by their names (North
    General for North). Rows without a center are excluded, since they may come from a held-out
    center. Raises SonoError for an unknown center.
    """
    accepted = images[images["status"] == "accepted"]
    if not hold_out:
        return accepted
    _check_centers(images, hold_out)
    centers = like_centers(hold_out, images["center"].dropna().unique())
    held = images[images["center"].isin(centers)]
    keep = accepted["center"].notna() & ~accepted["center"].isin(centers)
    for column in ("patient_id", "patient_group", "exam_id", "duplicate_group", "image_id"):
        keep &= ~accepted[column].astype(object).isin(set(held[column].dropna()))
    if not keep.any():
        raise SonoError(
            f"nothing is left to train on without {', '.join(hold_out)}; hold out fewer centers"
        )
    return accepted[keep]


def _check_centers(images: pd.DataFrame, hold_out: Sequence[str]) -> None:
    counts = images["center"].value_counts().sort_index()
    for center in hold_out:
        if not centers_called(center, counts.index):
            known = ", ".join(
                f"{name} ({counted(count, 'frame')})" for name, count in counts.items()
            )
            raise SonoError(
                f"unknown center '{center}'{near_match(center, counts.index)}; known: "
                f"{known or 'none, run `sono qc` with --center or --center-from'}"
            )
