"""The gate: private strings of the sources, in any disguise, are found wherever they stand."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from sono.annotation.captions import build_captions
from sono.curation.core.atomic import write_bytes, write_text
from sono.curation.core.errors import PrivacyError
from sono.curation.core.tables import CAPTIONS, IMAGES, from_rows, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.privacy.gate import check_privacy, private_strings


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    """One source of Jane Doeworth, born 12 March 1990, in a file that is named after her."""
    workspace = Workspace.create(tmp_path / "study")
    row = {
        "path": b"/raw/DOEWORTH_4711815.png",
        "root": b"/raw",
        "settings_hash": "x",
        "source_id": "s",
        "frame": 0,
        "image_id": "i",
    }
    row |= {
        "status": "accepted",
        "raw_patient": "4711815",
        "private": ["DOEWORTH^JANE", "19900312", "ACC-99887"],
    }
    write_table(workspace.sources_path, from_rows(SOURCES, [row]), SOURCES)
    return workspace


def test_a_clean_workspace_passes(study: Workspace) -> None:
    write_text(
        study.root / "report.html", "<p>A fetal ultrasound image of the femur at 22 weeks.</p>"
    )
    assert check_privacy(study) >= 4


@pytest.mark.parametrize(
    "text",
    [
        "Doeworth",
        "JANE DOEWORTH",
        "doeworth^jane",
        "4711815",
        "1990-03-12",
        "12.03.1990",
        "03/12/1990",
        "ACC-99887",
        "x_DOEWORTH_y",
    ],
)
def test_a_private_string_in_a_page_is_found(study: Workspace, text: str) -> None:
    write_text(study.root / "report.html", f"<td>{text}</td>")
    with pytest.raises(PrivacyError, match=r"report\.html: .* private string") as caught:
        check_privacy(study)
    assert text.casefold() not in str(caught.value).casefold()
    assert caught.value.exit_code == 4


def test_a_private_string_in_a_caption_is_found(study: Workspace) -> None:
    row = {
        "image_id": "i",
        "level": "global",
        "text": "The femur of Doeworth.",
        "template": "t",
        "tier": "label",
        "tokens": 9,
    }
    study.write(CAPTIONS, from_rows(CAPTIONS, [row]))
    with pytest.raises(PrivacyError, match=r"captions\.parquet, column 'text'"):
        check_privacy(study)


def test_a_private_file_name_is_found(study: Workspace) -> None:
    write_bytes(study.frames / "DOEWORTH.png", b"")
    with pytest.raises(PrivacyError, match="the name of frames"):
        check_privacy(study)


def png_with(chunk: bytes, content: bytes, tail: bytes = b"") -> bytes:
    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = part(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + part(chunk, content) + part(b"IEND", b"") + tail


@pytest.mark.parametrize(
    "picture",
    [
        png_with(b"tEXt", b"Comment\0DOEWORTH JANE"),
        png_with(b"IDAT", b"", b"Doeworth"),
        png_with(b"eXIf", b"4711815"),
    ],
)
def test_text_beside_the_pixels_of_a_picture_is_found(study: Workspace, picture: bytes) -> None:
    write_bytes(study.frames / "ab" / "abcd.png", picture)
    with pytest.raises(PrivacyError, match="frames"):
        check_privacy(study)


def test_pixels_are_not_read_as_text(study: Workspace) -> None:
    write_bytes(study.frames / "ab" / "abcd.png", png_with(b"IDAT", b"DOEWORTH"))
    assert check_privacy(study) > 0


def test_words_of_the_field_are_not_private_even_in_a_file_name(study: Workspace) -> None:
    row = {
        "path": b"/raw/femur.png",
        "root": b"/raw",
        "settings_hash": "x",
        "source_id": "s",
        "frame": 0,
    }
    row |= {"status": "accepted", "private": ["fetal head"], "machine": "Voluson"}
    write_table(study.sources_path, from_rows(SOURCES, [row]), SOURCES)
    assert private_strings(study).found_in("fetal head femur Voluson raw") == set()


def test_without_the_vault_there_is_nothing_to_search_for(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    assert check_privacy(study) == 0


def test_a_file_may_be_called_like_a_code_or_a_setting(study: Workspace) -> None:
    names = (b"blank.png", b"no_regions.dcm", b"records.csv", b"20000.png", b"palette.png")
    rows: list[dict[str, object]] = [
        {
            "path": b"/raw/" + name,
            "root": b"/raw",
            "settings_hash": "x",
            "source_id": str(number),
            "frame": 0,
            "private": [],
        }
        | {"status": "error", "reasons": ["blank", "no_palette"], "spacing_reason": "no_regions"}
        | {"message": "palette color without its palette; 20000 x 20000 pixels"}
        for number, name in enumerate(names)
    ]
    sources = from_rows(SOURCES, rows)
    write_table(study.sources_path, sources, SOURCES)
    study.write(IMAGES, sources[IMAGES.columns])
    assert check_privacy(study)


def test_a_name_in_a_message_is_found(study: Workspace) -> None:
    row: dict[str, object] = {
        "source_id": "s",
        "frame": 0,
        "status": "error",
        "message": "bad value DOEWORTH",
    }
    study.write(IMAGES, from_rows(IMAGES, [row]))
    with pytest.raises(PrivacyError, match=r"images\.parquet, column 'message'"):
        check_privacy(study)


def test_of_weights_the_header_is_searched_and_not_the_numbers(study: Workspace) -> None:
    weights = study.runs / "one" / "model.safetensors"
    header = b'{"__metadata__":{"note":"a name"}}'
    write_bytes(weights, struct.pack("<Q", len(header)) + header + b" DOEWORTH ")
    assert check_privacy(study) > 0
    write_bytes(weights, struct.pack("<Q", len(header)) + header.replace(b"a name", b"DOEWORTH"))
    with pytest.raises(PrivacyError, match="safetensors"):
        check_privacy(study)


def test_an_embedded_picture_is_not_read_as_words(study: Workspace) -> None:
    write_text(study.root / "report.html", '<img src="data:image/png;base64,AA/Doeworth/AA==">')
    assert check_privacy(study) > 0


def test_a_private_word_in_a_template_stops_the_captions(study: Workspace, tmp_path: Path) -> None:
    row = {"image_id": "i", "source_id": "s", "frame": 0, "status": "accepted", "plane": "femur"}
    study.write(IMAGES, from_rows(IMAGES, [row]))
    folder = tmp_path / "mine"
    for name in ("global", "region"):
        write_text(folder / f"{name}.j2", "A femur of Doeworth.")
    with pytest.raises(PrivacyError, match=r"captions\.parquet"):
        build_captions(study, str(folder))


def test_short_numbers_in_a_page_are_no_ids(study: Workspace) -> None:
    row = {
        "path": b"/raw/12345.png",
        "root": b"/raw",
        "settings_hash": "x",
        "source_id": "s",
        "frame": 0,
        "private": [],
    }
    write_table(study.sources_path, from_rows(SOURCES, [row | {"status": "accepted"}]), SOURCES)
    write_text(study.root / "report.html", "<td>0.12345</td>")
    assert check_privacy(study) >= 1


def test_the_vocabulary_of_a_text_tower_may_hold_names(study: Workspace) -> None:
    vocabulary = study.root / "runs" / "one" / "best" / "text" / "tokenizer.json"
    write_text(vocabulary, '{"jane": 4, "doeworth": 5}')
    check_privacy(study)
    write_text(vocabulary.with_name("config.json"), '{"by": "doeworth"}')
    with pytest.raises(PrivacyError, match=r"text/config\.json"):
        check_privacy(study)
    vocabulary.with_name("config.json").unlink()
    write_text(study.root / "tokenizer.json", '{"doeworth": 5}')
    with pytest.raises(PrivacyError, match=r"tokenizer\.json"):
        check_privacy(study)


def _claiming(content: bytes, at: int, value: int) -> bytes:
    """A zip of one member with one byte changed in both of its headers.

    The place of the byte is counted as in the local header.
    """
    changed, central = bytearray(content), content.index(b"PK\1\2")
    changed[at] = changed[central + at + 2] = value
    return bytes(changed)


def _zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("1.txt", text)
    return buffer.getvalue()


def _tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("1.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


CLOSED_FILES = {
    "junk.zip": b"PK\3\4 junk",
    "locked.zip": _claiming(_zipped("a femur"), 6, 1),
    "method.zip": _claiming(_zipped("a femur"), 8, 99),
    "cut.zip": _zipped("a femur")[:-30],
    "junk.gz": b"\x1f\x8b\x08junk",
    "cut.gz": gzip.compress(b"a femur " * 99)[:-9],
    "cut.bz2": bz2.compress(b"a femur " * 99)[:-9],
    "cut.xz": lzma.compress(b"a femur " * 99)[:-9],
    "cut.tar": _tarred(b"a femur " * 99)[:600],
    "cut.parquet": b"PAR1" + b"a femur " * 9,
    "deep.gz": gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"a femur")))),
    "large.zip": _claiming(_zipped("a femur"), 25, 9),  # says that it unpacks to more than is read
}


def test_an_archive_that_cannot_be_searched_is_named(study: Workspace) -> None:
    for name, content in CLOSED_FILES.items():
        write_bytes(study.root / name, content)
        with pytest.raises(PrivacyError, match=rf"{name}, an archive that is damaged, locked"):
            check_privacy(study)
        (study.root / name).unlink()
    assert check_privacy(study)


def test_a_name_is_found_in_packed_files(study: Workspace) -> None:
    secret = b"The patient is called Jane Doeworth. " * 9
    packed = {
        "1.bz2": bz2.compress(secret),
        "1.xz": lzma.compress(secret),
        "cut.gz": gzip.compress(b"\xff" * 99999 + secret)[:-8],
    }
    for name, content in packed.items():
        write_bytes(study.root / name, content)
        with pytest.raises(PrivacyError, match=rf"{name}: \d private"):
            check_privacy(study)
        (study.root / name).unlink()


@pytest.mark.parametrize(
    "text", ["<p><i>Doe</i>worth</p>", "Doe<span class='x'>wor</span>th", "no. 4,711,815"]
)
def test_tags_between_letters_and_commas_between_digits_hide_nothing(
    study: Workspace, text: str
) -> None:
    write_text(study.root / "report.html", f"<h1>{text}</h1>")
    with pytest.raises(PrivacyError, match="report"):
        check_privacy(study)


def test_cells_and_lists_are_not_read_as_one_word(study: Workspace) -> None:
    write_text(study.root / "report.html", "<td>Doe</td><td>worth</td><p>Doe</p><p>worth</p>")
    write_text(study.root / "run.json", "[4,711,815] 14,711,815 4,711,815,2")
    assert check_privacy(study)
