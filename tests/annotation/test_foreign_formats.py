"""Files of other tools are named for what they are."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mask_studies import make_study
from PIL import Image

from sono.annotation.exchange.foreign_formats import file_format, json_format
from sono.annotation.import_options import ImportOptions
from sono.annotation.mask_import import import_masks
from sono.curation.core.errors import SonoError

VIA = {"a.png12": {"filename": "a.png", "size": 12, "regions": [], "file_attributes": {}}}
FILES = {
    "a CVAT XML": b'<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>',
    "a Pascal VOC XML (boxes)": b"<annotation><filename>a.png</filename></annotation>",
    "an XML": b"\xef\xbb\xbf <svg/>",
    "a YOLO text (fractions of the picture)": b"0 0.5 0.5 0.2 0.3\n1 0.1 0.1 0.05 1\n",
    "an empty file": b"\n",
    "a DICOM file (segmentations in DICOM are not read)": bytes(128) + b"DICM",
    "ZIP archive": b"PK\x03\x04" + bytes(40),
    "NRRD volume": b"NRRD0004\n",
    "": b"a.png,femur,1,2,3,4\n",
}
CONTENTS: dict[str, Any] = {
    "VGG Image Annotator": VIA,
    "COCO results without images and categories": [{"image_id": 1, "category_id": 1, "score": 1}],
    "Datumaro": {"info": {}, "categories": {}, "items": []},
    "GeoJSON": {"type": "FeatureCollection", "features": []},
    "Supervisely": {"size": {"height": 9, "width": 9}, "objects": []},
    "Labelbox": [{"data_row": {}, "projects": {}}],
}


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_named_by_its_content(tmp_path: Path, name: str) -> None:
    assert file_format(FILES[name]) == name
    if name:
        path = tmp_path / "given" / "scan.dat"
        path.parent.mkdir()
        path.write_bytes(FILES[name])
        study = make_study(tmp_path, ["/raw/scan.png"])
        for given in (path, path.parent):
            with pytest.raises(SonoError) as caught:
                import_masks(study, given)
            assert name in str(caught.value)


@pytest.mark.parametrize("name", CONTENTS)
def test_json_is_named_by_its_content(tmp_path: Path, name: str) -> None:
    assert json_format(CONTENTS[name]) == name
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(CONTENTS[name]))
    with pytest.raises(SonoError) as caught:
        import_masks(make_study(tmp_path, ["/raw/scan.png"]), path)
    assert f"JSON of another format ({name})" in str(caught.value)


@pytest.mark.parametrize("content", [None, 7, [], {}, [7], {"a": 7}, {"type": ["x"]}, [[{}]]])
def test_unknown_json_has_no_name(content: Any) -> None:
    assert json_format(content) == ""


def test_the_via_project_is_named_too() -> None:
    assert json_format({"_via_settings": {}, "_via_img_metadata": VIA}) == "VGG Image Annotator"


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "TIFF"])
def test_a_picture_of_another_format_is_named_with_any_suffix(tmp_path: Path, kind: str) -> None:
    study = make_study(tmp_path, ["/raw/scan.png"])
    path = tmp_path / "given" / "scan.png"
    path.parent.mkdir()
    path.write_bytes(picture(kind))
    summary = import_masks(study, path, ImportOptions(structure="femur"))
    assert f"a {kind} picture that is named .png" in summary.examples[0]
    other = path.rename(path.with_suffix(".dat"))
    for given in (other, other.parent):
        with pytest.raises(SonoError, match=f"a {kind} picture"):
            import_masks(study, given, ImportOptions(structure="femur"))


def test_a_text_of_yolo_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "scan.txt"
    path.write_text("0 0.5 0.5 0.6 0.5 0.6 0.6 0.5 0.6\n")
    with pytest.raises(SonoError, match=r"a YOLO text .*not a table"):
        import_masks(make_study(tmp_path, ["/raw/scan.png"]), path)
