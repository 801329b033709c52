"""Write a study as a data set in one of the layouts that other tools load."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sono.annotation.release.card import card_text, header, study_statistics
from sono.annotation.release.card_config import CardConfig
from sono.annotation.release.coco import write_coco
from sono.annotation.release.croissant import croissant
from sono.annotation.release.hugging_face import write_hugging_face
from sono.annotation.release.image_folder import write_image_folder
from sono.annotation.release.open_clip import write_open_clip
from sono.annotation.release.questions import ASKED
from sono.annotation.release.records import SPLIT_NAMES
from sono.annotation.release.samples import SampleSet, left_out, samples_of
from sono.annotation.release.sonoclip import write_sonoclip
from sono.annotation.release.webdataset import write_webdataset
from sono.curation.core.atomic import atomic_path, file_sha256
from sono.curation.core.atomic_folders import new_folder
from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_file, check_folder

Layout = Literal["huggingface", "imagefolder", "webdataset", "coco", "open-clip", "sonoclip"]

CARD, CHECKSUMS = "README.md", "SHA256SUMS"


@dataclass(frozen=True)
class ReleaseSummary:
    """What was written: frames by split, captions, masks, and the private strings searched for."""

    path: Path
    frames: dict[str, int]
    captions: int
    masks: int
    private_strings: int
    remarks: tuple[str, ...]


def export_dataset(
    workspace: Workspace,
    target: Path,
    layout: Layout,
    proposed: bool = False,
    no_vault: bool = False,
) -> ReleaseSummary:
    """Write accepted frames, captions and reviewed masks (with `proposed`, unreviewed ones, too).

    The same tables give the same bytes. Nothing is left on an error. Raises PrivacyError if
    something private is found, SonoError if there are no captions, `target` is not a new or empty
    folder, or private text cannot be searched for (unless `no_vault`).
    """
    workspace.require_vault(no_vault)
    workspace.check_new_folder(target)
    found = samples_of(workspace, [*TRAINED_STATES, *(["proposed"] if proposed else [])])
    with new_folder(target) as folder:
        _writer(layout, workspace.planes())(found, folder)
        _describe(workspace, found, folder, layout)
        private_strings = check_folder(workspace, folder)
    return ReleaseSummary(
        path=target,
        frames={SPLIT_NAMES[split]: len(found.of(split)) for split in found.splits},
        captions=sum(len(sample.captions) for sample in found.samples),
        masks=sum(len(sample.regions) for sample in found.samples),
        private_strings=private_strings,
        remarks=tuple(left_out(found)),
    )


@dataclass(frozen=True)
class CardSummary:
    """Where the card is, and the keys of `[card]` that the study does not state."""

    path: Path
    not_stated: tuple[str, ...]
    private_strings: int


def write_card(workspace: Workspace, target: Path, no_vault: bool = False) -> CardSummary:
    """Write the data card of a study as Markdown.

    Raises PrivacyError if something private is found in it, SonoError if `target` exists and is no
    card, or private text cannot be searched for (unless `no_vault`).
    """
    workspace.require_vault(no_vault)
    workspace.check_output(target, b"# ")
    config = workspace.settings("card", CardConfig)
    text = card_text(workspace)
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
        searched = check_file(workspace, temporary, target.name)
    return CardSummary(target, tuple(key for key in ASKED if not getattr(config, key)), searched)


def _describe(workspace: Workspace, found: SampleSet, folder: Path, layout: Layout) -> None:
    """Write the card, the checksums of all files, and for Parquet the Croissant description."""
    config = workspace.settings("card", CardConfig)
    names = [SPLIT_NAMES[split] for split in found.splits]
    patterns = {"huggingface": "data/{}-*.parquet", "imagefolder": "{}/**"}
    files = {name: patterns[layout].format(name) for name in names if layout in patterns}
    if layout == "huggingface":
        title = config.title or workspace.study().name
        described = croissant(folder, config, study_statistics(workspace), title)
        text = json.dumps(described, indent=1, ensure_ascii=False)
        (folder / "croissant.json").write_text(text + "\n", encoding="utf-8")
    card = header(config, found, files) + card_text(workspace, found)
    (folder / CARD).write_text(card, encoding="utf-8")
    lines = [
        f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _writer(layout: Layout, planes: PlaneTable) -> Callable[[SampleSet, Path], None]:
    if layout == "huggingface":
        return lambda found, folder: write_hugging_face(found, folder, tuple(planes.by_id))
    writers: dict[str, Callable[[SampleSet, Path], None]] = {
        "imagefolder": write_image_folder,
        "webdataset": write_webdataset,
        "coco": write_coco,
        "open-clip": write_open_clip,
        "sonoclip": write_sonoclip,
    }
    if layout not in writers:
        known = ", ".join(["huggingface", *writers])
        raise SonoError(f"unknown layout '{layout}'; known: {known}")
    return writers[layout]
