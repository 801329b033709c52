"""Which frames may be evaluated: a center or a split, without what the model has seen."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import pandas as pd

from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.planes import OTHER
from sono.curation.core.tables import SPLITS
from sono.curation.dataset.exams import counts_of, without_patient
from sono.curation.dataset.related_frames import related_rows
from sono.curation.records.centers import centers_called, like_centers


@dataclass(frozen=True)
class Seen:
    """What stood in training or validation: centers, patient pseudonyms and image ids."""

    centers: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    image_ids: frozenset[str] = frozenset()
    # the published checkpoint that the model began with, which may have seen anything
    origin: str = ""


@dataclass(frozen=True)
class Target:
    """What is asked for: all frames of a center, or a split.

    `allow_seen` keeps frames known from training.
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
        """A safe folder name: the center or split; a center called like a split is told apart."""
        if self.center is None:
            return self.split
        name = (
            quote(self.center, safe=" ").replace(".", "%2E")
            if self.center.startswith(".")
            else quote(self.center, safe=" ")
        )
        return f"center {name}" if self.center in SPLITS else name


@dataclass(frozen=True)
class Selection:
    """The frames to evaluate, what was left out and why, and how many of the frames the model
    has seen.
    """

    frames: pd.DataFrame
    excluded: dict[str, int] = field(default_factory=dict)
    seen_frames: int = 0
    center_seen: bool = False
    known_centers: tuple[str, ...] = ()
    origin: str = ""
    # of the frames, and what decides their split
    without_patient: dict[str, int] = field(default_factory=dict)

    def first_line(self, subject: Target) -> str:
        """Center or split, seen or not, and the number of frames.

        The first line of every report.
        """
        size = f"{len(self.frames)} frames {patients(self.frames)}"
        if self.center_seen:
            state = "SEEN IN TRAINING: these numbers say nothing about a new center"
        elif self.origin:
            state = (
                f"began with a published model, {self.origin}: what that one was trained on is "
                f"not known"
            )
        elif subject.center is not None:
            state = "not seen in training"
        elif self.known_centers:
            names = ", ".join(self.known_centers)
            state = (
                f"other frames of {names} were in training: this says nothing about a new center"
            )
        else:
            state = "none of its centers was in training"
        leak = (
            f"; {self.seen_frames} OF THE FRAMES WERE SEEN IN TRAINING" if self.seen_frames else ""
        )
        return f"{subject.label[0].upper()}{subject.label[1:]} ({state}{leak}): {size}"


def patients(frames: pd.DataFrame) -> str:
    """As in "of 40 patients", with the number of frames that carry no patient id."""
    known, without = frames["patient_id"].nunique(), int(frames["patient_id"].isna().sum())
    if not known:
        return "without patient ids"
    text = f"of {known} patient{'' if known == 1 else 's'}"
    return f"{text} ({without} of them without patient id)" if without else text


def select_frames(images: pd.DataFrame, seen: Seen, subject: Target) -> Selection:
    """The accepted, labeled frames of `subject` that training has not seen.

    SonoError where the center or split is unknown, was seen in training (unless allowed), or
    nothing is left.
    """
    subject = named_subject(images, subject)
    asked = (
        _of_split(images, subject) if subject.center is None else _of_center(images, seen, subject)
    )
    unlabeled, other = asked["plane"].isna(), asked["plane"].eq(OTHER).fillna(False).astype(bool)
    excluded = {
        "without a plane label": int(unlabeled.sum()),
        "labeled as none of the planes": int(other.sum()),
    }
    frames = asked[~unlabeled & ~other]
    leaks = leaking(frames, images, seen)
    if not subject.allow_seen:
        excluded |= {"known from training": int(leaks.sum())}
        frames, leaks = frames[~leaks], leaks[~leaks]
    if frames.empty:
        reasons = ", ".join(f"{count} {reason}" for reason, count in excluded.items() if count)
        advice = (
            "; --allow-seen evaluates seen frames all the same"
            if excluded.get("known from training")
            else ""
        )
        raise SonoError(
            f"{subject.label}: none of its {len(asked)} accepted frames can be evaluated "
            f"({reasons}){advice}"
        )
    known = tuple(sorted(like_centers(seen.centers, frames["center"].dropna().unique())))
    return Selection(
        frames.sort_values("image_id").reset_index(drop=True),
        {reason: count for reason, count in excluded.items() if count},
        int(leaks.sum()),
        subject.center is not None and bool(like_centers([subject.center], seen.centers)),
        known,
        seen.origin,
        counts_of(without_patient(images).reindex(frames.index).dropna()),
    )


def named_subject(images: pd.DataFrame, subject: Target) -> Target:
    """The `subject` with its center as the images table spells it.

    SonoError for none or several.
    """
    if subject.center is None:
        return subject
    known = _names(images["center"])
    found = centers_called(subject.center, known)
    if len(found) != 1:
        problem = (
            f"'{subject.center}' is the name of {len(found)} centers"
            if found
            else f"unknown center '{subject.center}'"
        )
        raise SonoError(f"{problem}; the centers here: {', '.join(known)}")
    return replace(subject, center=found[0])


def leaking(frames: pd.DataFrame, images: pd.DataFrame, seen: Seen) -> "pd.Series[bool]":
    """Whether each frame, its patient or a near duplicate of it was in training."""
    return related_rows(frames, images, seen.image_ids, seen.patients)


def _of_center(images: pd.DataFrame, seen: Seen, subject: Target) -> pd.DataFrame:
    center = subject.center or ""
    trained = sorted(like_centers([center], seen.centers))
    if trained and not subject.allow_seen:
        named = "" if center in trained else f" as '{trained[0]}'"
        raise SonoError(
            f"center '{center}' was in training{named}, so it cannot show how the model does in a "
            f"new center; hold it "
            f"out with `sono train --hold-out {center}`, or insist with --allow-seen"
        )
    return images[images["center"] == center]


def _of_split(images: pd.DataFrame, subject: Target) -> pd.DataFrame:
    if subject.split not in SPLITS:
        raise SonoError(f"unknown split '{subject.split}'{did_you_mean(subject.split, SPLITS)}")
    frames = images[images["split"] == subject.split]
    if frames.empty:
        raise SonoError(
            f"no accepted frame is in split '{subject.split}'; run `sono split`, or give --center "
            f"NAME"
        )
    return frames


def _names(column: Iterable[object]) -> list[str]:
    return sorted({value for value in column if isinstance(value, str)})
