"""Read data sets that list pictures in files of their own: COCO, and the tables of open_clip."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sono.annotation.release.received import (
    ID,
    WRONG_FIELDS,
    Received,
    ReceivedMask,
    content_of,
    gray_of,
    json_of,
    pixels_of,
    texts_of,
)
from sono.annotation.weights.weight_files import short
from sono.curation.core.atomic import MAX_JSON_BYTES, read_regular
from sono.curation.core.errors import SonoError

Entry = dict[str, Any]
COLUMNS = ("filepath", "title")  # open_clip's default names


def read_coco(folder: Path) -> Iterator[Received]:
    """The images of `annotations/captions_SPLIT.json` and `instances_SPLIT.json`, once each."""
    place = folder / "annotations"
    splits = {path.stem.partition("_")[2] for kind in ("captions", "instances")
              for path in place.glob(f"{kind}_*.json")}  # fmt: skip
    for split in sorted(splits):
        files = [place / f"{kind}_{split}.json" for kind in ("captions", "instances")]
        images: dict[int, Entry] = {}
        captions: dict[int, list[Entry]] = {}
        instances: dict[int, list[Entry]] = {}
        for path, found in zip(files, (captions, instances), strict=True):
            if path.exists():
                _add(path, json_of(path, folder), images, found)
        for number, image in images.items():
            own = captions.get(number, []), instances.get(number, [])
            yield _of_entries(folder, split, image, *own)


def _add(
    path: Path, content: Entry, images: dict[int, Entry], found: dict[int, list[Entry]]
) -> None:
    """Take the images and annotations of one file; the same image may be in the other file, too.

    Raises SonoError for an image that the two files describe in two ways, and for an annotation of
    an image that is not listed.
    """
    try:
        own: dict[int, Entry] = {}
        for image in content["images"]:
            if type(image["id"]) is not int or image["id"] in own:
                raise SonoError(f"{path}: image id {image['id']!r:.40} twice, or not a number")
            own[image["id"]] = image
            if images.setdefault(image["id"], image) != image:
                raise SonoError(
                    f"{path}: image {image['id']} is another one in the file of captions; export "
                    "or copy both files again"
                )
        names: dict[Any, Any] = {}
        for one in content.get("categories", []):
            if names.setdefault(one["id"], one["name"]) != one["name"]:
                raise SonoError(f"{path}: two categories have the id {one['id']!r:.40}")
        for entry in content["annotations"]:
            if entry["image_id"] not in own:
                raise SonoError(
                    f"{path}: annotation {entry.get('id')!r:.40} is of image "
                    f"{entry['image_id']!r:.40}, which is not listed; copy the data set again"
                )
            name = {"name": names[entry["category_id"]]} if "category_id" in entry else {}
            found.setdefault(entry["image_id"], []).append(entry | name)
    except WRONG_FIELDS as error:
        raise SonoError(
            f"{path}: not the fields of COCO ({type(error).__name__}: {short(error)}); export or "
            "copy it again"
        ) from error


def _of_entries(
    folder: Path, split: str, image: Entry, captions: list[Entry], instances: list[Entry]
) -> Received:
    place = f"{folder}, image {image['id']}"
    try:
        name, given = image["file_name"], image.get("image_id")
        if not isinstance(name, str):
            raise TypeError("file_name is no text")
        texts = texts_of([one["caption"] for one in captions])
        masks = tuple(_mask(place, one) for one in instances)
    except WRONG_FIELDS as error:
        raise SonoError(
            f"{place}: not the fields of COCO ({type(error).__name__}: {short(error)}); export or "
            "copy it again"
        ) from error
    if given is not None and Path(name).stem != given:
        raise SonoError(
            f"{place}: the file {name!r:.80} is not that of its image_id {given!r:.80}; copy the "
            "data set again"
        )
    path = folder / "images" / name
    gray = gray_of(content_of(path, folder / "images"), str(path))
    for mask in masks:
        mask.refuse_other_size(gray, place)
    return Received(name, gray, split, image, texts, masks)


def _mask(place: str, entry: Entry) -> ReceivedMask:
    """A mask of run lengths; SonoError for polygons, which `sono masks import` draws."""
    runs = entry["segmentation"]
    if not isinstance(runs, dict):
        raise SonoError(
            f"{place}: annotation {entry.get('id')!r:.40} is a polygon, which is not read here; "
            "import the frames with `sono qc`, and this file with `sono masks import`"
        )
    values = entry.get("attributes", {})
    structure = values.get("structure") or entry["name"]
    return ReceivedMask(
        pixels_of(runs), str(structure), texts_of(values.get("captions", [])), values
    )


def read_open_clip(folder: Path) -> Iterator[Received]:
    """The pictures of `SPLIT.csv` with the columns `filepath` and `title`, a row for each caption.

    The id of a frame is the name of its file if that is an id of sono. The tables have no facts.
    """
    for path in sorted(folder.glob("*.csv")):
        for name, rows in _rows_of(path).items():
            file = folder / name
            stem = Path(name).stem
            values = rows[0] | ({"image_id": stem} if ID.fullmatch(stem) else {})
            gray = gray_of(content_of(file, folder), str(file))
            texts = texts_of([one["title"] for one in rows])
            yield Received(name, gray, path.stem, values, texts, ())


def _rows_of(path: Path) -> Mapping[str, list[dict[str, str]]]:
    """The rows of each file of a table, in their order."""
    try:
        text = read_regular(path, MAX_JSON_BYTES).decode("utf-8-sig")
        sign = "\t" if "\t" in text.partition("\n")[0] else ","
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=sign, strict=True)
        if not set(COLUMNS) <= set(rows.fieldnames or ()):
            raise SonoError(
                f"{path}: its columns are {', '.join(rows.fieldnames or ())!r:.80}; a table of "
                f"open_clip has {' and '.join(COLUMNS)}"
            )
        found: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            if None in row or not row["filepath"] or not row["title"]:
                raise SonoError(
                    f"{path}:{rows.line_num}: not a path and a caption; copy the table again"
                )
            found.setdefault(row["filepath"], []).append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise SonoError(f"{path}: not a readable table ({error}); copy it again") from error
    return found
