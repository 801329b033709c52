"""HEIC pictures of phones: pixels, depth, texts, limits and damage."""

import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from heif_files import CLEAR, COLOR, DEEP, NARROW, ONE, TWO
from video_files import fan

from sono.curation.core.reasons import REASONS
from sono.curation.readers.files import read_source
from sono.curation.readers.images import read_image
from sono.curation.readers.source import Limits

SECONDS = 20  # for one small file, on a busy machine


@pytest.fixture(autouse=True)
def _needs_the_extra(request: pytest.FixtureRequest) -> None:
    if "without_the_extra" not in request.node.name:
        pytest.importorskip("pi_heif")


def test_a_picture_is_a_frame_with_the_texts_of_its_metadata() -> None:
    source = read_image(ONE)
    assert source.codes == () and len(source.frames) == 1
    gray = source.frames[0].gray
    assert gray.shape == (120, 160) and source.frames[0].rgb is None
    assert np.corrcoef(gray.ravel(), fan(120, 160).ravel())[0, 1] > 0.9
    found = " ".join(source.header.private)
    assert all(text in found for text in ("Wolstenholme PX44718", "2021:03:04", "Yarborough"))


def test_rows_that_the_decoder_pads_are_cut() -> None:
    gray = read_image(NARROW).frames[0].gray
    assert gray.shape == (101, 93)
    assert np.corrcoef(gray.ravel(), fan(120, 160)[:101, :93].ravel())[0, 1] > 0.9


def test_color_depth_and_transparency_are_as_of_other_pictures() -> None:
    rgb = read_image(COLOR).frames[0].rgb
    assert rgb is not None and rgb[70, 80, 0] > rgb[70, 80, 1] + 100
    deep = read_image(DEEP)
    assert deep.codes == ("bit_depth",) and deep.frames[0].gray.max() > 200
    clear = read_image(CLEAR).frames[0].gray
    assert not clear[:56].any() and clear[64:].any()


def test_the_main_of_several_pictures_is_read_and_said() -> None:
    source = read_image(TWO)
    assert source.codes == ("first_frame_only",) and len(source.frames) == 1


def with_box(kind: bytes, body: bytes) -> bytes:
    return ONE + struct.pack(">I", 8 + len(body)) + kind + body


@pytest.mark.parametrize("kind", [b"free", b"skip", b"uuid", b"udta", b"xyzw"])
def test_texts_of_other_boxes_are_private(kind: bytes) -> None:
    source = read_image(with_box(kind, b"Ashkenazi Miriam"))
    assert len(source.frames) == 1
    assert any("Ashkenazi Miriam" in text for text in source.header.private)


def test_a_broken_picture_keeps_the_texts_of_its_boxes() -> None:
    content = bytearray(with_box(b"uuid", b"Ashkenazi Miriam"))
    content[content.index(b"hvcC") : content.index(b"hvcC") + 4] = b"free"
    source = read_image(bytes(content))
    assert not source.frames and any("Ashkenazi" in text for text in source.header.private)


def test_a_picture_without_the_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    (tmp_path / "IMG_1.HEIC").write_bytes(ONE)
    source = read_source(str(tmp_path / "IMG_1.HEIC").encode())
    assert source.codes == ("needs_extra",) and "sono[heif]" in source.message


def test_a_wrong_extension_is_said(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.jpg").write_bytes(ONE)
    assert read_source(str(tmp_path / "IMG_1.jpg").encode()).codes == ("wrong_extension",)


def test_limits_hold_before_the_pixels_are_decoded() -> None:
    assert read_image(ONE, Limits(max_pixels=10_000)).codes == ("too_large",)
    assert read_image(declared(30_000, 30_000)).codes[0] in ("too_large", "corrupt")
    assert read_image(declared(32, 32)).codes[0] in ("too_small", "corrupt")


def declared(width: int, height: int) -> bytes:
    """ONE with another size in its header."""
    content = bytearray(ONE)
    struct.pack_into(">II", content, content.index(b"ispe") + 8, width, height)
    return bytes(content)


Damage = Callable[[bytearray], bytes]


def cut(share: float) -> Damage:
    return lambda content: bytes(content[: int(len(content) * share)])


def flipped(seed: int) -> Damage:
    def change(content: bytearray) -> bytes:
        random = np.random.default_rng(seed)
        for place in random.integers(32, len(content), 1 + seed % 7):
            content[place] ^= 1 << int(random.integers(8))
        return bytes(content)

    return change


def put(kind: bytes, offset: int, body: bytes) -> Damage:
    """Write at `offset` from the name of the first box of a kind."""

    def change(content: bytearray) -> bytes:
        start = content.index(kind) + offset
        content[start : start + len(body)] = body
        return bytes(content)

    return change


def nested(content: bytearray) -> bytes:
    body = b""
    for _ in range(20_000):
        body = struct.pack(">I", 12 + len(body)) + b"meta" + b"\0" * 4 + body[:400]
    return bytes(content[:24]) + body


HUGE = b"\xff\xff\xff\xff"
DAMAGES: dict[str, Damage] = {
    **{f"cut to {share}": cut(share) for share in (0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
    **{f"flipped {seed}": flipped(seed) for seed in range(14)},
    "box of the header without end": put(b"meta", -4, HUGE),
    "box smaller than its header": put(b"iprp", -4, b"\0\0\0\x02"),
    "size of 64 bits": put(b"iloc", -4, b"\0\0\0\x01"),
    "many items": put(b"iinf", 8, b"\xff\xff"),
    "many places": put(b"iloc", 10, b"\xff\xff"),
    "no main picture": put(b"pitm", 8, b"\x7f\x7f"),
    "no decoder settings": put(b"hvcC", 0, b"free"),
    "no size": put(b"ispe", 0, b"free"),
    "size of nothing": put(b"ispe", 8, b"\0" * 8),
    "size beyond all limits": put(b"ispe", 8, HUGE * 2),
    "a smaller size": put(b"ispe", 8, struct.pack(">II", 70, 70)),
    "pixels of nothing": put(b"mdat", 4, b"\0" * 400),
    "pixels of noise": put(b"mdat", 4, np.random.default_rng(0).bytes(900)),
    "boxes in boxes": nested,
    "nothing but a name": cut(24 / len(ONE)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_give_a_frame_or_a_reason_in_time(damage: str) -> None:
    start = time.monotonic()
    source = read_image(DAMAGES[damage](bytearray(ONE)))
    assert time.monotonic() - start < SECONDS
    assert set(source.codes) <= set(REASONS)
    assert source.frames or REASONS[source.codes[0]].status in ("error", "rejected")
    for frame in source.frames:
        assert frame.gray.ndim == 2 and frame.gray.size <= 64_000_000


def test_a_file_that_ends_early_gives_no_frame() -> None:
    """The decoder would fill the missing part with guesses."""
    for share in (0.3, 0.5, 0.7, 0.9, 0.99):
        source = read_image(cut(share)(bytearray(ONE)))
        assert not source.frames and source.codes[0] in ("truncated", "corrupt"), share
