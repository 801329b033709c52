"""What `sono qc` says about the frames of a folder at its end."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from sono.curation.core.reasons import CONTAINERS
from sono.curation.core.tables import Row
from sono.curation.dataset.exams import orphan_counts, orphan_sentence
from sono.curation.dataset.splits import possible_counts
from sono.curation.records.join_messages import EXAMPLES, Joined, join_remarks, shown_path
from sono.curation.records.table import RecordsTable


def moved(before: pd.DataFrame, images: pd.DataFrame) -> list[str]:
    """A remark where frames of earlier runs changed their split, since one patient or
    duplicates tie them now.
    """
    earlier = before.dropna(subset=["split"]).set_index("image_id")["split"]
    now = images.dropna(subset=["split"]).set_index("image_id")["split"]
    both = earlier.index.intersection(now.index)
    moved = int((earlier[both] != now[both]).sum())
    if not moved:
        return []
    return [
        f"{moved} frames changed their split: they are tied to others now, by a patient or as "
        f"duplicates"
    ]


def orphaned(masks: pd.DataFrame, images: pd.DataFrame) -> list[str]:
    """A remark on masks whose frames are in the table no more.

    Their files were replaced or are gone.
    """
    count = int((~masks["image_id"].isin(images["image_id"])).sum())
    if not count:
        return []
    return [
        f"{count} masks are of frames that are no longer here, since their files were replaced or "
        f"removed; they are "
        "not used: put the files back, or import masks of the new ones"
    ]


def remarks_of(own: pd.DataFrame, records: RecordsTable | None, joined: Joined) -> list[str]:
    """What the user should know, most costly first."""
    accepted = own[own["status"] == "accepted"]
    remarks = []
    orphans = orphan_sentence(orphan_counts(own))
    if orphans:
        remarks.append(
            f"{orphans}; give --records with a patient column, or where every file is of another "
            f"patient "
            'without_patient = "file" under [splits] in sono.toml'
        )
    if possible := possible_counts(own):
        remarks.append(
            f"{possible['patients']} patients ({possible['frames']} frames) may be fewer: their "
            f"ids differ in leading "
            "zeros alone, one OtherPatientID is given for several, frames without a hospital have "
            "a number of two "
            "hospitals, or one number in two centers has one name, birth date or hospital; they "
            "stay in one split; "
            "correct the ids, or give --center"
        )
    if len(accepted) and accepted["plane"].isna().all():
        remarks.append(
            "no plane labels: captions stay general and zero-shot evaluation has nothing to score; "
            + ("no record with a plane was applied" if records is not None else "give --records")
        )
    if len(accepted) and accepted["center"].isna().all():
        remarks.append(
            "no center: `sono train --hold-out` and `sono eval --center` cannot be used; give "
            "--center"
        )
    if records is not None:
        remarks += join_remarks(joined, Counter(accepted["reasons"].explode()))
        datings = int(accepted["reasons"].map(lambda codes: "ga_conflict" in codes).sum())
        if datings:
            remarks.append(
                f"{datings} accepted frames whose gestational age disagrees with a date, CRL or HC "
                f"of their record or "
                "with a structured report; `sono records check` names the rows"
            )
        remarks += records.doubts
        if records.unused:
            remarks.append(
                f"columns that are not used, and whose cells the privacy gate does not search for: "
                f"{', '.join(records.unused)}; if they name persons or hold facts, set them in "
                f"[records.columns]"
            )
        told = records.remarks()
        remarks += told[:5]
        if len(told) > 5:
            remarks.append(
                f"... and {len(told) - 5} more about the records table; `sono records check` tells "
                f"all"
            )
    contradicting = int(accepted["reasons"].map(lambda codes: "report_conflict" in codes).sum())
    if contradicting:
        remarks.append(
            f"{contradicting} accepted frames have a structured report of their study whose header "
            f"is of another "
            "person or exam, so it is not applied; correct the header of the report or of the frame"
        )
    held = int((own["status"] == "quarantined").sum())
    if held:
        remarks.append(
            f"{held} frames wait in the vault's quarantine; `sono quarantine show` draws them, "
            "`sono quarantine release` lets those pass that you looked at"
        )
    conflicts = int(own["reasons"].map(lambda codes: "duplicate_conflict" in codes).sum())
    if conflicts:
        remarks.append(
            f"{conflicts} frames hold the pixels of another whose record states a fact differently "
            f"(patient, center, "
            "machine, plane, age, side, findings, structures, sizes or spacing); see the vault's "
            "quarantine, and "
            "correct the records"
        )
    remarks += _containers(own)
    return remarks


def unread(rows: Sequence[Row], root: bytes, names: bool) -> list[str]:
    """The first files that could not be read, with the reason of each."""
    failed = {
        row["path"]: row["message"]
        for row in rows
        if row["status"] == "error" and set(CONTAINERS).isdisjoint(row["reasons"])
    }
    shown = "; ".join(
        f"{shown_path(path, root, names)}: {message}"
        for path, message in list(failed.items())[:EXAMPLES]
    )
    return (
        [
            f"{len(failed)} files could not be read (as "
            f"{shown}{'' if names else '; --names shows the paths'})"
        ]
        if failed
        else []
    )


def _containers(own: pd.DataFrame) -> list[str]:
    """What the files that are not opened are, and what to do with them.

    Nothing where there are none.
    """
    closed = own[
        own["reasons"].map(lambda codes: not set(CONTAINERS).isdisjoint(codes))
        & own["file_sha256"].notna()
    ]
    kinds = Counter(closed["message"].dropna())
    if not kinds:
        return []
    told = "; ".join(f"{count} {message}" for message, count in sorted(kinds.items()))
    return [f"{sum(kinds.values())} files were not opened, although they may hold frames: {told}"]
