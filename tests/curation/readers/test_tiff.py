"""Pages of TIFF files as frames: selection, depth, sizes, texts, damage."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from video_files import fan, moving

from sono.curation.core.reasons import REASONS
from sono.curation.imaging.analysis import AnalysisTask, analyze
from sono.curation.imaging.quality import QualityConfig
from sono.curation.readers.images import read_image
from sono.curation.readers.source import Limits
from sono.curation.readers.tiff import Pages

SECONDS = 20  # for one small file, on a busy machine
PAGES = moving(5)
METHODS = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")


def tiff(
    pages: list[NDArray[np.generic]],
    method: str | None = None,
    tags: list[dict[int, object]] | None = None,
) -> bytes:
    """A TIFF file of `pages` with their tags."""
    file = io.BytesIO()
    pictures = [Image.fromarray(page) for page in pages]
    for number, picture in enumerate(pictures):
        directory = ImageFileDirectory_v2()
        for tag, value in (tags[number] if tags else {}).items():
            directory[tag] = value
        picture.encoderinfo = {"tiffinfo": directory}
    first = pictures[0].encoderinfo
    pictures[0].save(
        file, "TIFF", save_all=True, append_images=pictures[1:], compression=method, **first
    )
    return file.getvalue()


@pytest.mark.parametrize("method", METHODS)
def test_each_page_is_a_frame(method: str | None) -> None:
    source = read_image(tiff(PAGES, method))
    assert source.codes == () and len(source.frames) == 5
    for index in (0, 1, 2, 3, 4, 2, 0):
        assert source.frames[index].index == index
        np.testing.assert_array_equal(source.frames[index].gray, PAGES[index])


def test_pages_in_color_keep_it() -> None:
    colored = np.repeat(PAGES[1][..., None], 3, axis=2)
    colored[80:100, 120:180] = (220, 30, 20)
    first, second = read_image(tiff([PAGES[0], colored])).frames
    assert first.rgb is None and second.rgb is not None
    np.testing.assert_array_equal(second.rgb, colored)


def test_pages_of_16_bits_share_the_window_of_the_first() -> None:
    deep = [page.astype(np.uint16) * 200 for page in (PAGES[0], PAGES[0] // 2)]
    source = read_image(tiff(deep))
    assert source.codes == ("bit_depth",)
    first, second = source.frames
    assert first.gray.max() == 255 and 100 < second.gray.max() < 150


def test_pages_may_differ_in_size_and_are_told_apart(tmp_path: Path) -> None:
    pages = [fan(), fan(), fan(300, 400), fan(300, 400), fan()]
    path = tmp_path / "pages.tif"
    path.write_bytes(tiff(pages))
    task = AnalysisTask(
        bytes(tmp_path), b"key", tmp_path / "f", tmp_path / "q", QualityConfig.model_validate({})
    )
    rows = analyze(task, bytes(path))
    assert [row.get("repeats_frame") for row in rows] == [None, 0, None, 2, None]
    assert {row["source_frames"] for row in rows} == {5}


def test_reduced_copies_and_masks_of_a_page_are_left_out() -> None:
    pages = [PAGES[0], PAGES[0][::2, ::2].copy(), PAGES[1], PAGES[1] // 255]
    source = read_image(tiff(pages, tags=[{}, {254: 1}, {}, {254: 4}]))
    assert len(source.frames) == 2
    np.testing.assert_array_equal(source.frames[1].gray, PAGES[1])


def test_texts_of_all_pages_are_private() -> None:
    tags: list[dict[int, object]] = [{270: "DOE^JANE"}, {305: "born 1990"}, {}]
    assert set(read_image(tiff(PAGES[:3], tags=tags)).header.private) >= {"DOE^JANE", "born 1990"}


def test_more_pages_than_fit_are_left_out_and_said() -> None:
    source = read_image(tiff(PAGES), Limits(max_decoded_bytes=3 * PAGES[0].size))
    assert source.codes == ("frames_limit",) and len(source.frames) == 3


def test_a_damaged_page_does_not_affect_the_others() -> None:
    content = bytearray(tiff(PAGES, "tiff_adobe_deflate"))
    third = places(bytes(content))[2]
    content[third : third + 500] = b"\xff" * 500
    source = read_image(bytes(content))
    codes = [frame.codes for frame in source.frames]
    assert codes == [(), (), ("frame_corrupt",), (), ()]
    np.testing.assert_array_equal(source.frames[4].gray, PAGES[4])


def places(content: bytes) -> list[int]:
    """Where the pixels of each page begin."""
    with Image.open(io.BytesIO(content)) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            found.append(image.tag_v2[273][0])
    return found


def test_a_chain_of_pages_that_breaks_off_is_said() -> None:
    content = tiff(PAGES)
    last = places(content)[4]
    source = read_image(content[: last - 4000])
    assert "frames_mismatch" in source.codes or any(frame.codes for frame in source.frames)
    np.testing.assert_array_equal(source.frames[0].gray, PAGES[0])


def test_texts_of_a_file_are_kept_once_for_frames_that_repeat(tmp_path: Path) -> None:
    """A text of 1 MB for each of 9,000 pages made a table that could not be read again."""
    path = tmp_path / "1.tif"
    path.write_bytes(tiff([PAGES[0]] * 6, tags=[{270: "Wolstenholme"}] * 6))
    task = AnalysisTask(
        bytes(tmp_path), b"key", tmp_path / "frames", tmp_path / "held", QualityConfig(text="off")
    )
    rows = analyze(task, bytes(path))
    assert [row["private"] for row in rows] == [["Wolstenholme"], *[[]] * 5]


def chained(pages: list[NDArray[np.generic]], order: str, is_big: bool) -> bytes:
    """A deflated TIFF or BigTIFF file in a byte order, each page after its directory."""
    number, count, start = ("Q", "Q", 16) if is_big else ("I", "H", 8)
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if is_big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 16) if is_big else struct.pack(order + "I", 8)
    for index, page in enumerate(pages):
        body = zlib.compress(page.tobytes())
        body += b"\0" * (len(body) % 2)
        size = struct.calcsize(order + count) + 9 * (20 if is_big else 12)
        place = start + size + struct.calcsize(number)
        height, width = page.shape
        values = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: place, 277: 1}
        values |= {278: height, 279: len(body)}
        kind = 16 if is_big else 4
        head += struct.pack(order + count, len(values))
        head += b"".join(
            struct.pack(order + "HH" + 2 * number, tag, kind, 1, value)
            for tag, value in values.items()
        )
        start = place + len(body)
        head += struct.pack(order + number, start if index < len(pages) - 1 else 0) + body
    return head


@pytest.mark.parametrize(("order", "is_big"), [("<", False), (">", False), ("<", True)])
def test_the_links_of_many_pages_are_not_followed_for_each_page(order: str, is_big: bool) -> None:
    pages = [np.full((80, 90), number, np.uint8) for number in range(120)]
    content = chained(pages, order, is_big)
    source = read_image(content)
    assert source.codes == () and len(source.frames) == 120
    assert [int(source.frames[index].gray[3, 4]) for index in (0, 119, 7)] == [0, 119, 7]
    kept = Pages(content).image.fp
    assert isinstance(kept, io.BytesIO)
    with Image.open(io.BytesIO(kept.getvalue())) as seen:
        assert seen.n_frames == 1


def test_a_chain_of_pages_that_bites_its_tail_ends() -> None:
    content = bytearray(tiff(PAGES[:2]))
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    start = time.monotonic()
    assert len(read_image(bytes(content)).frames) == 1
    assert time.monotonic() - start < SECONDS


# Damage: the name of a case, and what it does to a file.
Damage = Callable[[bytearray], bytes]


def cut(share: float) -> Damage:
    return lambda content: bytes(content[: int(len(content) * share)])


def flipped(seed: int) -> Damage:
    def change(content: bytearray) -> bytes:
        random = np.random.default_rng(seed)
        for place in random.integers(2, len(content), 2 + 8 * seed):
            content[place] ^= 1 << random.integers(8)
        return bytes(content)

    return change


def changed_tag(tag: int, value: int) -> Damage:
    """Another value in every page."""

    def change(content: bytearray) -> bytes:
        place = struct.unpack_from("<I", content, 4)[0]
        while place:
            (entries,) = struct.unpack_from("<H", content, place)
            for start in range(place + 2, place + 2 + 12 * entries, 12):
                if struct.unpack_from("<H", content, start)[0] == tag:
                    struct.pack_into("<HII", content, start + 2, 4, 1, value)
            (place,) = struct.unpack_from("<I", content, place + 2 + 12 * entries)
        return bytes(content)

    return change


DAMAGES: dict[str, Damage] = {
    **{f"cut {share}": cut(share) for share in (0.0001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99)},
    **{f"flip {seed}": flipped(seed) for seed in range(16)},
    **{
        f"tag {tag}={value}": changed_tag(tag, value)
        for tag, value in (
            (256, 0),
            (256, 1 << 20),
            (256, 0xFFFFFFFF),
            (257, 0),
            (257, 0xFFFFFFFF),
            (258, 0),
            (258, 64),
            (259, 7),
            (259, 999),
            (262, 99),
            (273, 0xFFFFFFF0),
            (277, 9),
            (278, 0),
            (279, 0),
            (279, 0xFFFFFFFF),
        )
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("method", [None, "tiff_adobe_deflate"])
def test_damaged_pages_give_frames_or_a_reason(method: str | None, damage: str) -> None:
    start = time.monotonic()
    source = read_image(DAMAGES[damage](bytearray(tiff(PAGES, method))))
    refused = any(REASONS[code].status != "accepted" for code in source.codes)
    assert refused != bool(len(source.frames)) and bool(source.message) == bool(source.codes)
    for frame in source.frames:
        assert frame.gray.ndim == 2
    assert time.monotonic() - start < SECONDS
