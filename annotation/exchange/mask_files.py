"""Read external masks of any format: files, or folders of files."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sono.annotation.exchange.box_tables import read_boxes
from sono.annotation.exchange.coco import EXPORT_HELP, is_coco, read_coco
from sono.annotation.exchange.cvat import read_cvat
from sono.annotation.exchange.foreign_formats import file_format, json_format
from sono.annotation.exchange.foreign_masks import Found, read_file, reading
from sono.annotation.exchange.label_images import IMAGES, read_label_image, read_segmentation
from sono.annotation.exchange.label_studio import is_label_studio, read_label_studio
from sono.annotation.exchange.labelme import is_labelme, read_labelme
from sono.annotation.exchange.legends import LEGENDS, find_legend, read_listed
from sono.annotation.exchange.mask_pictures import PictureRules, read_mask_picture
from sono.annotation.exchange.yolo import names_file, read_yolo
from sono.curation.core.errors import SonoError

READ = (".png", ".json", ".xml", *IMAGES)
TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".jsonl")


@dataclass(frozen=True)
class MaskRules:
    """How the files are read: `pictures` for pictures, `columns` (field -> title) for tables.

    `legend`: whether a legend names the classes of pictures, because no option does.
    """

    pictures: PictureRules = field(default_factory=PictureRules)
    columns: Mapping[str, str] = field(default_factory=dict)
    legend: bool = True


def read_masks(path: Path, rules: MaskRules) -> Found:
    """All masks of a file or folder.

    Raises SonoError if `path` has none of the supported formats.
    """
    found = Found()
    if path.is_dir():
        _read_folder(path, rules, found)
    elif not path.exists():
        raise SonoError(
            f"{path}: not found; give a file of masks (COCO, LabelMe, Label Studio, CVAT), a table "
            "of boxes, or a folder of mask files"
        )
    elif path.suffix.lower() in TABLES:
        if path.suffix.lower() == ".txt" and (kind := file_format(read_file(path))):
            raise SonoError(
                f"{path}: {kind}, not a table; give the folder of YOLO with its data.yaml, or "
                f"{EXPORT_HELP}"
            )
        with reading(path):
            read_boxes(path, rules.columns, found)
    elif path.suffix.lower() in (".yaml", ".yml"):
        read_yolo(path, found)
    else:
        with reading(path):
            _read_file(path, path.parent, rules, found)
    _refuse_several_paints(found, rules.pictures.force)
    if found.unnamed:
        counts = ", ".join(
            f"{value} ({count} pixels)" for value, count in sorted(found.unnamed.items())
        )
        found.remarks.append(f"values without --value are left out: {counts}")
    return found


def _refuse_several_paints(found: Found, force: bool) -> None:
    """Refuse pictures that should show one structure but have several values or colors.

    Several values or colors are several classes. With `force`, a remark is added instead.
    """
    if len(found.paints) < 2:
        return
    counts = ", ".join(
        f"{paint} in {len(places)}" for paint, places in sorted(found.paints.items())
    )
    problem = f"pictures that should show one structure have several values or colors: {counts}"
    if force:
        found.remarks.append(problem)
        return
    found.masks.clear()
    for place in sorted(place for places in found.paints.values() for place in places):
        found.refuse(
            "classes",
            place,
            f"{problem}; name what each shows with --value or --color, or give --force",
        )


def _read_file(path: Path, folder: Path, rules: MaskRules, found: Found) -> None:
    """The masks of one file below `folder`; SonoError if it has none of the formats."""
    kind = path.suffix.lower()
    if kind == ".png":
        read_mask_picture(path, folder, rules.pictures, found)
    elif kind in (".xml", ".zip"):
        read_cvat(path, found)
    elif kind not in IMAGES:
        _read_json(path, folder, found)
    elif kind == ".mha" or not read_segmentation(path, folder, found):
        read_mask_picture(path, folder, rules.pictures, found, read_label_image)


def _read_folder(folder: Path, rules: MaskRules, found: Found) -> None:
    """The mask files below `folder`; other files are counted."""
    if (names := names_file(folder)) is not None and any(folder.rglob("*.txt")):
        read_yolo(names, found)
        return
    legend = find_legend(folder) if rules.legend else None
    listed = set(LEGENDS)
    if legend is not None:
        listed |= legend.files
        pictures = rules.pictures
        if legend.values:
            pictures = replace(pictures, values=legend.values)
        if legend.colors:
            pictures = replace(pictures, colors=legend.colors)
        rules = replace(rules, pictures=pictures)
        read_listed(legend, found)
    others: Counter[str] = Counter()
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
        and path.name[0] != "."
        and path.relative_to(folder).as_posix() not in listed
    ]
    if legend is None and not any(path.suffix.lower() in READ for path in files):
        there = f" (the first file is {_kind(files[0])})" if files else ""
        raise SonoError(
            f"{folder}: contains no PNG or LabelMe JSON, nor another mask file{there}; give the "
            "folder with the masks, as PNG or COCO"
        )
    if legend is not None and legend.masks:
        if files:
            found.remarks.append(
                f"{len(files)} files were not read, because {legend.path.name} does not list them"
            )
        return
    for path in files:
        if path.suffix.lower() not in READ:
            others[path.suffix.lower() or "no extension"] += 1
            continue
        try:
            with reading():
                _read_file(path, folder, rules, found)
        except SonoError as error:
            found.refuse("broken", path, str(error).removeprefix(f"{path}: "))
    if others:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(others.items()))
        found.remarks.append(f"files of other kinds were not read: {counts}")


def _kind(path: Path) -> str:
    """What a file is, or its name if that is unknown."""
    try:
        return file_format(read_file(path)) or path.name
    except SonoError:
        return path.name


def _read_json(path: Path, folder: Path, found: Found) -> None:
    content = _json(path)
    if is_labelme(content):
        read_labelme(path, folder, content, found)
    elif is_coco(content):
        read_coco(path, content, found)
    elif is_label_studio(content):
        read_label_studio(path, content, found)
    else:
        kind = json_format(content)
        other = f"of another format ({kind})" if kind else "of an unknown format"
        raise SonoError(
            f"{path}: JSON {other}, neither LabelMe nor COCO with images, annotations and "
            f"categories; {EXPORT_HELP}"
        )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; raises ValueError for a key with two different values."""
    content = dict(pairs)
    if len(content) < len(pairs):
        for key, value in pairs:
            if content[key] != value:
                raise ValueError(f"an object has two values of the key '{key[:40]}'")
    return content


def _json(path: Path) -> Any:
    raw = read_file(path)
    found = file_format(raw)
    if found.endswith("picture"):
        raise SonoError(
            f"{path}: contains {found}; convert mask pictures to PNG and name them .png"
        )
    if found:
        raise SonoError(f"{path}: {found}, not JSON; {EXPORT_HELP}")
    try:
        return json.loads(raw, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise SonoError(f"{path}: not valid JSON ({error}); {EXPORT_HELP}") from error
