"""Pictures of masks with a legend: which value, color or file shows which structure.

`legend.json` lists every mask with its file, so that it is read back exactly. A legend of other
tools, JSON or CSV, names values or colors alone.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sono.annotation.exchange.foreign_masks import ForeignMask, Found, Picture, read_file, reading
from sono.annotation.exchange.frames import from_texts
from sono.annotation.exchange.label_images import read_label_image
from sono.annotation.exchange.mask_pictures import decoded_reader
from sono.annotation.exchange.picture_pixels import Pixels, decode_picture
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import check_inside, real_path
from sono.curation.core.errors import SonoError

LEGENDS = ("legend.json", "legend.csv")
MAX_LEGEND = 1 << 28  # bytes
VALUES = ("value", "index", "id", "label value", "pixel value")
COLORS = ("color", "colour", "hex", "rgb")
STRUCTURES = ("structure", "name", "label", "class", "category")
HEX = re.compile("#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class Legend:
    """What a legend says: `masks` lists single masks; `values` and `colors` name classes."""

    path: Path
    masks: Sequence[Any] = ()
    values: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> set[str]:
        """The files that the list of masks names."""
        return {str(one.get("file")) for one in self.masks if isinstance(one, dict)}


def find_legend(folder: Path) -> Legend | None:
    """The legend of a folder; SonoError if it cannot be read."""
    path = next((folder / name for name in LEGENDS if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        text = read_file(path, MAX_LEGEND).decode("utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else _rows(text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise SonoError(f"{path}: not a readable legend ({error}); write it again") from error
    if isinstance(content, dict) and isinstance(content.get("masks"), list):
        return Legend(path, masks=content["masks"])
    return _of_classes(path, content)


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _of_classes(path: Path, content: Any) -> Legend:
    """The legend of {value or color: name}, or of rows with a value or color and a name."""
    if isinstance(content, dict) and isinstance(content.get("labels"), list):
        content = content["labels"]
    if isinstance(content, dict):
        pairs = list(content.items())
    else:
        if not isinstance(content, list):
            raise SonoError(f"{path}: has no list of classes or masks; write it again")
        rows = [
            {str(name).strip().lower().replace("_", " "): value for name, value in row.items()}
            for row in content
            if isinstance(row, dict)
        ]
        pairs = [(_cell(row, (*VALUES, *COLORS)), _cell(row, STRUCTURES)) for row in rows]
    values: dict[int, str] = {}
    colors: dict[str, str] = {}
    for key, name in pairs:
        text = str(key).strip()
        if not isinstance(name, str) or not (HEX.fullmatch(text) or re.fullmatch(r"\d{1,5}", text)):
            raise SonoError(
                f"{path}: '{text[:40]}' is no value and no color #rrggbb with a name; write a line "
                "for each class, as in value,structure and 1,fetal head"
            )
        known: dict[Any, str] = colors if text.startswith("#") else values
        one: Any = text.lower() if text.startswith("#") else int(text)
        if known.setdefault(one, name.strip()) != name.strip():
            raise SonoError(f"{path}: {text} has two names; keep one")
    values = {value: name for value, name in values.items() if value}  # 0 is the background
    if bool(values) == bool(colors):
        raise SonoError(f"{path}: names no class, or both values and colors; write one of the two")
    return Legend(path, values=values, colors=colors)


def _cell(row: Mapping[str, Any], titles: Iterable[str]) -> Any:
    return next((row[title] for title in titles if row.get(title) not in (None, "")), None)


def read_listed(legend: Legend, found: Found) -> None:
    """Add the masks that a legend lists to `found`; a bad entry is refused."""
    folder = legend.path.parent
    by_file: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for number, entry in enumerate(legend.masks):
        place = f"{legend.path}: mask {number}"
        names = ("file", "picture", "structure")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(one), str) for one in names):
            found.refuse("broken", place, "an entry without file, picture or structure")
            continue
        by_file.setdefault(entry["file"], []).append((place, entry))
    pictures: dict[str, Picture] = {}
    for name, entries in by_file.items():
        try:
            with reading():
                path = _inside(folder, name)
                is_png = path.suffix.lower() == ".png"
                picture = decode_picture(path) if is_png else read_label_image(path)
        except SonoError as error:
            for place, _ in entries:
                found.refuse("broken", place, str(error))
            continue
        _add_file(path, picture, entries, pictures, found)


def _inside(folder: Path, name: str) -> Path:
    """The path of a listed file; SonoError if it leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise SonoError(f"'{name[:80]}' leads out of the folder; name a file inside it")
    check_inside(folder / path, folder)
    return folder / path


def _add_file(
    path: Path,
    pixels: Pixels,
    entries: Sequence[tuple[str, dict[str, Any]]],
    pictures: dict[str, Picture],
    found: Found,
) -> None:
    taken: set[object] = set()
    for place, entry in entries:
        key = entry.get("value", entry.get("color"))
        try:
            if str(key) in taken:
                raise SonoError(
                    f"the second mask with {'the value ' + str(key) if key else 'this file'}"
                )
            with reading():
                mask = _listed(pixels, entry)
        except SonoError as error:
            found.refuse("broken", place, f"{path.name}: {error}")
            continue
        taken.add(str(key))
        name = entry["picture"]
        if name not in pictures:
            folder = str(real_path(path.parent))
            pictures[name] = Picture(name, f"legend: picture {name}", folder)
            found.pictures.append(pictures[name])
        attributes = entry.get("attributes")
        exported = from_texts(attributes) if isinstance(attributes, dict) else {}
        size = (mask.shape[0], mask.shape[1])
        read = decoded_reader(mask)
        one = ForeignMask(pictures[name], entry["structure"], size, place, read, exported=exported)
        found.masks.append(one)


def _listed(pixels: Pixels, entry: Mapping[str, Any]) -> Mask:
    """The mask [H, W] of an entry: one value, one color, or all that is not black."""
    value, color = entry.get("value"), entry.get("color")
    if value is not None:
        if type(value) is not int or pixels.values is None:
            raise SonoError(f"no pictures of values, or '{str(value)[:20]}' is no value")
        mask = pixels.values == value
    elif color is not None:
        if not isinstance(color, str) or not HEX.fullmatch(color):
            raise SonoError(f"'{str(color)[:20]}' is no color #rrggbb")
        wanted = np.frombuffer(bytes.fromhex(color[1:]), np.uint8)
        mask = (pixels.rgb == wanted).all(axis=2)
    else:
        mask = pixels.rgb.any(axis=2)
    if not mask.any():
        raise SonoError("no pixel of it is in the picture")
    return np.asarray(mask, np.bool_)
