"""Build the images table from measured files: pseudonyms, duplicates, splits, stored frames."""

import shutil
from collections.abc import Callable, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.curation.core.frame_files import picture_of, quarantined_path, read_stored, stored_path
from sono.curation.core.geometry import crop_box, shown_size
from sono.curation.core.pseudonyms import pseudonym, shifted_date
from sono.curation.core.reasons import verdict_of
from sono.curation.core.tables import IMAGES
from sono.curation.core.vault_checks import IDENTITY
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.equal_frames import contradictory, unknown_facts
from sono.curation.dataset.exams import exam_ids
from sono.curation.dataset.near_duplicates import near_duplicate_pairs
from sono.curation.dataset.splits import SplitConfig, assign_splits, earlier_splits
from sono.curation.imaging.perceptual_hash import small_frame
from sono.curation.records.namespaces import namespaces
from sono.curation.records.patients import Id, of_hospitals, same_patients

HELD = 1 << 16  # small frames of 4 kB kept in memory while pairs are confirmed
FRAME_COLUMNS = [
    "file", "crop_x0", "crop_y0", "crop_x1", "crop_y1", "source_height", "source_width",
]  # fmt: skip


def build_images(workspace: Workspace) -> pd.DataFrame:
    """Build the images table from the vault's sources and move frames to their folders.

    The table gets pseudonyms, duplicates and splits. Accepted frames are stored in the workspace,
    all others in the vault.
    """
    sources = workspace.sources()
    images = sources[IMAGES.columns].copy()
    key = workspace.key()
    space = namespaces(sources)
    patients, groups = same_patients(sources.assign(namespace=space), of_hospitals(sources, space))
    images["patient_id"] = [
        identity and pseudonym(key, "patient", *identity) for identity in patients
    ]
    images["patient_group"] = [
        identity and pseudonym(key, "patient group", *identity) for identity in groups
    ]
    images["study_id"] = _pseudonyms(key, "study", space, sources["raw_study"])
    config = workspace.settings("splits", SplitConfig)
    places = list(zip(sources["path"], sources["root"], strict=True))
    images["exam_id"] = exam_ids(key, places, images, config.without_patient == "file")
    images["exam_date"] = _exam_dates(workspace, key, sources, patients)
    _keep_identities(workspace, sources, images)
    _apply_decisions(workspace, images)
    _mark_exact(images)
    _mark_near(workspace, images)
    # known patients keep their split: `sono split` may have set it, and a model may have been
    # trained on it
    earlier = earlier_splits(images, workspace.read(IMAGES, ["patient_id", "image_id", "split"]))
    images["split"] = assign_splits(images, config, earlier)
    _place_frames(workspace, images)
    workspace.write(IMAGES, images)
    return workspace.read(IMAGES)


def _pseudonyms(key: bytes, kind: str, space: pd.Series, raw: pd.Series) -> list[str | None]:
    return [
        None if pd.isna(value) else pseudonym(key, kind, name, str(value).strip())
        for name, value in zip(space, raw, strict=True)
    ]


def _keep_identities(workspace: Workspace, sources: pd.DataFrame, images: pd.DataFrame) -> None:
    """Write new pseudonyms of `images` to the vault, where later reads compare the table."""
    now = images[[*IDENTITY]].astype(sources.dtypes[[*IDENTITY]])
    if not now.equals(sources[[*IDENTITY]]):
        workspace.write_vault(
            workspace.sources_path,
            SOURCES,
            sources.assign(**{name: now[name] for name in IDENTITY}),
        )


def _exam_dates(
    workspace: Workspace, key: bytes, sources: pd.DataFrame, patients: Sequence[Id | None]
) -> list[str | None]:
    """The exam date of each row, shifted by its patient's days; None unless dates are kept."""
    if workspace.study().keep_dates == "none":
        return [None] * len(sources)
    return [
        shifted_date(key, date.fromisoformat(day), *patient).isoformat()
        if isinstance(day, str) and patient
        else None
        for day, patient in zip(sources["raw_exam_date"], patients, strict=True)
    ]


def _add_code(images: pd.DataFrame, row: Any, code: str) -> None:
    """Add `code` to a row and update its status and message."""
    known: Any = images.at[row, "reasons"]
    verdict = verdict_of([*known, code])
    changed: dict[str, Any] = {"reasons": verdict.reasons, "status": verdict.status}
    if verdict.message:
        changed["message"] = verdict.message
    for column, value in changed.items():
        images.at[row, column] = value


def _apply_decisions(workspace: Workspace, images: pd.DataFrame) -> None:
    """Accept quarantined rows that a person has released, and reject those that one rejected."""
    decided = workspace.released()
    decisions = dict(zip(decided["picture"], decided["decision"].fillna("released"), strict=True))
    held = images[images["status"].isin(["accepted", "quarantined"]) & images["file"].notna()]
    made = held["file"].map(lambda file: decisions.get(picture_of(file)))
    for row in held.index[made == "rejected"]:
        _add_code(images, row, "rejected_by_reviewer")
    for row in held.index[(made == "released") & (held["status"] == "quarantined")]:
        _add_code(images, row, "released")
        images.at[row, "message"] = None


def _mark_exact(images: pd.DataFrame) -> None:
    """Keep one of the accepted rows with the same pixels, one with the most facts.

    If their facts contradict each other, all get `duplicate_conflict`.
    """
    accepted = images[images["status"] == "accepted"]
    accepted = accepted.assign(unknown=unknown_facts(accepted))
    accepted = accepted.sort_values(["unknown", "source_id", "frame"])
    twins = accepted[accepted["image_id"].duplicated(keep=False)]
    for image_id, group in twins.groupby("image_id", sort=True):
        images.loc[group.index, "duplicate_group"] = str(image_id)
        images.loc[group.index, "duplicate_kind"] = "exact"
        conflict = contradictory(group)
        for row in group.index if conflict else group.index[1:]:
            _add_code(images, row, "duplicate_conflict" if conflict else "exact_duplicate")


def _mark_near(workspace: Workspace, images: pd.DataFrame) -> None:
    """Put accepted near duplicates into one group; they stay accepted and in one split."""
    places = hashed_frames(images)
    pairs = near_duplicate_pairs(
        images["perceptual_hash"].iloc[places], picture_loader(workspace, images, places)
    )
    link_near(images, [(places[i], places[j]) for i, j in pairs])


def hashed_frames(images: pd.DataFrame) -> NDArray[np.intp]:
    """Positions of the rows to compare: accepted, with a hash."""
    return np.flatnonzero((images["status"] == "accepted") & images["perceptual_hash"].notna())


def picture_loader(
    workspace: Workspace, images: pd.DataFrame, places: NDArray[np.intp]
) -> Callable[[int], NDArray[np.uint8] | None]:
    """A function that loads the small frame of the row at `places[index]`, None where missing.

    It keeps the last `HELD` small frames in memory.
    """
    rows: dict[str, list[Any]] = {
        name: images[name].iloc[places].tolist() for name in FRAME_COLUMNS
    }

    @lru_cache(maxsize=HELD)
    def load(index: int) -> NDArray[np.uint8] | None:
        row = {name: values[index] for name, values in rows.items()}
        path = None if pd.isna(row["file"]) else _existing(workspace, row["file"])
        if path is None or not path.is_file():
            return None
        return small_frame(read_stored(path), crop_box(row), shown_size(row))

    return load


def link_near(images: pd.DataFrame, pairs: Sequence[tuple[int, int]]) -> int:
    """Put the rows of each pair (positions) into one duplicate group.

    Groups that a pair connects become one, named by their smallest name or image id. Returns the
    number of rows that moved to another group.
    """
    if not pairs:
        return 0
    ends = np.asarray(pairs, np.intp)
    members = np.unique(ends)
    before = images["duplicate_group"].astype(object).to_numpy()
    label = _connected(before, ends)
    touched = np.flatnonzero(np.isin(label, label[members]))
    names = pd.Series(before[touched], index=touched)
    names = names.fillna(images["image_id"].astype(object).iloc[touched].set_axis(touched))
    common = names.groupby(label[touched]).transform("min")
    images.loc[images.index[touched], "duplicate_group"] = common.to_numpy()
    rows = images.index[members]
    images.loc[rows, "duplicate_kind"] = images.loc[rows, "duplicate_kind"].fillna("near")
    for row in rows:
        known: Any = images.at[row, "reasons"]
        if "near_duplicate" not in known:
            _add_code(images, row, "near_duplicate")
    return int((before[touched] != common.to_numpy()).sum())


def _connected(groups: NDArray[np.object_], pairs: NDArray[np.integer]) -> NDArray[np.integer]:
    """Component number [N] of rows linked by an equal group or by `pairs` [P, 2] of positions."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes, names = pd.factorize(groups)
    grouped = np.flatnonzero(codes >= 0)
    row = np.concatenate([pairs[:, 0], grouped])
    column = np.concatenate([pairs[:, 1], codes[grouped] + len(groups)])
    size = len(groups) + len(names)
    graph = coo_array((np.ones(len(row), np.int8), (row, column)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1])[: len(groups)]


def _existing(workspace: Workspace, file: str) -> Path:
    stored = stored_path(workspace, file)
    return stored if stored.exists() else quarantined_path(workspace, file)


def _place_frames(workspace: Workspace, images: pd.DataFrame) -> None:
    """Move accepted frames to the workspace and all other stored frames to the vault.

    The others are quarantined frames, and copies with another crop than the frame that is kept.
    """
    has_file = images[images["file"].notna()]
    accepted = set(has_file.loc[has_file["status"] == "accepted", "file"])
    others = set(has_file["file"]) - accepted
    for file in sorted(accepted):
        _move_if_absent(quarantined_path(workspace, file), stored_path(workspace, file))
    for file in sorted(others):
        _move_if_absent(stored_path(workspace, file), quarantined_path(workspace, file))
    for stale in sorted(workspace.frames.glob("*/*.png")):
        if stale.relative_to(workspace.root).as_posix() not in accepted:
            stale.unlink()
    images.loc[images["status"] != "accepted", "file"] = None


def _move_if_absent(source: Path, target: Path) -> None:
    if source.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
