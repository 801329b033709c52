"""Make a study of a data set that somebody else exported: frames, masks, captions and splits."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from sono.annotation.caption_facts import facts_of
from sono.annotation.captions import caption_writer
from sono.annotation.masks import mask_row, mask_table
from sono.annotation.release.read_samples import read_samples
from sono.annotation.release.received import ID, Received
from sono.annotation.release.records import SPLIT_NAMES
from sono.annotation.release.samples import FACTS
from sono.curation.core.atomic import check_inside, file_sha256, read_regular, write_bytes
from sono.curation.core.column_values import ID_PATTERN, MASK_SOURCES, MASK_STATES
from sono.curation.core.console import progress
from sono.curation.core.errors import SonoError, counted, did_you_mean
from sono.curation.core.frame_files import checksum_of, encode_png, frame_file, image_id_of
from sono.curation.core.pseudonyms import pseudonym
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy
from sono.curation.records.read import RecordsConfig

TEMPLATE = "imported-{:02}"  # of the first caption of a frame, of the second, ...
CHECKSUMS = "SHA256SUMS"
KINDS = {str: "a text", int: "a whole number", float: "a number", list: "a list of texts"}
SPLITS = {name: split for split, name in SPLIT_NAMES.items()} | {"val": "val"}


@dataclass(frozen=True)
class ImportedSummary:
    """What was imported: frames by split, masks, captions, and those with findings of the lint."""

    frames: dict[str, int]
    frame_captions: int
    masks: int
    mask_captions: int
    caption_findings: dict[str, int]
    checksums: int  # files whose SHA-256 was compared
    remarks: tuple[str, ...]


def import_dataset(workspace: Workspace, folder: Path) -> ImportedSummary:
    """Fill a new study with the samples of `folder`; all or nothing of the tables is written.

    Frames keep their ids, pixels and splits, masks their ids, states and pixels. Raises SonoError
    if the study has frames already, a file is not that of its checksum, one id has two pictures, or
    a sample is damaged.
    """
    workspace.require_vault()
    if workspace.path(IMAGES).exists():
        raise SonoError(
            f"{workspace.root}: has frames already; a data set becomes a study of its own: "
            "`sono init NEW`, then `sono import dataset` with -w NEW"
        )
    checked = _check_sums(folder)
    images: dict[str, dict[str, Any]] = {}
    masks: list[dict[str, Any]] = []
    texts: list[tuple[str, str | None, str | None, tuple[str, ...]]] = []
    planes = workspace.planes()
    known = workspace.settings("records", RecordsConfig).known_findings
    mask_ids: set[str] = set()
    held: Counter[str | None] = Counter()  # frames that are marked as held out, by center
    with workspace.lock(), progress("import frames", None) as advance:
        for sample in read_samples(folder):
            row = _image(workspace, sample, folder)
            planes.check([row["plane"]])
            _check_findings(row["findings"] or (), known, f"{folder}: sample {sample.name}")
            if row["image_id"] in images:
                raise SonoError(
                    f"{folder}: two samples have the id {row['image_id']}; export it again"
                )
            images[row["image_id"]] = row
            held[row["center"]] += _is_held_out(sample, folder)
            advance()
            texts.append((row["image_id"], None, None, sample.captions))
            write_bytes(workspace.root / row["file"], encode_png(sample.gray))
            for mask in sample.masks:
                fields = _mask_fields(mask.values)
                made = mask_row(row, mask.pixels, mask.structure, fields.pop("source"), **fields)
                if made["mask_id"] in mask_ids:
                    raise SonoError(
                        f"{folder}: two masks have the id {made['mask_id']}, or one is listed "
                        "twice; export it again"
                    )
                mask_ids.add(str(made["mask_id"]))
                masks.append(made)
                texts.append((row["image_id"], str(made["mask_id"]), mask.structure, mask.captions))
        if not images:
            raise SonoError(f"{folder}: has no sample; copy the data set again")
        table = from_rows(IMAGES, list(images.values()))
        captions, findings = _captions(workspace, table, texts)
        sources = [_source(row, folder) for row in images.values()]
        workspace.write_vault(workspace.sources_path, SOURCES, from_rows(SOURCES, sources))
        if masks:
            workspace.write(MASKS, mask_table(masks))
        if len(captions):
            workspace.write(CAPTIONS, captions)
        workspace.write(IMAGES, table)  # the last, so that the command can be given again before
    check_privacy(workspace)
    split = Counter(SPLIT_NAMES[row["split"] or "unassigned"] for row in images.values())
    of_masks = int((captions["level"] == "region").sum())
    return ImportedSummary(
        frames=dict(split),
        frame_captions=len(captions) - of_masks,
        masks=len(masks),
        mask_captions=of_masks,
        caption_findings=dict(findings),
        checksums=checked,
        remarks=tuple(_remarks(table, +held)),
    )


def _remarks(images: pd.DataFrame, held: Mapping[str | None, int]) -> Iterator[str]:
    """Frames of unknown planes, and what to do about those that the sender held out of training."""
    unknown = int(images["plane"].isna().sum())
    if unknown:
        yield f"{counted(unknown, 'frame has', 'frames have')} no plane in the data set"
    if held:
        centers = ", ".join(
            f"{name or 'no center'} ({count})" for name, count in sorted(held.items(), key=str)
        )
        frames = counted(sum(held.values()), "frame is", "frames are")
        yield (
            f"{frames} marked as held out of training, of {centers}: name the held-out center in "
            "hold_out under [training] in sono.toml, or a run trains on it"
        )


def _check_sums(folder: Path) -> int:
    """Compare the files with the list of checksums, if there is one; the number of files."""
    listing = folder / CHECKSUMS
    if not listing.exists():
        return 0
    lines = read_regular(listing).decode("utf-8", "backslashreplace").splitlines()
    _check_all_listed(folder, {line.partition(" ")[2][1:] for line in lines})
    with progress("checksums", len(lines)) as advance:
        for line in lines:
            _check_sum(folder, line)
            advance()
    return len(lines)


def _check_all_listed(folder: Path, listed: set[str]) -> None:
    """Raise SonoError for a file that the list of checksums lacks; hidden ones are not read."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    more = {
        path.as_posix() for path in files if not any(one.startswith(".") for one in path.parts)
    } - {*listed, CHECKSUMS}
    if more:
        raise SonoError(
            f"{folder / min(more)}: not listed in {CHECKSUMS} ({counted(len(more), 'such file')}); "
            "move it away, or copy the data set again"
        )


def _check_sum(folder: Path, line: str) -> None:
    """Raise SonoError if a file is not that of its line in the list of checksums."""
    digest, _, name = line.partition(" ")
    name = name[1:]  # after a second space, or the * of `sha256sum --binary`
    check_inside(folder / name, folder)
    if not (folder / name).is_file() or file_sha256(folder / name) != digest:
        raise SonoError(
            f"{folder / name}: missing, or not the file that {CHECKSUMS} lists; copy it again"
        )


def _image(workspace: Workspace, sample: Received, folder: Path) -> dict[str, Any]:
    """A row of the images table; a sample without an id of sono gets that of its pixels."""
    given = sample.values
    image_id = given.get("image_id") or image_id_of(sample.gray)
    for name, kind in (FACTS | {"plane": str}).items():
        if not _is(given.get(name), kind):
            raise SonoError(
                f"{folder}: sample {sample.name}: {name} is {given[name]!r:.80}, which is not "
                f"{KINDS[kind]}; export it again"
            )
    if not isinstance(image_id, str) or not ID.fullmatch(image_id):
        raise SonoError(
            f"{folder}: sample {sample.name}: image_id is {image_id!r:.80}, which is no id of "
            "sono (16 to 64 of the digits 0 to 9 and a to f); export it again"
        )
    if sample.split not in SPLITS:
        raise SonoError(
            f"{folder}: sample {sample.name}: unknown split '{sample.split:.40}'; name the file or "
            f"folder by one of {', '.join(SPLITS)}"
        )
    split = SPLITS[sample.split]
    stated = given.get("split")
    if isinstance(stated, str) and SPLITS.get(stated, split) != split:
        raise SonoError(
            f"{folder}: sample {sample.name}: its split is '{stated}', but it is in the "
            f"files of '{sample.split}'; give them their names again"
        )
    height, width = sample.gray.shape
    facts = {name: given.get(name) for name in FACTS}
    return facts | {
        "image_id": image_id,
        "source_id": pseudonym(workspace.key(), "data set", image_id, checksum_of(sample.gray)),
        "frame": 0,
        "plane": given.get("plane"),
        "height": height,
        "width": width,
        "status": "accepted",
        "split": None if split == "unassigned" else split,
        "file": frame_file(image_id, sample.gray),
    }


def _check_findings(findings: Iterable[str], known: Collection[str], place: str) -> None:
    """Raise SonoError for a finding that no list has: it may be a denial, or hold a name."""
    unknown = [one for one in findings if one not in known]
    if unknown:
        raise SonoError(
            f"{place}: unknown finding {unknown[0]!r:.60}{did_you_mean(unknown[0], known)}; "
            "captions state findings as they are: if it is one, add it to findings under "
            "[records] in sono.toml"
        )


def _is_held_out(sample: Received, folder: Path) -> bool:
    """Whether the sender holds a frame out of training; a table without types writes it as text."""
    given = sample.values.get("held_out")
    if given not in (None, True, False, "true", "false", ""):
        raise SonoError(
            f"{folder}: sample {sample.name}: held_out is {given!r:.40}, which is neither true nor "
            "false; export it again"
        )
    return given in (True, "true")


def _is(value: object, kind: type) -> bool:
    """Whether a fact is unknown or of its type; a whole number is also a decimal one."""
    if value is None:
        return True
    if kind is list:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind is str or isinstance(value, bool):
        return kind is str and isinstance(value, str)
    if kind is int:
        return isinstance(value, int) and abs(value) < 1 << 31
    return isinstance(value, int | float) and isfinite(value)


def _mask_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Source, state and id of a mask; one that does not say so is a proposal."""
    source, state = values.get("source", "import"), values.get("state", "proposed")
    if source not in MASK_SOURCES or state not in MASK_STATES:
        raise SonoError(f"a mask has the unknown source '{source}' or state '{state}'")
    given = values.get("mask_id")
    if given is not None and not (isinstance(given, str) and re.fullmatch(ID_PATTERN, given)):
        raise SonoError(f"a mask has the id {given!r:.80}, which is no id; export it again")
    return {"source": source, "state": state} | ({"mask_id": given} if given else {})


def _source(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the vault knows of a frame: the folder that it came with."""
    place = str(folder.absolute()).encode()
    return row | {"path": place, "root": place, "settings_hash": "", "private": [], "persons": []}


def _captions(
    workspace: Workspace,
    images: pd.DataFrame,
    texts: list[tuple[str, str | None, str | None, tuple[str, ...]]],
) -> tuple[pd.DataFrame, Counter[str]]:
    """The captions table, and how often the lint found what in it."""
    writer = caption_writer(workspace, images)
    facts = dict(facts_of(images))
    findings: Counter[str] = Counter()
    rows: list[dict[str, object]] = []
    for image_id, mask_id, structure, own in texts:
        stated = facts[image_id]._replace(structure=structure)
        for number, text in enumerate(own, start=1):
            judged = writer.judge(text, stated)
            findings.update(judged.findings)
            rows.append(
                {
                    "image_id": image_id,
                    "mask_id": mask_id,
                    "level": "region" if mask_id else "global",
                    "text": text,
                    "template": TEMPLATE.format(number),
                    "tier": judged.tier,
                    "tokens": judged.tokens,
                    "fields": list(judged.fields),
                }
            )
    return from_rows(CAPTIONS, rows), findings
