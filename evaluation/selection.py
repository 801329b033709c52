"""Select the frames to evaluate: a center or a split, without what the model has seen."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import pandas as pd

from sono.curation.core.atomic import sha256
from sono.curation.core.column_values import SPLITS
from sono.curation.core.errors import SonoError, did_you_mean, near_match
from sono.curation.core.planes import NO_PLANE, OTHER, PLANE_UNKNOWN
from sono.curation.dataset.exams import counts_of, without_patient
from sono.curation.dataset.related_frames import related_rows
from sono.curation.records.centers import centers_called, like_centers

LONGEST = 160  # letters of a folder's name


@dataclass(frozen=True)
class Seen:
    """What was in training or validation: centers, patient pseudonyms and image ids."""

    centers: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    image_ids: frozenset[str] = frozenset()
    # the published checkpoint that the model began with, which may have seen anything
    origin: str = ""


@dataclass(frozen=True)
class Target:
    """What to evaluate: all frames of a center, or a split.

    `allow_seen` keeps frames that were in training.
    """

    center: str | None = None
    split: str = "test"
    allow_seen: bool = False

    @property
    def label(self) -> str:
        """As in "center shenzhen" or "split test"."""
        return f"split {self.split}" if self.center is None else f"center {self.center}"

    @property
    def folder(self) -> str:
        """A safe folder name: the center or split; a center named like a split gets a prefix.

        A letter outside ASCII takes up to 12 of the 255 that a name can have, so long names are cut
        and end with a hash.
        """
        if self.center is None:
            return self.split
        name = (
            quote(self.center, safe=" ").replace(".", "%2E")
            if self.center.startswith(".")
            else quote(self.center, safe=" ")
        )
        if len(name) > LONGEST:
            name = shortened(name, LONGEST, self.center)
        return f"center {name}" if self.center in SPLITS else name


@dataclass(frozen=True)
class Selection:
    """The frames to evaluate, the excluded ones by reason, and how many were in training."""

    frames: pd.DataFrame
    excluded: dict[str, int] = field(default_factory=dict)
    seen_frames: int = 0
    center_seen: bool = False
    known_centers: tuple[str, ...] = ()
    origin: str = ""
    # of the frames, and what decides their split
    without_patient: dict[str, int] = field(default_factory=dict)
    others: pd.DataFrame = field(default_factory=pd.DataFrame)  # without a standard plane

    def start_line(self, target: Target) -> str:
        """How many frames of the target are evaluated, and why not the others."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.excluded.items())
        total = len(self.frames) + sum(self.excluded.values())
        rest = f"; excluded: {reasons}" if reasons else ""
        return f"{target.label}: {len(self.frames)} of {total} accepted frames are evaluated{rest}"

    def first_line(self, target: Target) -> str:
        """The first line of every report: the target, seen or not, and the number of frames."""
        size = size_of(self.frames)
        if self.center_seen:
            state = "SEEN IN TRAINING: these numbers do not apply to a new center"
        elif self.origin:
            state = (
                f"began with a published model, {self.origin}: what that one was trained on is not "
                "known"
            )
        elif target.center is not None:
            state = "not seen in training"
        elif self.known_centers:
            names = ", ".join(self.known_centers)
            state = f"other frames of {names} were in training: this does not apply to a new center"
        else:
            state = "none of its centers was in training"
        leak = (
            f"; {self.seen_frames} OF THE FRAMES WERE SEEN IN TRAINING" if self.seen_frames else ""
        )
        return f"{target.label[0].upper()}{target.label[1:]} ({state}{leak}): {size}"


def size_of(frames: pd.DataFrame) -> str:
    """As in "80 frames of 40 patients", with the frames whose patient is unknown apart."""
    known, without = frames["patient_id"].nunique(), int(frames["patient_id"].isna().sum())
    if not known:
        return f"{len(frames)} frames, patient unknown"
    patients = f"of {known} patient{'' if known == 1 else 's'}"
    if without:
        rest = f"{len(frames) - without} {patients}, {without} with patient unknown"
        return f"{len(frames)} frames ({rest})"
    return f"{len(frames)} frames {patients}"


def select_frames(images: pd.DataFrame, seen: Seen, target: Target) -> Selection:
    """The accepted, labeled frames of `target` that were not in training.

    Raises SonoError if the center or split is unknown, was in training (unless allowed), or no
    frame is left.
    """
    target = resolve_target(images, target)
    asked = _of_split(images, target) if target.center is None else _of_center(images, seen, target)
    unlabeled, other = asked["plane"].isna(), asked["plane"].eq(OTHER).fillna(False).astype(bool)
    excluded = {
        f"with {PLANE_UNKNOWN}": int(unlabeled.sum()),
        f"of {NO_PLANE}": int(other.sum()),
    }
    frames = asked[~unlabeled & ~other]
    leaks = leaking(frames, images, seen)
    if not target.allow_seen:
        excluded |= {"known from training": int(leaks.sum())}
        frames, leaks = frames[~leaks], leaks[~leaks]
    if frames.empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in excluded.items() if count)
        advice = (
            "; --allow-seen evaluates these frames anyway"
            if excluded.get("known from training")
            else ""
        )
        raise SonoError(
            f"{target.label}: none of its {len(asked)} accepted frames can be evaluated "
            f"({reasons}){advice}"
        )
    others = asked[other]
    if not target.allow_seen:
        others = others[~leaking(others, images, seen)]
    known = tuple(sorted(like_centers(seen.centers, frames["center"].dropna().unique())))
    return Selection(
        frames.sort_values("image_id").reset_index(drop=True),
        {reason: count for reason, count in excluded.items() if count},
        int(leaks.sum()),
        target.center is not None and bool(like_centers([target.center], seen.centers)),
        known,
        seen.origin,
        counts_of(without_patient(images).reindex(frames.index).dropna()),
        others.sort_values("image_id").reset_index(drop=True),
    )


def shortened(name: str, kept: int, center: str) -> str:
    """The first `kept` letters of a name, and a hash of the `center` that keeps names apart."""
    return f"{name[:kept]}-{sha256(center.encode())[:8]}"


def resolve_target(images: pd.DataFrame, target: Target) -> Target:
    """The `target` with its center as the images table spells it.

    Raises SonoError if no center, or several, match.
    """
    if target.center is None:
        return target
    known = _names(images["center"])
    found = centers_called(target.center, known)
    if len(found) != 1:
        problem = (
            f"'{target.center}' is the name of {len(found)} centers"
            if found
            else f"unknown center '{target.center}'{near_match(target.center, known)}"
        )
        raise SonoError(f"{problem}; the centers here: {', '.join(known) or 'none'}")
    return replace(target, center=found[0])


def leaking(frames: pd.DataFrame, images: pd.DataFrame, seen: Seen) -> "pd.Series[bool]":
    """Whether each frame, its patient or a near duplicate of it was in training."""
    return related_rows(frames, images, seen.image_ids, seen.patients)


def _of_center(images: pd.DataFrame, seen: Seen, target: Target) -> pd.DataFrame:
    center = target.center or ""
    trained = sorted(like_centers([center], seen.centers))
    if trained and not target.allow_seen:
        named = "" if center in trained else f" as '{trained[0]}'"
        raise SonoError(
            f"center '{center}' was in training{named}, so it cannot show how the model works in a "
            f"new center; hold it out with `sono train --hold-out {center}`, or evaluate it anyway "
            "with --allow-seen"
        )
    return images[images["center"] == center]


def _of_split(images: pd.DataFrame, target: Target) -> pd.DataFrame:
    if target.split not in SPLITS:
        raise SonoError(f"unknown split '{target.split}'{did_you_mean(target.split, SPLITS)}")
    frames = images[images["split"] == target.split]
    if frames.empty:
        raise SonoError(
            f"no accepted frame is in split '{target.split}'; run `sono split`, or give --center "
            "NAME"
        )
    return frames


def _names(column: Iterable[object]) -> list[str]:
    return sorted({value for value in column if isinstance(value, str)})
