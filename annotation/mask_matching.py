"""Find the stored frame that a picture's name refers to, by image id or longest matching path."""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from sono.annotation.exchange.foreign_masks import Picture
from sono.annotation.picture_names import Reading, local_path, readings, stem_of
from sono.annotation.source_files import SourceFile, source_files
from sono.curation.core.atomic import real_path, sha256
from sono.curation.core.frame_files import picture_of
from sono.curation.core.tables import Row
from sono.curation.core.workspace import Workspace
from sono.curation.records.table import path_parts

MAX_CANDIDATES = 3  # named in a refusal
MAX_NEAR = 20  # masks for which near names are looked up

SOURCE = "source"  # after an image id: a mask in the pixels of the source file
NUMBER = re.compile(r"\d+")
UPLOADS = re.compile(r"(?:^|/)(?:images|uploads?)/\d+$")  # ends with a project number, Label Studio

# Folders of exports that do not identify a frame. If they agree, they still make a match better.
GENERIC = frozenset((
    "annotation", "annotations", "coco", "data", "dataset", "dcm", "default", "dicom", "export",
    "exports", "files", "frames", "ground_truth", "groundtruth", "gt", "image", "images", "img",
    "imgs", "jpeg", "jpegimages", "jpg", "label", "labels", "mask", "masks", "output", "png",
    "pngs", "raw", "segmentation", "segmentationclass", "segmentations", "test", "test_set",
    "train", "training", "training_set", "upload", "uploads", "val", "valid",
    "validation",
))  # fmt: skip


class Match(NamedTuple):
    """The row of the images table that a picture belongs to, and the evidence.

    If `stored` is true, the picture has the pixels of the stored frame, not of the source file. If
    `exported` is true, its name is one of `sono masks export`.
    """

    row: Row
    evidence: str
    stored: bool = False
    exported: bool = False


class NoMatch(NamedTuple):
    """Why a picture belongs to no frame; `detail` names the candidates."""

    reason: str
    detail: str = ""


class Agreement(NamedTuple):
    """How well the folders of a frame agree with those of a mask.

    `same` is true if frame and mask are in the same folder. The other fields describe the paths
    below the `shared` folders with which both begin: `identifying` and `all` count the folders that
    agree from the name upward, `sibling` is true if the frame's path has no identifying folder, and
    `contradicts` if the paths exclude each other. A folder is identifying unless its name is
    generic.
    """

    same: bool = False
    identifying: int = 0
    all: int = 0
    shared: int = 0
    sibling: bool = False
    contradicts: bool = False

    @property
    def rank(self) -> tuple[bool, int, int]:
        """A sort key that is highest for the longest agreeing path."""
        return self.same, self.identifying, self.all

    @property
    def evidence(self) -> str:
        """The agreement in words."""
        count = max(self.identifying, self.all)
        named = f"path of {count} folder{'s' * (count > 1)}" if count else "file name"
        return "the same folder" if self.same else named


NOTHING = Agreement().rank
Found = tuple["SourceFile", Agreement]


@dataclass(frozen=True)
class FrameFinder:
    """Finds frames of a study by name.

    `ignored` are names of folders, in lower case, that do not identify a frame.
    """

    files: tuple[SourceFile, ...]
    accepted: Mapping[str, Row]  # by image id
    ignored: frozenset[str] = GENERIC
    by_stem: Mapping[str, list[SourceFile]] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)  # stems without a frame

    @classmethod
    def create(
        cls, workspace: Workspace, images: pd.DataFrame, ignored: Iterable[str] = ()
    ) -> "FrameFinder":
        """The finder of a workspace; without the vault it knows only image ids."""
        files = tuple(source_files(workspace, images))
        by_stem: dict[str, list[SourceFile]] = {}
        for file in files:
            by_stem.setdefault(stem_of(file.parts[-1]), []).append(file)
        rows: list[Row] = images[images["status"] == "accepted"].to_dict("records")  # type: ignore[assignment]
        more = frozenset(name.strip().casefold() for name in ignored)
        return cls(files, {row["image_id"]: row for row in rows}, GENERIC | more, by_stem)

    @cached_property
    def _stored(self) -> dict[str, Row]:
        return {
            picture_of(row["file"]): row
            for row in self.accepted.values()
            if isinstance(row["file"], str)
        }

    def find(self, picture: Picture) -> Match | NoMatch:
        """The frame that `picture` names, or why there is none."""
        parts = path_parts(local_path(picture.name))
        if not parts:
            return NoMatch("unmatched", "an empty name")
        stem = stem_of(parts[-1])
        for reading in readings(stem):
            if found := self._by_id(reading.stem):
                return found
        found = self._by_path(picture, stem)
        if isinstance(found, Match) and picture.own_name:
            own = stem_of(path_parts(picture.own_name)[-1])
            named = [file for one in readings(own) for file in self.by_stem.get(one.stem, ())]
            others = [file for file in named if file.key != _key_of(found.row)]
            if own != stem and others:
                return NoMatch(
                    "other_name",
                    f"imagePath is '{picture.name}', but the file is named after {_shown(others)}",
                )
        return found

    def _by_id(self, stem: str) -> Match | NoMatch | None:
        image_id, _, crop = stem.partition("-")
        row = self.accepted.get(image_id)
        if row is not None and crop == SOURCE:
            return Match(row, "image id", exported=True)
        if row is None or (crop and not re.fullmatch("[0-9a-f]{8}", crop)):
            return None
        if crop and stem not in self._stored:
            return NoMatch(
                "changed", "the frame was cropped differently since then; export the masks again"
            )
        return Match(row, "image id", stored=True, exported=True)

    def _by_path(self, picture: Picture, stem: str) -> Match | NoMatch:
        refused: NoMatch | None = None
        for reading in readings(stem):
            named = self.by_stem.get(reading.stem, [])
            files = [file for file in named if not _is_mask(file, picture)]
            if picture.file is None:  # whatever has this very name is what is meant
                files = files or named
            if not files:
                continue
            found = self._best(files, picture, reading)
            if isinstance(found, Match):
                return found
            if picture.file is None or found.reason != "not_accepted":
                return refused or found
            # the rejected row may be the mask file itself, if `sono qc` has read its folder, too
            refused = refused or found
        return refused or NoMatch(
            "unmatched",
            f"looked for {', '.join(one.stem for one in readings(stem))}{self._near(stem)}",
        )

    def _near(self, stem: str) -> str:
        """A phrase with the frame names similar to `stem`, for the first masks without a frame.

        Later masks get "", because each call compares `stem` with all names.
        """
        self.unmatched.append(stem)
        near = (
            get_close_matches(stem, self.by_stem, MAX_CANDIDATES, 0.75)
            if len(self.unmatched) <= MAX_NEAR
            else []
        )
        return f"; near: {', '.join(near)}" if near else ""

    def _best(self, files: list[SourceFile], picture: Picture, reading: Reading) -> Match | NoMatch:
        found = [(file, self._agreement(file, picture, reading)) for file in files]
        fitting = [agreement.rank for _, agreement in found if not agreement.contradicts]
        if not fitting:
            return NoMatch("other_folder", f"'{picture.name}' compared with {_shown(files)}")
        best = max(fitting)
        # If no folder agrees, files in contradicting folders are candidates, too, because only the
        # file name is evidence.
        same_rank = [(file, one) for file, one in found if one.rank == best and not one.contradicts]
        rivals = found if best == NOTHING else same_rank
        if not _is_one(rivals):
            rivals = _sibling(rivals) or _same_name(rivals, picture) or rivals
        if not _is_one(rivals):
            return NoMatch(
                "ambiguous", f"'{picture.name}' may be {_shown([file for file, _ in rivals])}"
            )
        file, agreement = rivals[0]
        return self._row(
            file, f"{agreement.evidence}{f' without {reading.taken}' * bool(reading.taken)}"
        )

    def _row(self, file: SourceFile, evidence: str) -> Match | NoMatch:
        first = file.rows[0]
        if file.frames > 1:
            return NoMatch("many_frames", file.path)
        row = self.accepted.get(first["image_id"])
        if row is None:
            return NoMatch("not_accepted", f"{file.path} is {first['status']}")
        return Match(row, evidence)

    def _agreement(self, file: SourceFile, picture: Picture, reading: Reading) -> Agreement:
        """How well the folders of a file agree with those of a picture's name.

        They contradict each other if both paths have a further identifying folder above those that
        agree. The name of the imported folder itself contradicts only if it differs from the
        frame's folder in its number alone: P1 is not P2.
        """
        own, folders = file.parts[:-1], path_parts(local_path(picture.name))[:-1]
        around = path_parts(posixpath.normpath(posixpath.join(picture.folder, *folders)))
        if own == around:
            return Agreement(same=True, shared=len(own))
        shared = _common_start(around, own)
        mine, theirs = self._identifying(own[shared:]), self._identifying(around[shared:])
        agreeing = _common_end(mine, theirs)
        below = self._identifying(own[max(shared, len(own) - file.depth) :]) or (
            mine[-1:] if file.depth == 0 else []
        )
        named = sum(part != ".." for part in path_parts(posixpath.normpath("/".join(folders))))
        given = self._identifying(around[max(shared, len(around) - named) :])
        if reading.uploaded and UPLOADS.search("/".join(folders)):
            given = given[:-1]
        return Agreement(
            identifying=agreeing,
            all=_common_end(own[shared:], around[shared:]),
            shared=shared,
            sibling=not mine,
            contradicts=agreeing < min(len(below), len(given))
            or (not agreeing and _differ_by_number(below, theirs)),
        )

    def _identifying(self, folders: Sequence[str]) -> list[str]:
        return [folder for folder in folders if folder not in self.ignored]


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    return _common_start(one[::-1], other[::-1])


def _common_start(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next(
        (count for count, (left, right) in pairs if left != right), min(len(one), len(other))
    )


def _differ_by_number(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the last folders of two paths differ only in their digits."""
    names = {NUMBER.sub("0", folders[-1]) for folders in (one, other) if folders}
    return bool(one and other and one[-1] != other[-1] and len(names) == 1)


def _is_one(rivals: Sequence[Found]) -> bool:
    return len({file.key for file, _ in rivals}) == 1


def _sibling(rivals: Sequence[Found]) -> list[Found]:
    """The only one of `rivals` whose folder is next to the folder of the mask, else none."""
    nearest = max(agreement.shared for _, agreement in rivals)
    near = [(file, one) for file, one in rivals if one.shared == nearest]
    return (
        [found for found in near if found[1].sibling and not found[1].contradicts]
        if _is_one(near)
        else []
    )


def _same_name(rivals: Sequence[Found], picture: Picture) -> list[Found]:
    """Those of `rivals` in one folder that have the picture's file extension.

    The result is empty for a mask PNG, because its extension is not that of the frame.
    """
    if picture.file is not None or len({tuple(file.parts[:-1]) for file, _ in rivals}) > 1:
        return []
    name = path_parts(local_path(picture.name))[-1]
    return [(file, one) for file, one in rivals if file.parts[-1] == name]


def _is_mask(file: SourceFile, picture: Picture) -> bool:
    """Whether a source file is the mask picture itself, a copy of it, or a mask of its own."""
    if any(row["reasons"] is not None and "mask_image" in row["reasons"] for row in file.rows):
        return True
    if picture.file is None:
        return False
    if str(real_path(picture.file)) == file.path:
        return True
    return file.sha is not None and file.sha == sha256(picture.file.read_bytes())


def _key_of(row: Row) -> str:
    return str(row["image_id"])


def _shown(files: Sequence[SourceFile]) -> str:
    more = f" and {len(files) - MAX_CANDIDATES} more" if len(files) > MAX_CANDIDATES else ""
    return ", ".join(file.path for file in files[:MAX_CANDIDATES]) + more
