"""The gate on every kind of file that a workspace may contain.

Planted text is found; numbers are not searched.
"""

import base64
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import save_file

from sono.curation.core.atomic import write_bytes, write_text
from sono.curation.core.errors import PrivacyError
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS, from_rows, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.privacy import text_extraction
from sono.curation.privacy.gate import check_privacy
from sono.curation.privacy.onnx_text import MESSAGES, NUMBERS, without_tensors
from sono.curation.privacy.text_extraction import extract_texts

NAME = "Doewörth^Jané"
SPELLINGS = ("DOEWÖRTH^JANÉ", "jane doeworth", "Doewoerth")


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    workspace = Workspace.create(tmp_path / "study")
    row = {
        "path": b"/raw/x/1.png",
        "root": b"/raw",
        "settings_hash": "x",
        "source_id": "s",
        "frame": 0,
    }
    row |= {"status": "accepted", "raw_patient": "MB-0471181", "private": [NAME, "19900312"]}
    write_table(workspace.sources_path, from_rows(SOURCES, [row]), SOURCES)
    return workspace


def gray_png(**save: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(buffer, "PNG", **save)
    return buffer.getvalue()


def with_chunk(kind: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return gray_png()[:33] + chunk + gray_png()[33:]


def caption_row(text: str, study: Workspace) -> None:
    row = {
        "image_id": "i",
        "level": "global",
        "text": text,
        "template": "t",
        "tier": "label",
        "tokens": 9,
    }
    study.write(CAPTIONS, from_rows(CAPTIONS, [row]))


def image_row(study: Workspace, **values: object) -> None:
    row: dict[str, object] = {
        "source_id": "s",
        "frame": 0,
        "status": "accepted",
        "reasons": ["overlay"],
    }
    study.write(IMAGES, from_rows(IMAGES, [row | values]))


def mask_row(study: Workspace, text: str) -> None:
    row: dict[str, object] = {
        "mask_id": "m",
        "image_id": "i",
        "structure": "femur",
        "height": 9,
        "width": 9,
        "area": 3,
    }
    row |= {
        "counts": "abc",
        "box_x": 1,
        "box_y": 1,
        "box_width": 1,
        "box_height": 1,
        "source": "manual",
    }
    study.write(MASKS, from_rows(MASKS, [row | {"state": "accepted", "reviewer": text}]))


def safetensors(note: str) -> bytes:
    header = json.dumps({"__metadata__": {"note": note}}).encode()
    return struct.pack("<Q", len(header)) + header


def array_bytes(values: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values))
    return buffer.getvalue()


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def proto(number: int, body: bytes) -> bytes:
    """A field of a protobuf message: its number, the length of `body`, `body`."""

    def varint(value: int) -> bytes:
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    return varint(number << 3 | 2) + varint(len(body)) + body


def onnx(**parts: bytes) -> bytes:
    """An ONNX model of one node and one tensor, with `parts` added to the messages of that name."""
    tensor = proto(8, b"weight") + proto(9, bytes(4000)) + parts.get("tensor", b"")
    attribute = proto(1, b"value") + proto(5, tensor) + parts.get("attribute", b"")
    node = proto(4, b"Constant") + proto(5, attribute) + parts.get("node", b"")
    graph = proto(1, node) + proto(2, b"main") + proto(5, tensor) + parts.get("graph", b"")
    return b"\x08\x0a" + proto(2, b"pytorch") + proto(7, graph) + parts.get("model", b"")


def table_bytes(text: str) -> bytes:
    """A packed table, whose text no byte of it shows."""
    buffer = io.BytesIO()
    pd.DataFrame({"a": [text, f"{text}, {text}"]}).to_parquet(buffer, compression="gzip")
    return buffer.getvalue()


def jpeg(comment: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG", comment=comment)
    return buffer.getvalue()


def table(study: Workspace, frame: pd.DataFrame, note: str = "") -> None:
    path = study.root / "extra.parquet"
    made = pa.Table.from_pandas(frame)
    pq.write_table(made.replace_schema_metadata({"note": note}) if note else made, path)


Plant = Callable[[Workspace, str], None]


def as_bytes(place: str, make: Callable[[str], bytes]) -> Plant:
    return lambda study, text: write_bytes(study.root / place, make(text))


def packed(text: str) -> bytes:
    return zlib.compress(text.encode())


PLANTS: dict[str, Plant] = {
    "caption": lambda study, text: caption_row(f"The femur of {text}.", study),
    "cell": lambda study, text: image_row(study, machine=text),
    "list cell": lambda study, text: image_row(study, findings=["cyst", text]),
    "code": lambda study, text: table(study, pd.DataFrame({"reasons": [[text]]})),
    "message": lambda study, text: image_row(study, status="error", message=f"bad value {text}"),
    "mask": mask_row,
    "other table": lambda study, text: table(study, pd.DataFrame({"a": [text]})),
    "binary cell": lambda study, text: table(study, pd.DataFrame({"a": [text.encode("latin-1")]})),
    "column name": lambda study, text: table(study, pd.DataFrame({text: [1.0]})),
    "table metadata": lambda study, text: table(study, pd.DataFrame({"a": [1]}), text),
    "report": as_bytes("report.html", lambda text: f"<td>{text}</td>".encode()),
    "split report": as_bytes(
        "report.html", lambda text: f"<b>{text[:3]}</b>{text[3:]} <i>{text}</i>".encode()
    ),
    "picture in a report": as_bytes(
        "report.html",
        lambda text: (
            b'<img src="data:image/png;base64,%b">' % base64.b64encode(gray_png() + text.encode())
        ),
    ),
    "drawing in a report": as_bytes(
        "report.html",
        lambda text: (
            b'<img src="data:image/svg+xml;base64,%b">'
            % base64.b64encode(f"<?xml?><svg>\n<text>of {text}</text>\n</svg>".encode())
        ),
    ),
    "toml": as_bytes("sono.toml", lambda text: f'[study]\nname = "a"\n# {text}\n'.encode()),
    "log": as_bytes("runs/a/log.csv", lambda text: f"epoch,loss\n1,0.5,{text}\n".encode()),
    "json": as_bytes("runs/a/run.json", lambda text: json.dumps({"note": text}).encode()),
    "json key": as_bytes("runs/a/eval/metrics.json", lambda text: json.dumps({text: 1}).encode()),
    "weights": as_bytes("runs/a/model.safetensors", safetensors),
    "checkpoint": as_bytes(
        "runs/a/state.pt", lambda text: archive("state/data.pkl", text.encode())
    ),
    "ONNX metadata": as_bytes(
        "model.onnx",
        lambda text: onnx(model=proto(14, proto(1, b"author") + proto(2, text.encode()))),
    ),
    "ONNX documentation": as_bytes("m.onnx", lambda text: onnx(graph=proto(10, text.encode()))),
    "ONNX node": as_bytes("m.onnx", lambda text: onnx(node=proto(3, text.encode()))),
    "ONNX text attribute": as_bytes("m.onnx", lambda text: onnx(attribute=proto(4, text.encode()))),
    "ONNX tensor of texts": as_bytes("m.onnx", lambda text: onnx(tensor=proto(6, text.encode()))),
    "ONNX tensor name": as_bytes("m.onnx", lambda text: onnx(tensor=proto(8, text.encode()))),
    "unknown ONNX field": as_bytes("m.onnx", lambda text: onnx(graph=proto(99, text.encode()))),
    "damaged ONNX": as_bytes(
        "m.onnx", lambda text: onnx(tensor=proto(9, text.encode().ljust(5000)))[:-3500]
    ),
    "bytes after ONNX": as_bytes("m.onnx", lambda text: onnx() + text.encode()),
    "ONNX in an archive": as_bytes(
        "runs/a/x.zip", lambda text: archive("m.onnx", onnx(node=proto(6, text.encode())))
    ),
    "events": as_bytes(
        "runs/a/events.out.tfevents.1.h.0", lambda text: b"\x18\0\x0a" + text.encode() + b"\x12\0"
    ),
    "array of texts": as_bytes("runs/a/names.npy", lambda text: array_bytes([text, "b"])),
    "archive of arrays": as_bytes(
        "runs/a/x.npz", lambda text: archive("names.npy", array_bytes([text]))
    ),
    "table in an archive": as_bytes(
        "runs/a/x.zip", lambda text: archive("1.parquet", table_bytes(text))
    ),
    "table of another name": as_bytes("runs/a/table", table_bytes),
    "folder called data in an archive": as_bytes(
        "runs/a/x.zip", lambda text: archive("a/data/1.txt", text.encode())
    ),
    "name in an archive": as_bytes("runs/a/y.zip", lambda text: archive(text + ".txt", b"")),
    "packed log": as_bytes("runs/a/log.gz", lambda text: gzip.compress(text.encode())),
    "Latin-1": as_bytes("notes.txt", lambda text: text.encode("latin-1")),
    "UTF-16": as_bytes("notes.txt", lambda text: text.encode("utf-16")),
    "UTF-16 inside": as_bytes("notes.bin", lambda text: b"\x01\x02\xff" + text.encode("utf-16-be")),
    "base64": as_bytes("notes.txt", lambda text: base64.b64encode(text.encode())),
    "tEXt": as_bytes(
        "frames/ab/abcd.png",
        lambda text: with_chunk(b"tEXt", b"Comment\0" + text.encode("latin-1")),
    ),
    "iTXt": as_bytes(
        "frames/ab/abcd.png", lambda text: with_chunk(b"iTXt", b"T\0\0\0\0\0" + text.encode())
    ),
    "packed iTXt": as_bytes(
        "frames/ab/abcd.png", lambda text: with_chunk(b"iTXt", b"T\0\1\0de\0\0" + packed(text))
    ),
    "zTXt": as_bytes(
        "frames/ab/abcd.png", lambda text: with_chunk(b"zTXt", b"Comment\0\0" + packed(text))
    ),
    "eXIf": as_bytes(
        "frames/ab/abcd.png", lambda text: with_chunk(b"eXIf", b"II*\0" + text.encode("utf-16-le"))
    ),
    "bytes after a picture": as_bytes(
        "frames/ab/abcd.png", lambda text: gray_png() + text.encode()
    ),
    "picture of another name": as_bytes("frames/ab/abcd", lambda text: gray_png() + text.encode()),
    "JPEG comment": as_bytes("look.jpg", lambda text: jpeg(text.encode("latin-1"))),
    "bytes after a JPEG": as_bytes("look.jpg", lambda text: jpeg(b"x") + text.encode()),
    "file name": as_bytes("frames/{}.png", lambda text: b""),
}


@pytest.mark.parametrize("place", PLANTS)
def test_a_leak_is_found_in_every_kind_of_output(study: Workspace, place: str) -> None:
    check_privacy(study)
    if place == "file name":
        for text in SPELLINGS:
            write_bytes(study.frames / f"{text}.png", b"")
            assert_found(study, "DOEW")
            (study.frames / f"{text}.png").unlink()
        return
    for text in (*SPELLINGS, "MB471181"):
        PLANTS[place](study, text)
        assert_found(study, text)


def assert_found(study: Workspace, text: str) -> None:
    with pytest.raises(PrivacyError, match="private string") as caught:
        check_privacy(study)
    assert text.casefold() not in str(caught.value).replace(str(study.vault), "").casefold()
    assert (study.vault / "leaks.txt").stat().st_mode & 0o777 == 0o600


def test_folders_links_and_numbers_in_cells_are_searched_too(study: Workspace) -> None:
    (study.root / "MB 471181").mkdir()
    assert_found(study, "471181")
    (study.root / "MB 471181").rmdir()
    (study.root / "link").symlink_to("/raw/doewoerth")
    assert_found(study, "doewoerth")
    (study.root / "link").unlink()
    table(study, pd.DataFrame({"a": [471181]}))
    assert_found(study, "471181")
    table(study, pd.DataFrame({"day": [pd.Timestamp(1990, 3, 12)]}))
    assert_found(study, "1990")


def test_the_key_itself_is_a_secret(study: Workspace) -> None:
    write_text(study.root / "notes.txt", study.key_path.read_text())
    assert_found(study, "no such text")


def test_a_word_that_is_public_passes_and_the_vault_tells_which_was_found(study: Workspace) -> None:
    write_text(study.root / "notes.txt", "by Doeworth")
    assert_found(study, "doeworth")
    assert (study.vault / "leaks.txt").read_text() == "notes.txt\tdoeworth\n"
    config = study.config_path.read_text().replace(
        "[study]\n", '[study]\npublic_words = ["Doeworth"]\n'
    )
    write_text(study.config_path, config)
    assert check_privacy(study) > 0
    assert not (study.vault / "leaks.txt").exists()


def test_several_places_are_told_at_once(study: Workspace) -> None:
    for number in range(5):
        write_text(study.root / f"n{number}.txt", "Doeworth")
    with pytest.raises(
        PrivacyError, match=r"n0\.txt: 1 private string; n1\.txt.*and 2 more places"
    ):
        check_privacy(study)


def test_pixels_tensors_and_numbers_are_not_read_as_text(study: Workspace) -> None:
    write_bytes(study.root / "a.npy", array_bytes(np.frombuffer(b"Doeworth", np.uint8)))
    write_bytes(study.root / "runs/a/state.pt", archive("state/data/0", b" Doeworth "))
    write_bytes(study.root / "runs/a/w.safetensors", safetensors("x") + b" Doeworth ")
    save_file(
        {"frames": np.zeros(471181, np.uint8)}, study.root / "packed.safetensors", {"key": "0a"}
    )
    for field in (4, 5, 7, 9, 10, 11):
        content = onnx(tensor=proto(field, b" Doeworth "))
        write_bytes(study.root / "runs" / "a" / f"{field}.onnx", content)
    floats = onnx(attribute=proto(7, b" Doeworth ") + proto(8, b" Doeworth "))
    write_bytes(study.root / "floats.onnx", floats)
    write_bytes(study.frames / "ab" / "abcd.png", gray_png())
    assert check_privacy(study) > 0


def test_the_fields_of_onnx_are_those_of_the_library() -> None:
    library = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    types = {
        "model": library.ModelProto, "training": library.TrainingInfoProto,
        "function": library.FunctionProto, "graph": library.GraphProto, "node": library.NodeProto,
        "attribute": library.AttributeProto, "sparse": library.SparseTensorProto,
        "tensor": library.TensorProto,
    }  # fmt: skip
    names = {one.DESCRIPTOR.name: name for name, one in types.items()}
    for name, one in types.items():
        fields = one.DESCRIPTOR.fields
        inner = {each.number: each.message_type.name for each in fields if each.message_type}
        assert MESSAGES[name] == {
            number: names[kind] for number, kind in inner.items() if kind in names
        }
        numbers = {
            each.number
            for each in fields
            if each.name in ("raw_data", "floats", "ints")
            or each.name.endswith(
                ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")
            )
        }
        assert NUMBERS.get(name, frozenset()) == numbers


def test_a_deep_or_endless_onnx_model_is_searched_as_bytes() -> None:
    deep = b""
    for _ in range(200):
        deep = proto(1, proto(5, proto(6, deep)))  # a graph in an attribute of a node
    for content in (proto(7, deep), b"\xff" * 5000, proto(7, b"\x2a\xff\xff\x7f"), b"\x0b", b""):
        assert without_tensors(content) == content


def test_the_pixels_of_a_picture_inside_json_are_no_letters(tmp_path: Path) -> None:
    """A mask of LabelMe: names occur in base64 by chance."""
    picture = base64.b64encode(gray_png()).decode()
    path = tmp_path / "a.json"
    path.write_text(f'{{"mask": "{picture}", "label": "Okonkwo"}}')
    text = "\n".join(text for _, text in extract_texts(path))
    assert picture[20:40] not in text and "Okonkwo" in text
    hidden = base64.b64encode(gray_png() + b"Lindqvist").decode()
    path.write_text(f'{{"mask": "{hidden}"}}')
    assert "Lindqvist" in "\n".join(text for _, text in extract_texts(path))
    path.write_text(f'{{"mask": "{picture[:20]}Lindqvist{"A" * 40}"}}')
    assert "Lindqvist" in "\n".join(text for _, text in extract_texts(path))


@pytest.mark.parametrize("seed", range(6))
def test_every_different_cell_of_a_large_table_is_a_text(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever repeats, in whatever batches, and however many cells are remembered."""
    random = np.random.default_rng(seed)
    monkeypatch.setattr(text_extraction, "BATCH_ROWS", int(random.integers(1, 90)))
    monkeypatch.setattr(text_extraction, "MAX_KNOWN", int(random.integers(0, 60)))
    pool = [f"caption {number}" for number in range(int(random.integers(2, 300)))]
    texts = [None if number % 17 == 0 else pool[number] for number in random.choice(len(pool), 400)]
    lists = [[one, pool[0]] if one else None for one in texts]
    table = pa.table({"text": texts, "fields": pa.array(lists, pa.list_(pa.string()))})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=int(random.integers(20, 400)))
    found: dict[str, list[str]] = {"column 'text'": [], "column 'fields'": []}
    for where, text in extract_texts(tmp_path / "t.parquet"):
        if where in found:
            found[where] += text.split("\n") if text else []
    given = {one for one in texts if one}
    assert set(found["column 'text'"]) == given
    assert set(found["column 'fields'"]) == given | {pool[0]}
    assert len(found["column 'text'"]) <= 400


@pytest.mark.parametrize("row", [65_535, 149_999])
def test_a_name_in_one_of_150_000_repeated_captions_is_found(study: Workspace, row: int) -> None:
    image_row(study)
    text = [f"A femur at {number % 30} weeks." for number in range(150_000)]
    assert extract_count(study, text) < 31
    text[row] = "A femur of Jane Doewoerth."
    assert extract_count(study, text) < 32
    with pytest.raises(PrivacyError, match=r"captions.parquet, column 'text': "):
        check_privacy(study)


def extract_count(study: Workspace, texts: list[str]) -> int:
    """Write the texts as captions; the number of captions that are searched."""
    count = len(texts)
    same = {"level": "global", "template": "t", "tier": "label", "tokens": 9}
    table = pa.table(
        {name: pa.nulls(count, CAPTIONS.schema.field(name).type) for name in CAPTIONS.columns}
        | {name: pa.array([value] * count) for name, value in same.items()}
        | {"image_id": [f"{number:016x}" for number in range(count)], "text": texts}
    )
    pq.write_table(table.cast(CAPTIONS.schema), study.path(CAPTIONS))
    found = extract_texts(study.path(CAPTIONS))
    return sum(len(text.split("\n")) for where, text in found if where == "column 'text'" and text)
