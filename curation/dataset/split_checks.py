"""Check that splits do not leak, and count their frames and patients."""

from collections.abc import Mapping, Sequence

import pandas as pd

from sono.curation.core.column_values import SPLITS
from sono.curation.core.errors import SonoError, counted
from sono.curation.dataset.exams import components, exam_ties, train_only


def check_splits(images: pd.DataFrame) -> None:
    """Check that no patient, duplicate group or file is in two splits.

    A study or exam folder with frames of unknown patients must be in one split, too. Frames without
    patient, study and exam folder must be in train, since they may be of a patient in train.
    SonoError that counts the problems and names the first pseudonyms of each.
    """
    placed = images[images["split"].notna()]
    study, exam = exam_ties(placed)
    unknown = " with frames of unknown patients"
    kinds = (
        (placed["patient_id"], ("patient", "patients"), ""),
        (
            placed["patient_group"],
            ("group of patients", "groups of patients"),
            " who may be one (by leading zeros, an unknown hospital, a number in two centers, or "
            "name and birth date)",
        ),
        (placed["duplicate_group"], ("duplicate group", "duplicate groups"), ""),
        (placed["source_id"], ("file", "files"), ""),
        (study, ("study", "studies"), unknown),
        (exam, ("exam folder", "exam folders"), unknown),
    )
    problems = [
        f"{counted(len(torn), *kind)}{more} {'is' if len(torn) == 1 else 'are'} in more than one "
        f"split ({first_ids(torn)})"
        for ids, kind, more in kinds
        if (torn := ids_in_several_splits(ids, placed["split"]))
    ]
    advice = "assign the splits again with `sono split`"
    loose = placed["source_id"][train_only(placed) & (placed["split"] != "train").to_numpy(bool)]
    if len(loose):
        names = first_ids(sorted(loose.unique()))
        problems.append(
            f"{counted(len(loose), 'frame is', 'frames are')} in val or test without patient, "
            f"study and exam folder ({names})"
        )
        advice = "run `sono qc` again, then `sono split`"
    if problems:
        count = counted(len(problems), "problem")
        raise SonoError(f"splits leak: {'; '.join(problems)}; {advice}; {count}")


def empty_splits_warning(images: pd.DataFrame, shares: Mapping[str, float]) -> str:
    """A warning on splits that have a share but no frame, and what to do; "" for none."""
    accepted = images[images["status"] == "accepted"]
    empty = [
        name for name, share in shares.items() if share > 0 and name not in set(images["split"])
    ]
    if not empty or accepted.empty:
        return ""
    names, groups = " and ".join(empty), len(set(components(accepted)))
    last = "; without val, a training keeps its last epoch" if "val" in empty else ""
    return (
        f"no frame is in {names}, because the study has only {counted(groups, 'group')}"
        " of frames of one patient, "
        f"exam or duplicate; add patients, or raise {names} under [splits] in sono.toml{last}"
    )


def ids_in_several_splits(ids: pd.Series, splits: pd.Series) -> list[str]:
    """The `ids` that occur with more than one of `splits`, sorted."""
    pairs = (
        pd.DataFrame({"id": ids.astype(object), "split": splits.astype(object)})
        .dropna()
        .drop_duplicates()
    )
    return sorted(pairs["id"][pairs["id"].duplicated()].unique())


def first_ids(ids: Sequence[str]) -> str:
    """The first five of `ids` as text for a message."""
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def split_counts(images: pd.DataFrame) -> pd.DataFrame:
    """Count frames by plane (rows; "unlabeled" for none) and split (columns).

    The last row, "patients", counts patients.
    """
    placed = images[images["split"].notna()]
    planes = placed["plane"].astype(object).where(placed["plane"].notna(), "unlabeled")
    counts = pd.crosstab(planes, placed["split"]).reindex(columns=list(SPLITS), fill_value=0)
    counts.loc["patients"] = (
        placed.groupby("split")["patient_id"].nunique().reindex(list(SPLITS), fill_value=0)
    )
    return counts.rename_axis(index="plane", columns=None)


def possible_counts(images: pd.DataFrame, rows: pd.Index | None = None) -> dict[str, int]:
    """Count patients who may be the same as another patient, and their accepted frames.

    With `rows`, only these are counted. The result is {} if there are none.
    """
    patients = images.groupby("patient_group")["patient_id"].transform("nunique")
    found = images[(images["status"] == "accepted") & images["patient_id"].notna() & (patients > 1)]
    found = found if rows is None else found.loc[found.index.intersection(rows)]
    return (
        {"frames": len(found), "patients": int(found["patient_id"].nunique())} if len(found) else {}
    )
