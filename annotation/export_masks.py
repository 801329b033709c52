"""Export masks in the format of another tool; `sono masks import` reads all of them back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sono.annotation.exchange.formats import FORMATS, Format, FormatName
from sono.annotation.exchange.frames import ATTRIBUTES, Content, ExportFrame, ExportMask
from sono.annotation.mask_fit import crop
from sono.annotation.masks import check_masks, masks_of
from sono.annotation.placing import in_source, source_size, source_spacing
from sono.annotation.source_names import SourceNames, frame_names
from sono.curation.core.atomic import atomic_path, real_path
from sono.curation.core.atomic_folders import new_folder
from sono.curation.core.console import warn
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode
from sono.curation.core.tables import Row, rows_of
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_file, check_folder

Coordinates = Literal["stored", "source"]
MAX_LOSSES = 10  # named in the terminal
NOT_REVIEWED = {"proposed": "proposed (not reviewed)"}  # in the terminal
PRIVATE_MODE, PRIVATE_FOLDER_MODE = 0o600, 0o700


@dataclass(frozen=True)
class ExportOptions:
    """The options of `sono masks export`.

    `coordinates`: pixels of the stored crop, or of the source frame. `source_names`: name files by
    the raw files, which is private. `no_vault`: export unsearched where the vault is missing.
    `proposed`: also masks that nobody has reviewed.
    """

    format: FormatName = "coco"
    coordinates: Coordinates = "stored"
    source_names: bool = False
    no_vault: bool = False
    proposed: bool = True


@dataclass(frozen=True)
class ExportSummary:
    """What was written and where; `states` counts the masks, `proposed` ones are not reviewed.

    `private_strings` were searched for; None if the export is private, and was not searched.
    `losses` names each mask that is not exactly the same when it is read back.
    """

    path: Path
    images: int
    masks: int
    states: dict[str, int]
    private_strings: int | None
    losses: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def table(self) -> dict[str, object]:
        """The summary for the terminal, with the first losses and their number."""
        more = len(self.losses) - MAX_LOSSES
        shown = (
            *self.losses[:MAX_LOSSES],
            *([f"{more} more; --json lists all"] if more > 0 else []),
        )
        searched = "not searched: private" if self.private_strings is None else self.private_strings
        states = {NOT_REVIEWED.get(state, state): count for state, count in self.states.items()}
        changed = {"states": states, "losses": shown, "private_strings": searched}
        return {**vars(self), **changed}


def export_masks(
    workspace: Workspace, target: Path, options: ExportOptions | None = None
) -> ExportSummary:
    """Write the accepted frames and their masks, without rejected masks.

    The same tables give the same bytes. Nothing is written on an error: Raises PrivacyError if
    something private is found, SonoError if there are no masks, or when private text cannot be
    searched for (unless `options.no_vault`).
    """
    options = options or ExportOptions()
    form = FORMATS[options.format]
    workspace.require_vault(None if options.source_names else options.no_vault)
    _check_target(workspace, target, form, options)
    frames = workspace.accepted_images().drop_duplicates("image_id").sort_values("image_id")
    masks = masks_of(workspace, frames["image_id"])
    if not options.proposed:
        masks = _reviewed(workspace, masks)
    check_masks(masks, frames)
    names = frame_names(workspace, frames, options.source_names, options.coordinates == "source")
    content = Content((), tuple(sorted(set(masks["structure"]))))
    content.frames = _frames(frames, masks, names, options, content)
    searched = _write(workspace, target, form, content, options.source_names)
    remarks = [*_remarks(frames, masks, form, options), *names.remarks, *content.remarks]
    if options.source_names:
        warn(f"{target}: names raw files, which may contain names of patients; do not share it")
    return ExportSummary(
        target,
        len(frames),
        len(masks),
        {str(state): int(count) for state, count in masks["state"].value_counts().items()},
        searched,
        tuple(map(str, content.losses)),
        tuple(remarks),
    )


def _check_target(workspace: Workspace, target: Path, form: Format, options: ExportOptions) -> None:
    if options.source_names and real_path(target).is_relative_to(real_path(workspace.root)):
        raise SonoError(
            f"{target}: is inside the workspace, which may be shared, but --source-names exports "
            "private names; choose a place outside it"
        )
    if form.start is None:
        workspace.check_new_folder(target)
    elif target.is_dir():
        raise SonoError(
            f"{target}: a folder, but {options.format} is one file; name it, as in "
            f"{target / 'masks.json'}"
        )
    else:
        workspace.check_output(target, form.start)


def _write(
    workspace: Workspace, target: Path, form: Format, content: Content, private: bool
) -> int | None:
    """Write the export; returns the number of private strings that were searched for."""
    if form.start is None:
        with new_folder(target) as folder:
            form.write(content, folder)
            if private:
                _hide(folder)
                return None
            return check_folder(workspace, folder)
    with atomic_path(target, PRIVATE_MODE if private else 0o644) as temporary:
        form.write(content, temporary)
        return None if private else check_file(workspace, temporary, target.name)


def _hide(folder: Path) -> None:
    """Let only the owner read a folder and all in it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(PRIVATE_FOLDER_MODE if path.is_dir() else PRIVATE_MODE)


def _reviewed(workspace: Workspace, masks: pd.DataFrame) -> pd.DataFrame:
    """The masks that a person has accepted; raises SonoError if there is none."""
    reviewed = masks[masks["state"] != "proposed"]
    if reviewed.empty:
        raise SonoError(
            f"{workspace.root}: none of the {len(masks)} masks is reviewed; run `sono masks review "
            "--reviewer NAME`, or export the proposals, too, without --no-proposed"
        )
    return reviewed


def _frames(
    frames: pd.DataFrame,
    masks: pd.DataFrame,
    names: SourceNames,
    options: ExportOptions,
    content: Content,
) -> Iterator[ExportFrame]:
    """Yield the frames with their masks, decoded one frame at a time."""
    of_frame: dict[str, list[Row]] = {}
    for row in rows_of(masks):
        of_frame.setdefault(str(row["image_id"]), []).append(row)
    is_source = options.coordinates == "source"
    for image in rows_of(frames):
        image_id = str(image["image_id"])
        name, stem = names.of[image_id]
        size = source_size(image) if is_source else (int(image["height"]), int(image["width"]))
        drawn = [_mask(row, image, is_source, content) for row in of_frame.get(image_id, ())]
        spacing = source_spacing(image) if is_source else _spacing(image)
        yield ExportFrame(name, stem, size, tuple(drawn), spacing)


def _mask(row: Row, image: Row, is_source: bool, content: Content) -> ExportMask:
    pixels = decode(str(row["counts"]), int(row["height"]), int(row["width"]))
    attributes = {name: None if pd.isna(row[name]) else row[name] for name in ATTRIBUTES}
    mask = ExportMask(str(row["mask_id"]), str(row["structure"]), pixels, attributes)
    if not is_source:
        return mask
    placed = in_source(pixels, image)
    again = crop(placed, image)
    if (again != pixels).any():
        iou = float((again & pixels).sum() / (again | pixels).sum())
        content.lose(mask, iou, "resampled to the pixels of its file")
    return ExportMask(mask.mask_id, mask.structure, placed, attributes)


def _spacing(image: Mapping[str, Any]) -> tuple[float, float] | None:
    spacing = image["row_spacing_mm"], image["col_spacing_mm"]
    return None if pd.isna(spacing[0]) or pd.isna(spacing[1]) else spacing


def _remarks(
    frames: pd.DataFrame, masks: pd.DataFrame, form: Format, options: ExportOptions
) -> list[str]:
    found = []
    shown = frames[frames["image_id"].isin(masks["image_id"])]
    proposed = int((masks["state"] == "proposed").sum())
    if proposed:
        lost = f", which {options.format} cannot express: imported elsewhere they count as accepted"
        found.append(
            f"{proposed} of {len(masks)} masks are proposals that nobody has reviewed"
            f"{'' if form.states else lost}; --no-proposed leaves them out"
        )
    if options.coordinates == "source":
        resampled = int(shown["file_height"].notna().sum())
        turned = sum(
            "rotated_by_exif" in (codes if codes is not None else ()) for codes in shown["reasons"]
        )
        if resampled:
            found.append(
                f"the masks of {resampled} frames are resampled (nearest pixel), because the "
                "pixels of these files are not square and those of the stored frames are"
            )
        if turned:
            found.append(
                f"{turned} frames are turned by the orientation tag of their file; their masks are "
                "in the pixels of the displayed picture"
            )
    return found
