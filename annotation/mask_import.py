"""Import external masks: match their names to frames, check, crop, and keep or refuse each."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.embedded_pictures import checked
from sono.annotation.exchange.foreign_masks import Found, Picture, RefusedError
from sono.annotation.exchange.mask_files import MaskRules, read_masks
from sono.annotation.exchange.mask_pictures import PictureRules
from sono.annotation.import_options import ImportOptions, check_file_kind, check_options
from sono.annotation.import_summary import MAX_NAMES, ImportSummary, Outcome, summarize
from sono.annotation.mask_fit import FitRules, fit_mask
from sono.annotation.mask_labels import Labels, find_structure, structure_name
from sono.annotation.mask_matching import FrameFinder, Match, NoMatch
from sono.annotation.masks import (
    check_masks,
    mask_table,
    next_to_proposals,
    outdated,
    replace_masks,
)
from sono.annotation.turned_masks import turned_masks
from sono.curation.core.console import progress
from sono.curation.core.errors import IssuesError, SonoError
from sono.curation.core.frame_files import checksum_of, image_id_of, picture_of
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import MASKS, Row
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy, check_texts

# Colors of Alzubaidi et al. 2023 (head planes): the outline's inside, the cavum and the ventricle.
HEAD_COLORS = {"red": "fetal head", "olive": "cavum septi pellucidi", "green": "lateral ventricle"}


def import_masks(
    workspace: Workspace, path: Path, options: ImportOptions | None = None
) -> ImportSummary:
    """Import a file or folder of masks in any format that annotation/exchange reads.

    Masks are in source pixels and are cropped like their frame; those named by image id are in
    stored pixels, as `export_masks` writes them. A mask without a certain frame and a bad entry are
    refused and counted. Raises SonoError for contradictory options and files that cannot be read;
    IssuesError under `options.strict` when a mask was refused: then nothing is imported.
    """
    options = options or ImportOptions()
    check_options(options)
    check_file_kind(path, options)
    images, planes = workspace.images(), workspace.planes()
    labels = Labels.create(planes, options.structure, options.labels, options.skipped)
    named = bool(options.structure or options.colors or options.values)
    pictures = _picture_rules(options, planes, images)
    found = read_masks(path, MaskRules(pictures, options.columns, legend=not named))
    _check_one_label(path, labels, found)
    finder = FrameFinder.create(workspace, images, options.ignored_folders)
    rules = FitRules.create(labels, options.state, options.force, workspace.masks())
    matches = match_all(found, finder, None if options.force else workspace.root)
    rows, outcomes = _fit_all(found, matches, rules)
    refused = [outcome for outcome in outcomes if outcome.reason not in (None, "skipped")]
    if not rows and not finder.files and refused:
        raise SonoError(
            f"{workspace.vault}: not here, so masks match only by image id, and none of these "
            f"{len(refused)} has one as its name; put the vault back next to the study"
        )
    if options.strict and refused and not options.dry_run:
        raise IssuesError(
            f"--strict: nothing was imported, because {len(refused)} masks were refused: "
            f"{refused[0].text}"
        )
    new = mask_table(rows)
    with nullcontext() if options.dry_run else workspace.lock():
        check_masks(new, images)
        before = workspace.masks()
        after = replace_masks(before, new, options.replace)
        if len(new) and not options.dry_run:
            _check_signatures(workspace, path, new)
            workspace.write(MASKS, after)
            check_privacy(workspace)
    remarks = [*found.remarks, *(f"no mask has the label '{label}'" for label in labels.unused())]
    remarks += _second_masks(before, new, options.replace)
    if rules.dropped:
        remarks.append(
            f"attributes left out, because they are not as sono writes them: "
            f"{_format_counts(rules.dropped)}"
        )
    remarks += _open_proposals(next_to_proposals(after, new))
    foreign = _other_planes(new, finder.accepted, planes)
    remarks += _other_planes_message(foreign)
    remarks += _rotated_frames(new, finder.accepted)
    remarks += turned_masks(new, finder.accepted, workspace.root)
    if decided := int((~new["mask_id"].isin(after["mask_id"])).sum()):
        remarks.append(
            f"{decided} proposals are left out: these structures have already been reviewed"
        )
    summary = summarize(new, before, outcomes, remarks, foreign, options.dry_run)
    masked = set(after.loc[after["state"] != "rejected", "image_id"])
    bare = len(finder.accepted.keys() - masked)
    return replace(summary, frames=len(finder.accepted), frames_without_mask=bare)


def _check_signatures(workspace: Workspace, path: Path, new: pd.DataFrame) -> None:
    """Raise PrivacyError if a text that came with the masks is a private string of the study."""
    texts = pd.concat([new["reviewer"], new["prompt"]]).dropna().unique()
    if len(texts):
        check_texts(workspace, path.name, texts)


def _second_masks(before: pd.DataFrame, new: pd.DataFrame, replace: bool | None) -> list[str]:
    """Messages on accepted masks whose structure and frame `new` masks show, too."""
    gone = outdated(before, new, replace)
    fates = {
        "are replaced by new ones of their structure; to keep both, as of two readers, import the "
        "old file again with --keep-both": before[gone],
        "are kept next to new ones of their structure: training and evaluation use both; give "
        "--replace to keep only the new ones": before[outdated(before, new, replace=True) & ~gone],
    }
    return [
        f"{len(masks)} earlier accepted masks ({_format_counts(Counter(masks['structure']))}, on "
        f"{masks['image_id'].nunique()} frames) {fate}"
        for fate, masks in fates.items()
        if len(masks)
    ]


def _open_proposals(proposals: pd.DataFrame) -> list[str]:
    """A message on proposals whose structure has an imported mask on the same frame, too."""
    if proposals.empty:
        return []
    return [
        f"{len(proposals)} proposals ({_format_counts(Counter(proposals['structure']))}, on "
        f"{proposals['image_id'].nunique()} frames) stay open next to imported masks of the same "
        "structure: these frames have both, and training uses only the imported ones. Decide on "
        "them with `sono masks review --reviewer NAME`; `sono masks export --no-proposed` leaves "
        "them out"
    ]


def _other_planes(
    new: pd.DataFrame, accepted: Mapping[str, Row], planes: PlaneTable
) -> pd.DataFrame:
    """The masks of structures that the plane of their frame does not have: ids and names."""
    masks = new[["mask_id", "image_id", "structure"]].assign(
        plane=[accepted[image_id]["plane"] for image_id in new["image_id"]]
    )
    foreign = [
        name in planes.by_id and structure not in (planes.by_id[name].structures or (structure,))
        for structure, name in zip(masks["structure"], masks["plane"], strict=True)
    ]
    return masks[np.array(foreign, np.bool_)]


def _other_planes_message(foreign: pd.DataFrame) -> list[str]:
    if foreign.empty:
        return []
    counts = _format_counts(Counter(foreign["structure"] + " on " + foreign["plane"]))
    named = zip(foreign["mask_id"], foreign["image_id"], strict=True)
    first = ", ".join(f"{mask} of frame {frame}" for mask, frame in list(named)[:MAX_NAMES])
    more = "; --json lists all as other_planes" if len(foreign) > MAX_NAMES else ""
    return [
        f"{len(foreign)} masks show a structure that the plane of their frame does not have "
        f"({counts}): masks of other frames? If not, add the structure to the plane in the planes "
        f"file; otherwise no caption names it. Masks: {first}{more}"
    ]


def _rotated_frames(new: pd.DataFrame, accepted: Mapping[str, Row]) -> list[str]:
    """A message on masks of frames that were rotated by EXIF.

    Where rotation keeps the size, a mask drawn on the image as stored fits as well, but falsely.
    """
    codes = {image_id: accepted[image_id]["reasons"] for image_id in new["image_id"].unique()}
    frames = [
        image_id
        for image_id, reasons in codes.items()
        if reasons is not None and "rotated_by_exif" in reasons
    ]
    if not frames:
        return []
    return [
        f"{int(new['image_id'].isin(frames).sum())} masks are on {len(frames)} images that their "
        "orientation tag rotates or mirrors; they are taken as drawn on the displayed image. Look "
        "at them with `sono masks overlays`: a program that ignores the tag draws them mirrored"
    ]


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count}" for what, count in counts.most_common(MAX_NAMES))


def _check_one_label(path: Path, labels: Labels, found: Found) -> None:
    """Raise SonoError if --structure would give one name to several labels or structures."""
    names = sorted(
        {
            mask.label
            for mask in found.masks
            if mask.picture.file is None and not labels.skips(mask.label)
        }
    )
    if labels.structure is not None and len(names) > 1:
        raise SonoError(
            f"{path}: has the labels {', '.join(names[:MAX_NAMES])}, but --structure would name "
            f"all of them '{labels.structure}'; map each label, as in "
            f'--label "{names[0]}={labels.structure}"'
        )
    structure = find_structure(names[0], labels.planes) if names else None
    if labels.structure is not None and structure not in (None, labels.structure):
        raise SonoError(
            f"{path}: its masks have the label '{names[0]}', but --structure would name them "
            f"'{labels.structure}'; leave --structure out, or, if the label is wrong, give "
            f'--label "{names[0]}={labels.structure}" instead'
        )


def _picture_rules(
    options: ImportOptions, planes: PlaneTable, images: pd.DataFrame
) -> PictureRules:
    known = images[images["status"].isin(["accepted", "quarantined"])]
    ids = frozenset(known["image_id"].dropna())
    stored = frozenset(picture_of(file).partition("-")[2] for file in known["file"].dropna())

    def is_frame(gray: NDArray[np.uint8]) -> bool:
        return image_id_of(gray) in ids or checksum_of(gray) in stored

    structure = (
        structure_name(options.structure, planes, "--structure") if options.structure else None
    )
    return PictureRules(
        structure,
        {
            color: structure_name(name, planes)
            for color, name in (options.colors or HEAD_COLORS).items()
        },
        {value: structure_name(name, planes) for value, name in options.values.items()},
        is_frame,
        options.force,
    )


def _fit_all(
    found: Found, matches: Mapping[str, Match | NoMatch], rules: FitRules
) -> tuple[list[dict[str, object]], list[Outcome]]:
    """A row for each mask that is kept, and the outcome of every mask and entry."""
    rows: list[dict[str, object]] = []
    outcomes = [
        Outcome(place, reason=reason, detail=detail) for reason, place, detail in found.refused
    ]
    with progress("masks", len(found.masks)) as advance:
        for mask in found.masks:
            advance()
            outcome = Outcome(mask.place, mask.picture.name, mask.label)
            match = matches[mask.picture.entry]
            if isinstance(match, Match):
                outcome = outcome._replace(image_id=match.row["image_id"], evidence=match.evidence)
            try:
                if rules.labels.skips(mask.label):
                    raise RefusedError("skipped")
                if isinstance(match, NoMatch):
                    raise RefusedError(*match)
                rows.append(fit_mask(mask, match, rules))
                outcomes.append(outcome._replace(structure=str(rows[-1]["structure"])))
            except RefusedError as refused:
                outcomes.append(outcome._replace(reason=refused.reason, detail=str(refused)))
    return rows, outcomes


def match_all(
    found: Found, finder: FrameFinder, root: Path | None = None
) -> dict[str, Match | NoMatch]:
    """The frame of each picture by its entry.

    Pictures that match the same frame are all refused. Pictures in LabelMe files are compared with
    the stored frames below `root`, unless it is None.
    """
    pictures: dict[str, Picture] = {picture.entry: picture for picture in found.pictures}
    matches = {entry: finder.find(picture) for entry, picture in pictures.items()}
    if root is not None:
        matches = {
            entry: checked(match, pictures[entry], finder, root) for entry, match in matches.items()
        }
    owners: dict[str, list[str]] = {}
    for entry, match in matches.items():
        if isinstance(match, Match):
            owners.setdefault(str(match.row["image_id"]), []).append(entry)
    for entries in owners.values():
        if len(entries) > 1:
            names = " and ".join(f"'{pictures[entry].name}'" for entry in entries[:MAX_NAMES])
            matches |= {entry: NoMatch("two_pictures", names) for entry in entries}
    return matches
