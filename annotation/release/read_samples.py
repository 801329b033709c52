"""Find the layout of a data set by its files, and read its samples."""

from collections.abc import Iterator
from pathlib import Path

from sono.annotation.release.received import (
    WRONG_FIELDS,
    Received,
    read_hugging_face,
    read_image_folder,
    read_sonoclip,
    read_webdataset,
)
from sono.annotation.release.received_lists import read_coco, read_open_clip
from sono.annotation.weights.weight_files import short
from sono.curation.core.atomic import check_inside, check_regular
from sono.curation.core.errors import SonoError


def read_samples(folder: Path) -> Iterator[Received]:
    """The samples of a folder, whose layout is found by its files.

    Raises SonoError for a folder of another layout, and for a sample that is damaged.
    """
    readers = {
        "data/*.parquet": read_hugging_face,
        "*/metadata.parquet": read_image_folder,
        "*-*.tar": read_webdataset,
        "data/train_stems.txt": read_sonoclip,
        "test/ul_test.json": read_sonoclip,
        "data/*_stems.txt": read_sonoclip,
        "annotations/captions_*.json": read_coco,
        "annotations/instances_*.json": read_coco,
        "*.csv": read_open_clip,
    }
    for pattern, reader in readers.items():
        if any(folder.glob(pattern)):
            for path in folder.glob(pattern):
                check_inside(path, folder)
                check_regular(path)
            try:
                yield from reader(folder)
            except WRONG_FIELDS as error:
                raise SonoError(
                    f"{folder}: not the fields of such a data set ({type(error).__name__}: "
                    f"{short(error)}); export or copy it again"
                ) from error
            return
    raise SonoError(
        f"{folder}: not a data set that is read here; it has none of {', '.join(readers)} (give "
        "the folder that `sono export dataset` wrote)"
    )
