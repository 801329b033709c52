"""Write a study as a data set in one of the layouts that other tools load."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
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
from sono.annotation.release.samples import SampleSet, captions_alone, left_out, samples_of
from sono.annotation.release.sonoclip import write_sonoclip
from sono.annotation.release.webdataset import webdataset_features, write_webdataset
from sono.curation.core.atomic import file_sha256, read_regular, write_text
from sono.curation.core.atomic_folders import new_folder
from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_folder, check_privacy
from sono.curation.privacy.own_texts import CARD

Layout = Literal["huggingface", "imagefolder", "webdataset", "coco", "open-clip", "sonoclip"]

CHECKSUMS = "SHA256SUMS"
MARK = b"<!-- data card, written by sono -->\n\n"


@dataclass(frozen=True)
class ReleaseSummary:
    """What was written: frames by split, captions, masks, and the private strings searched for."""

    path: Path
    frames: dict[str, int]
    held_out: int | None  # frames of them; None: the settings hold out no center
    frame_captions: int
    masks: int
    mask_captions: int
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
    remarks = left_out(found)
    if layout == "open-clip":
        found, more = captions_alone(found)
        remarks += more
    with new_folder(target) as folder:
        _writer(layout, workspace.planes())(found, folder)
        _describe(workspace, found, folder, layout)
        private_strings = check_folder(workspace, folder)
    held = [sample.held_out for sample in found.samples]
    regions = [region for sample in found.samples for region in sample.regions]
    return ReleaseSummary(
        path=target,
        frames={SPLIT_NAMES[split]: len(found.of(split)) for split in found.splits},
        held_out=sum(map(bool, held)) if found.hold_out else None,
        frame_captions=sum(len(sample.captions) for sample in found.samples),
        masks=len(regions),
        mask_captions=sum(len(region.captions) for region in regions),
        private_strings=private_strings,
        remarks=tuple(remarks),
    )


@dataclass(frozen=True)
class CardSummary:
    """Where the card is, and the keys of `[card]` that the study does not state."""

    path: Path
    not_stated: tuple[str, ...]
    private_strings: int


def write_card(workspace: Workspace) -> CardSummary:
    """Write the data card of a study as README.md into its root.

    Raises PrivacyError if something private is found in the study, SonoError if its README.md is no
    card.
    """
    target = workspace.root / CARD
    if target.exists() and not read_regular(target).startswith(MARK):
        raise SonoError(f"{target}: is not a card of sono; move it, it would be overwritten")
    config = workspace.settings("card", CardConfig)
    write_text(target, MARK.decode() + card_text(workspace, study_statistics(workspace)))
    not_stated = tuple(key for key in ASKED if not getattr(config, key))
    return CardSummary(target, not_stated, check_privacy(workspace))


def _describe(workspace: Workspace, found: SampleSet, folder: Path, layout: Layout) -> None:
    """Write the card, the checksums of all files, and for Parquet the Croissant description."""
    config = workspace.settings("card", CardConfig)
    names = [SPLIT_NAMES[split] for split in found.splits]
    patterns = {
        "huggingface": "data/{}-*.parquet",
        "imagefolder": "{}/**",
        "webdataset": "{}-*.tar",
    }
    files = {name: patterns[layout].format(name) for name in names if layout in patterns}
    stats, digests = study_statistics(workspace), _digests(folder)
    if layout == "huggingface":
        title = config.title or workspace.study().name
        described = croissant(folder, config, stats, title, digests)
        text = json.dumps(described, indent=1, ensure_ascii=False)
        (folder / "croissant.json").write_text(text + "\n", encoding="utf-8")
    features = webdataset_features() if layout == "webdataset" else []
    card = header(config, found, files, features) + card_text(workspace, stats, found)
    (folder / CARD).write_text(card, encoding="utf-8")
    digests = _digests(folder, digests)
    lines = [f"{digests[place]}  {place}\n" for place in sorted(digests, key=Path)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def _digests(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The SHA-256 of each file by its place in the folder; `known` ones are not read again."""
    places = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return {place: known.get(place) or file_sha256(folder / place) for place in places}


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
