"""Read the samples of a data set in Parquet, in shards or as SonoCLIP's authors lay it out."""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sono.annotation.release.sonoclip import STEMS
from sono.annotation.weights.weight_files import short
from sono.curation.core.atomic import (
    MAX_TEXT_BYTES,
    check_inside,
    read_json_object,
    read_regular,
)
from sono.curation.core.column_values import ID_PATTERN
from sono.curation.core.errors import SonoError
from sono.curation.core.rle import decode
from sono.curation.readers.images import read_image

MAX_PICTURE_BYTES = 1 << 28
MAX_PIXELS = 1 << 26  # of a mask
MAX_CAPTION = 10_000  # characters
_STEM = re.compile(ID_PATTERN)
_PART = re.compile(r"(.+?)-(\d+)(?:-of-(\d+))?")  # the name of a file that has a part of a split
ID = re.compile(r"[0-9a-f]{16,64}")  # of frames and masks in the data sets of sono
# what reading fields of another type than ours raises
WRONG_FIELDS = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class ReceivedMask:
    """A mask [H, W] of a sample; `values` are those of release.records.region_values, if given."""

    pixels: NDArray[np.bool_]
    structure: str
    captions: tuple[str, ...]
    values: dict[str, Any]

    def refuse_other_size(self, gray: NDArray[np.uint8], place: str) -> None:
        """SonoError if the mask is not of the size of its picture."""
        if self.pixels.shape != gray.shape:
            raise SonoError(
                f"{place}: a mask has {self.pixels.shape[0]} x {self.pixels.shape[1]} pixels, the "
                f"picture {gray.shape[0]} x {gray.shape[1]}; masks are never turned or scaled"
            )


@dataclass(frozen=True)
class Received:
    """A sample: its picture [H, W], and the values that release.records.frame_values names."""

    name: str
    gray: NDArray[np.uint8]
    split: str
    values: dict[str, Any]
    captions: tuple[str, ...]
    masks: tuple[ReceivedMask, ...]


def read_hugging_face(folder: Path) -> Iterator[Received]:
    for path in _all_parts((folder / "data").glob("*.parquet")):
        split = path.name.split("-")[0]
        for row in _rows(path):
            yield _of_row(str(path), row, split, row["image"]["bytes"], _mask_bytes)


def _all_parts(paths: Iterable[Path]) -> list[Path]:
    """Files in order; SonoError if one of their numbers, from 0 on, is missing in a split."""
    found = sorted(paths)
    parts: dict[str, list[tuple[int, int]]] = {}
    for path in found:
        if part := _PART.fullmatch(path.stem):
            parts.setdefault(part[1], []).append((int(part[2]), int(part[3] or 0)))
    for split, numbers in parts.items():
        own = {number for number, _ in numbers}
        count = max(max(number + 1, of) for number, of in numbers)
        if lost := sorted({*range(min(count, len(own) + 1))} - own):
            raise SonoError(
                f"{found[0].parent}: lacks part {lost[0]} of the split '{split}', which has at "
                f"least {count}; copy it again"
            )
    return found


def _mask_bytes(mask: dict[str, Any]) -> bytes:
    return bytes(mask["mask"]["bytes"])


def read_image_folder(folder: Path) -> Iterator[Received]:
    for path in sorted(folder.glob("*/metadata.parquet")):

        def picture(name: str, root: Path = path.parent) -> bytes:
            return content_of(root / name, root)

        for row in _rows(path):
            content = picture(row["file_name"])
            yield _of_row(
                str(path),
                row,
                path.parent.name,
                content,
                lambda mask: picture(mask["mask_file_name"]),
            )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a row group at a time; numbers of classes become their names."""
    try:
        with pq.ParquetFile(path) as file:
            described = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
            kinds = json.loads(described).get("info", {}).get("features", {})
            names = kinds.get("plane", {}).get("names")
            for group in range(file.num_row_groups):
                for row in file.read_row_group(group).to_pylist():
                    if names is not None and row["plane"] is not None:
                        row["plane"] = _class_name(names, row["plane"], path)
                    yield row
    except (pa.ArrowException, OSError, *WRONG_FIELDS) as error:
        raise SonoError(f"{path}: not a readable table ({error}); copy it again") from error


def _class_name(names: object, number: object, path: Path) -> str:
    """The name of a class; SonoError for a number without a name."""
    if isinstance(names, list) and type(number) is int and 0 <= number < len(names):
        return str(names[number])
    raise SonoError(f"{path}: plane {number!r} is no class of this table; export it again")


def _of_row(place: str, row: dict[str, Any], split: str, picture: bytes, mask_of: Any) -> Received:
    try:
        masks = tuple(
            ReceivedMask(
                gray_of(mask_of(one), f"{place}, mask {one['mask_id']}") > 127,
                name_of(one["structure"]),
                texts_of(one["captions"]),
                one,
            )
            for one in row["masks"]
        )
        name = str(row["image_id"])
        gray = gray_of(picture, f"{place}, frame {name}")
        return Received(name, gray, split, row, texts_of(row["captions"]), masks)
    except WRONG_FIELDS as error:
        raise SonoError(
            f"{place}: not the columns of a frame ({type(error).__name__}: {short(error)}); export "
            "it again"
        ) from error


def read_webdataset(folder: Path) -> Iterator[Received]:
    for path in _all_parts(folder.glob("*-*.tar")):
        try:
            with tarfile.open(path) as shard:
                split = path.name.rsplit("-", 1)[0]
                for stem, parts in _grouped(shard, path):
                    values = json.loads(parts["json"])
                    gray = gray_of(parts["png"], f"{path}, frame {stem}")
                    yield _of_json(str(path), stem, gray, split, values)
        except (tarfile.TarError, OSError, EOFError, *WRONG_FIELDS) as error:
            raise SonoError(
                f"{path}: not a readable shard ({type(error).__name__}: {short(error)}); copy it "
                "again"
            ) from error


def _grouped(shard: tarfile.TarFile, path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The files of each sample by suffix; they follow each other and share the stem.

    Raises SonoError for a sample without picture or JSON, as the end of a cut shard.
    """
    stem, parts = "", dict[str, bytes]()
    for member in shard:
        name, _, suffix = member.name.partition(".")
        stream = shard.extractfile(member)
        if member.size > MAX_PICTURE_BYTES or stream is None or (suffix in parts and name == stem):
            raise SonoError(f"{path}: {member.name} is no file of a sample")
        if parts and name != stem:
            yield stem, _complete(stem, parts, path)
            parts = {}
        stem = _safe(name, path)
        parts[suffix] = stream.read()
    if parts:
        yield stem, _complete(stem, parts, path)


def _complete(stem: str, parts: dict[str, bytes], path: Path) -> dict[str, bytes]:
    if {"png", "json"} - parts.keys():
        raise SonoError(
            f"{path}: sample {stem} has no picture or no JSON; the shard was cut, copy it again"
        )
    return parts


def read_sonoclip(folder: Path) -> Iterator[Received]:
    """By the field rules of the published code; further fields are those of sono."""
    for split, name in STEMS.items():
        path = folder / "data" / name
        if path.exists():
            stems = read_regular(path, 64 * MAX_TEXT_BYTES).decode("utf-8").split()
            for stem in stems:
                values = json_of(folder / "data/jsons" / f"{_safe(stem, path)}.json", folder)
                yield _of_stem(folder / "data/images", stem, split, values)
    tested = folder / "test/ul_test.json"
    if tested.exists():
        for stem, values in json_of(tested, folder).items():
            yield _of_stem(folder / "test/images", _safe(stem, tested), "test", values)


def _of_stem(images: Path, stem: str, split: str, values: dict[str, Any]) -> Received:
    path = next(
        (path for kind in ("png", "jpg", "jpeg") if (path := images / f"{stem}.{kind}").exists()),
        None,
    )
    if path is None:
        raise SonoError(f"{images}: lacks the picture of {stem}; copy the data set again")
    gray = gray_of(content_of(path, images), str(path))
    return _of_json(str(path), stem, gray, split, values)


def _of_json(
    place: str, stem: str, gray: NDArray[np.uint8], split: str, values: dict[str, Any]
) -> Received:
    try:
        caption = values.get("caption")
        captions = values.get("captions") or ([caption] if caption else [])
        if not isinstance(captions, list):
            raise TypeError("captions are no list")
        masks = tuple(_masks_of(values))
    except WRONG_FIELDS as error:
        raise SonoError(
            f"{place}: not the fields of a sample ({type(error).__name__}: {short(error)})"
        ) from error
    for mask in masks:
        mask.refuse_other_size(gray, place)
    return Received(stem, gray, split, values, texts_of(captions), masks)


def _masks_of(values: dict[str, Any]) -> Iterator[ReceivedMask]:
    """The masks: `seudo_masks` with the texts of `mask_captions`, which win over `ref_exps`."""
    described = values.get("masks", [])
    if "seudo_masks" not in values:  # webdataset
        for one in described:
            yield ReceivedMask(
                pixels_of(one["segmentation"]), name_of(one["structure"]),
                texts_of(one["captions"]), one,
            )  # fmt: skip
        return
    spans, texts = values.get("ref_exps", []), values.get("mask_captions")
    for number, runs in enumerate(values["seudo_masks"]):
        own = described[number] if described else {}
        named = values["caption"][slice(*spans[number])] if number < len(spans) else ""
        text = texts[number] if texts else named
        structure = own.get("structure") or named or text
        captions = texts_of(own.get("captions", [text] if text else []))
        yield ReceivedMask(pixels_of(runs), str(structure), captions, own)


def texts_of(captions: object) -> tuple[str, ...]:
    """Captions; TypeError unless they are a list of texts, ValueError for one that is too long."""
    if not isinstance(captions, list) or not all(isinstance(one, str) for one in captions):
        raise TypeError("captions are no list of texts")
    if (longest := max(map(len, captions), default=0)) > MAX_CAPTION:
        raise ValueError(f"a caption of {longest} characters; at most {MAX_CAPTION} are read")
    return tuple(captions)


def name_of(structure: object) -> str:
    """The name of a structure; TypeError if it is no text."""
    if not isinstance(structure, str):
        raise TypeError(f"a structure is {structure!r:.40}, not a text")
    return structure


def pixels_of(runs: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask of COCO run lengths; ValueError if they are damaged or describe too large a mask."""
    height, width = runs["size"]
    if height * width > MAX_PIXELS:
        raise ValueError(f"a mask of {height} x {width} pixels")
    try:
        return decode(runs["counts"], int(height), int(width))
    except SonoError as error:  # the caller names the sample
        raise ValueError(str(error)) from error


def gray_of(content: bytes, place: str) -> NDArray[np.uint8]:
    """The gray picture [H, W] of a file."""
    found = read_image(content)
    if len(found.frames) != 1:
        raise SonoError(f"{place}: not a readable picture ({found.message}); copy it again")
    return found.frames[0].gray


def content_of(path: Path, folder: Path) -> bytes:
    check_inside(path, folder)
    try:
        return read_regular(path, MAX_PICTURE_BYTES)
    except OSError as error:
        raise SonoError(f"{path}: {error.strerror}; copy the data set again") from error


def json_of(path: Path, folder: Path) -> dict[str, Any]:
    check_inside(path, folder)
    return read_json_object(path, "copy the data set again")


def _safe(stem: str, path: Path) -> str:
    if not _STEM.fullmatch(stem):
        raise SonoError(f"{path}: {stem!r} cannot be the name of a file")
    return stem
