"""Frames without a known patient: their exam, and which of them must be in train."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.errors import counted
from sono.curation.core.pseudonyms import pseudonym

TRAIN_ONLY = "train only"
# what the split of a frame without a patient depends on
PLACED = "published partition"
BY_FILE = "file"  # its exam is this file alone
FOLLOWED = (
    "name and birth date", "study", "exam folder", BY_FILE, PLACED, "duplicate", TRAIN_ONLY,
)  # fmt: skip


def exam_ids(
    key: bytes, places: Sequence[tuple[bytes, bytes]], images: pd.DataFrame, by_file: bool
) -> list[str | None]:
    """The pseudonym of the exam of each of `images`, by its file and the folder given to `sono qc`.

    An exam is the highest folder below the given one whose files have at most one patient, one
    study and one center; for files directly in the given folder, it is that folder. The result is
    None if every folder has several. With `by_file`, every file is an exam of its own.
    """
    if by_file:
        return [pseudonym(key, "exam", path) for path, _ in places]
    folders = [_folders(path, root) for path, root in places]
    known = [_known(folders, images[name]) for name in ("patient_id", "study_id", "center")]
    exams: dict[bytes, str] = {}
    found: list[str | None] = []
    for names in folders:
        exam = next((name for name in names if all(len(ids[name]) < 2 for ids in known)), None)
        if exam is not None and exam not in exams:
            exams[exam] = pseudonym(key, "exam", exam)
        found.append(None if exam is None else exams[exam])
    return found


def _folders(path: bytes, root: bytes) -> list[bytes]:
    """The folders between `root` and the file at `path`, the highest first.

    It is `root` for a file directly in `root`.
    """
    top, folder = root.rstrip(b"/"), path.rpartition(b"/")[0]
    if not folder.startswith(top + b"/"):
        return [folder]
    parts = folder[len(top) + 1 :].split(b"/")
    return [b"/".join((top, *parts[: depth + 1])) for depth in range(len(parts))]


def _known(folders: Sequence[list[bytes]], ids: Iterable[Any]) -> dict[bytes, set[str]]:
    """The ids that occur at any depth below each folder."""
    found: dict[bytes, set[str]] = {}
    for names, one in zip(folders, ids, strict=True):
        for name in names:
            found.setdefault(name, set()).update({one} if isinstance(one, str) else ())
    return found


def exam_ties(images: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Study and exam of each row where they contain frames without a patient; null elsewhere.

    A study or exam with several known patients links no frames. An exam, which is only a folder,
    does not link a frame without a patient that a published partition places.
    """
    orphan = images["patient_id"].isna()
    placed = orphan & images["partition"].notna()
    study = _tie(images, orphan, images["study_id"].astype(object))
    return study, _tie(images, orphan, images["exam_id"].astype(object).mask(placed, None))


def _tie(images: pd.DataFrame, orphan: "pd.Series[bool]", ids: pd.Series) -> pd.Series:
    patients = images.groupby(ids)["patient_id"].nunique()
    usable = set(ids[orphan].dropna()) & set(patients.index[patients < 2])
    return ids.where(ids.isin(usable), None)


def components(images: pd.DataFrame) -> NDArray[np.integer]:
    """Component number [rows] of rows linked by patient, duplicates or file, also through others.

    Patients who may be one are linked, and rows without a patient are linked to their study and
    their exam folder.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, nodes, size = [], [], len(images)
    patients = (images["patient_id"], images["patient_group"])
    for keys in (*patients, images["duplicate_group"], images["source_id"], *exam_ties(images)):
        codes, known = pd.factorize(keys)
        rows.append(np.flatnonzero(codes >= 0))
        nodes.append(codes[codes >= 0] + size)
        size += len(known)
    row, node = np.concatenate(rows), np.concatenate(nodes)
    graph = coo_array((np.ones(len(row), np.int8), (row, node)), shape=(size, size))
    labels: NDArray[np.integer] = connected_components(graph, directed=False)[1]
    numbers: NDArray[np.integer] = np.unique(labels[: len(images)], return_inverse=True)[1]
    return numbers


def train_only(images: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each row [rows] must be in train.

    No row of its component has a patient, a study, an exam or a partition.
    """
    if images.empty:
        return np.zeros(0, np.bool_)
    study, exam = exam_ties(images)
    anchored = (
        images["patient_id"].notna() | images["partition"].notna() | study.notna() | exam.notna()
    ).to_numpy(bool)
    component = components(images)
    held = np.zeros(int(component.max()) + 1, np.bool_)
    held[component[anchored]] = True
    return np.asarray(~held[component])


def without_patient(images: pd.DataFrame) -> pd.Series:
    """What the split of each accepted row without a patient depends on: one of FOLLOWED."""
    accepted = images[images["status"] == "accepted"]
    study, exam = exam_ties(accepted)
    named = accepted["patient_group"].isin(
        accepted.loc[accepted["patient_id"].notna(), "patient_group"].dropna()
    )
    alone = exam.map(accepted.groupby(exam)["source_id"].nunique()).eq(1)
    how = pd.Series("duplicate", index=accepted.index, dtype=object)
    how = (
        how.mask(accepted["partition"].notna(), PLACED)
        .mask(exam.notna(), "exam folder")
        .mask(alone, BY_FILE)
        .mask(study.notna(), "study")
        .mask(named, "name and birth date")
        .mask(train_only(accepted), TRAIN_ONLY)
    )
    return how[accepted["patient_id"].isna()]


def orphan_counts(images: pd.DataFrame) -> dict[str, int]:
    """Count accepted frames without a patient, and what their splits depend on; {} for none."""
    return counts_of(without_patient(images))


def counts_of(how: pd.Series) -> dict[str, int]:
    """The counts of a selection of `without_patient`."""
    return (
        {"frames": len(how), **{name: int((how == name).sum()) for name in FOLLOWED}}
        if len(how)
        else {}
    )


_NO_EXAM = "belongs to no exam and stays", "belong to no exam and stay"


def orphan_sentence(counts: Mapping[str, int]) -> str:
    """A sentence on the frames without a patient by `orphan_counts`, "" for none."""
    if not counts:
        return ""
    parts = [
        f"{counted(counts[name], 'stays with its', 'stay with their')} {name}"
        for name in FOLLOWED[:-1]
        if counts[name]
    ]
    parts += [f"{counted(counts[TRAIN_ONLY], *_NO_EXAM)} in train"] if counts[TRAIN_ONLY] else []
    frames = counted(counts["frames"], "frame has", "frames have")
    return f"{frames} no patient id; in the splits, {', '.join(parts)}"
