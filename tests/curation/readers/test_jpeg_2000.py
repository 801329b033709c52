"""JPEG 2000 pictures: pixels, texts, ends, damage and false sizes."""

import io
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from video_files import fan

from sono.curation.core.reasons import REASONS
from sono.curation.readers.images import image_kind, read_image
from sono.curation.readers.source import Limits

SECONDS = 20  # for one small file, on a busy machine
PICTURE = fan()


def encoded(picture: NDArray[np.generic], codestream: bool = False, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG2000", no_jp2=codestream, **options)
    return file.getvalue()


@pytest.mark.parametrize("codestream", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"tile_size": (64, 64)}, {"num_resolutions": 2}, {"progression": "RPCL"}]
)
def test_pixels_are_unchanged(codestream: bool, options: dict[str, object]) -> None:
    content = encoded(PICTURE, codestream, **options)
    source = read_image(content)
    assert image_kind(content) == "jpeg2000" and source.codes == ()
    np.testing.assert_array_equal(source.frames[0].gray, PICTURE)


def test_color_and_16_bits_are_read() -> None:
    colored = np.repeat(PICTURE[..., None], 3, axis=2)
    colored[80:100, 120:180] = (220, 30, 20)
    (frame,) = read_image(encoded(colored)).frames
    assert frame.rgb is not None
    np.testing.assert_array_equal(frame.rgb, colored)
    source = read_image(encoded(PICTURE.astype(np.uint16) * 200))
    assert source.codes == ("bit_depth",)
    assert np.corrcoef(source.frames[0].gray.ravel(), PICTURE.ravel())[0, 1] > 0.99


def test_a_lossy_picture_is_close() -> None:
    source = read_image(encoded(PICTURE, irreversible=True, quality_layers=[10]))
    assert np.abs(source.frames[0].gray.astype(int) - PICTURE).mean() < 5


def test_comments_and_boxes_of_text_are_private() -> None:
    content = encoded(PICTURE, comment="DOE^JANE")
    body = b"<x>born 1990</x>"
    content += struct.pack(">I", 8 + len(body)) + b"xml " + body
    private = " ".join(read_image(content).header.private)
    assert "DOE^JANE" in private and "born 1990" in private


def test_bytes_after_a_codestream_are_dropped_with_a_code() -> None:
    source = read_image(encoded(PICTURE, True) + b"DOE^JANE 1990")
    assert source.codes == ("trailing_data",) and "DOE^JANE 1990" in source.header.private


@pytest.mark.parametrize("codestream", [False, True])
@pytest.mark.parametrize("lost", [1, 2, 3, 10, 200, 3000])
def test_a_picture_without_its_end_is_truncated(lost: int, codestream: bool) -> None:
    assert read_image(encoded(PICTURE, codestream)[:-lost]).codes == ("truncated",)


def test_a_picture_beyond_the_limit_is_not_decoded() -> None:
    assert read_image(encoded(PICTURE), Limits(max_pixels=1000)).codes == ("too_large",)


# Damage: the name of a case, and what it does to a codestream.
Damage = Callable[[bytearray], bytes]


def cut(share: float) -> Damage:
    return lambda content: bytes(content[: int(len(content) * share)])


def flipped(seed: int) -> Damage:
    def change(content: bytearray) -> bytes:
        random = np.random.default_rng(seed)
        for place in random.integers(4, 200 if seed % 2 else len(content), 1 + seed):
            content[place] ^= 1 << random.integers(8)
        return bytes(content)

    return change


def patched(offset: int, form: str, *values: int) -> Damage:
    """Other values in the SIZ segment, at `offset` after its marker."""

    def change(content: bytearray) -> bytes:
        struct.pack_into(form, content, content.find(b"\xff\x51") + offset, *values)
        return bytes(content)

    return change


DAMAGES: dict[str, Damage] = {
    **{f"cut {share}": cut(share) for share in (0.001, 0.005, 0.02, 0.3, 0.6, 0.9, 0.999)},
    **{f"flip {seed}": flipped(seed) for seed in range(18)},
    "huge": patched(6, ">II", 0x7FFFFFFF, 0x7FFFFFFF),
    "wide": patched(6, ">II", 60_000, 60_000),
    "zero": patched(6, ">II", 0, 0),
    "offset beyond": patched(14, ">II", 0xFFFF, 0xFFFF),
    "tiles of nothing": patched(22, ">II", 0, 0),
    "tiles of a pixel": patched(22, ">II", 1, 1),
    "tiles that start late": patched(30, ">II", 5000, 5000),
    "no components": patched(38, ">H", 0),
    "many components": patched(38, ">H", 16384),
    "deep": patched(40, ">B", 127),
    "subsampled": patched(41, ">BB", 0, 0),
    "length": patched(2, ">H", 2),
    "length zero": patched(2, ">H", 0),
    "tile of nothing": lambda content: bytes(content).replace(b"\xff\x90\0\x0a", b"\xff\x90\0\0"),
    "garbage after": lambda content: bytes(content + b"DOE^JANE" * 90),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("codestream", [False, True])
def test_a_damaged_picture_gives_a_frame_or_a_reason(codestream: bool, damage: str) -> None:
    start = time.monotonic()
    source = read_image(DAMAGES[damage](bytearray(encoded(PICTURE, codestream))))
    refused = any(REASONS[code].status != "accepted" for code in source.codes)
    assert refused != bool(source.frames) and bool(source.message) == bool(source.codes)
    if damage.startswith("cut"):
        assert not source.frames
    assert time.monotonic() - start < SECONDS
