"""Picture files: structure is checked first, and every mode becomes the gray of the screen."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from sono.curation.readers.images import image_kind, read_image
from sono.curation.readers.source import Limits, ReadResult, split_color, text_runs, to_8_bit

RAMP = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (70, 1))
SPECKLE = np.random.default_rng(0).integers(0, 255, (160, 160), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def of(array: np.ndarray, mode: str | None = None) -> Image.Image:
    picture = Image.fromarray(array)
    return picture.convert(mode) if mode else picture


def gray(source: ReadResult) -> np.ndarray:
    assert source.frames, source.codes
    return source.frames[0].gray.astype(int)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "JPEG2000"])
def test_lossless_formats_return_the_pixels_unchanged(kind: str) -> None:
    content = encoded(of(RAMP), kind)
    source = read_image(content)
    np.testing.assert_array_equal(gray(source), RAMP)
    assert (source.codes, source.message, image_kind(content)) == ((), "", kind.lower())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "JPEG", "JPEG2000"])
def test_half_a_file_is_truncated(kind: str) -> None:
    content = encoded(of(SPECKLE), kind)
    assert read_image(content[: len(content) // 2]).codes == ("truncated",)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_bytes_after_the_end_are_dropped_with_a_code(kind: str) -> None:
    source = read_image(encoded(of(RAMP), kind) + b"DOE^JANE 1990")
    assert source.codes == ("trailing_data",) and source.header.private == ("DOE^JANE 1990",)
    np.testing.assert_allclose(gray(source), RAMP, atol=4)


def test_transparency_is_composed_on_black() -> None:
    alpha = np.where(np.arange(100) < 50, 0, 255).astype(np.uint8)[None].repeat(70, axis=0)
    bright = np.full_like(RAMP, 200)
    for picture in (np.dstack([bright] * 3 + [alpha]), np.dstack([bright, alpha])):
        mode = "RGBA" if picture.shape[2] == 4 else "LA"
        shown = gray(
            read_image(encoded(Image.frombytes(mode, (100, 70), picture.tobytes()), "PNG"))
        )
        assert (shown[:, :50] == 0).all() and (shown[:, 50:] == 200).all()


def test_a_transparent_palette_entry_is_black() -> None:
    picture = of(RAMP).convert("P")
    shown = gray(read_image(encoded(picture, "PNG", transparency=100)))
    np.testing.assert_array_equal(shown, np.where(RAMP == 100, 0, RAMP))


def test_sixteen_bits_are_windowed_by_percentiles() -> None:
    deep = RAMP.astype(np.uint16) * 20
    source = read_image(encoded(of(deep), "PNG"))
    assert source.codes == ("bit_depth",)
    np.testing.assert_array_equal(gray(source), to_8_bit(deep))
    assert gray(source).max() == 255


def test_sixteen_bits_a_channel_keep_their_lower_bits() -> None:
    # values below 400 of 65535: the upper byte is almost empty
    deep = np.dstack([RAMP.astype(np.uint16) * 2] * 3)
    source = read_image(cv2.imencode(".png", deep)[1].tobytes())
    assert source.codes == ("bit_depth",) and len(np.unique(gray(source))) > 90


def test_floating_point_is_refused() -> None:
    source = read_image(encoded(of(RAMP.astype(np.float32)), "TIFF"))
    assert source.codes == ("unsupported",) and "floating point" in source.message


def test_gray_is_luma_and_gray_stays_exact() -> None:
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8)
    gray_values, rgb = split_color(colors)
    assert gray_values.tolist() == [[76, 150, 29, 77]] and rgb is not None
    assert split_color(np.dstack([RAMP, RAMP, RAMP + 12]))[1] is None
    assert split_color(np.dstack([RAMP, RAMP, RAMP + 13]))[1] is not None


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_picture_is_turned_as_its_orientation_tag_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "DOE^JANE"
    corner = RAMP.copy()
    corner[:30, :20] = 250  # no symmetry
    content = encoded(of(corner), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    source = read_image(content)
    with Image.open(io.BytesIO(content)) as image:
        displayed = np.asarray(ImageOps.exif_transpose(image))
    assert source.codes == ("rotated_by_exif",) and "DOE^JANE" in source.header.private
    assert np.array_equal(gray(source), displayed)
    assert displayed.shape == (RAMP.shape if orientation < 5 else RAMP.shape[::-1])


def test_deep_and_transparent_pictures_are_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = encoded(of(RAMP.astype(np.uint16) * 20), "PNG", exif=exif)
    clear = encoded(of(np.dstack([RAMP] * 3 + [np.full_like(RAMP, 255)])), "PNG", exif=exif)
    assert np.array_equal(
        gray(read_image(deep)), np.rot90(to_8_bit(RAMP.astype(np.uint16) * 20), -1)
    )
    assert np.array_equal(gray(read_image(clear)), np.rot90(RAMP, -1))


@pytest.mark.parametrize("orientation", [0, 1, 9, 600])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = read_image(encoded(of(RAMP), "PNG", exif=exif))
    assert source.codes == () and np.array_equal(gray(source), RAMP)


def test_texts_of_a_png_are_private() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "Müller, Jane")
    info.add_itxt("Note", "née Łoś", zip=True)
    info.add_text("Comment", "call back", zip=True)
    private = read_image(encoded(of(RAMP), "PNG", pnginfo=info)).header.private
    assert {"Müller, Jane", "née Łoś", "call back"} <= set(private)


def test_a_jpeg_comment_is_private_and_a_color_profile_is_not() -> None:
    content = encoded(of(RAMP), "JPEG", comment=b"ward seven", icc_profile=b"profile words" * 9)
    assert read_image(content).header.private == ("ward seven",)


def test_only_the_first_picture_of_several_is_read() -> None:
    for kind in ("GIF", "PNG"):
        content = encoded(of(RAMP), kind, save_all=True, append_images=[of(255 - RAMP)])
        source = read_image(content)
        assert source.codes == ("first_frame_only",), kind
        np.testing.assert_array_equal(gray(source), RAMP)


def _early_end(picture: np.ndarray) -> bytes:
    content = cv2.imencode(".jpg", picture)[1].tobytes()
    return content[: len(content) // 2] + b"\xff\xd9"


def test_a_jpeg_that_ends_early_is_truncated_in_gray_and_in_color() -> None:
    assert read_image(_early_end(SPECKLE)).codes == ("truncated",)
    assert read_image(_early_end(np.dstack([SPECKLE] * 3))).codes == ("truncated",)


def test_a_gray_bar_at_the_bottom_is_no_early_end() -> None:
    picture = SPECKLE.copy()
    picture[96:] = 128
    assert read_image(encoded(of(picture), "JPEG", quality=95)).codes == ()


def test_an_impossible_marker_inside_the_coded_data_is_corrupt() -> None:
    content = bytearray(encoded(of(SPECKLE), "JPEG"))
    content[len(content) // 2 : len(content) // 2 + 2] = b"\xff\x42"
    assert read_image(bytes(content)).codes == ("corrupt",)


def test_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
    for kind in (".png", ".jpg"):
        content = cv2.imencode(kind, np.zeros((300, 300), np.uint8))[1].tobytes()
        assert read_image(content, Limits(max_pixels=89_999)).codes == ("too_large",)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "PNG", "JPEG", "JPEG2000"])
def test_small_pictures_and_large_ones_are_refused_in_every_format(kind: str) -> None:
    assert read_image(encoded(of(RAMP[:63]), kind)).codes == ("too_small",)
    assert read_image(encoded(of(RAMP), kind), Limits(max_pixels=6999)).codes == ("too_large",)


def test_a_wrong_checksum_names_its_chunk() -> None:
    content = bytearray(encoded(of(RAMP), "PNG"))
    content[content.index(b"IDAT") + 8] ^= 1
    source = read_image(bytes(content))
    assert source.codes == ("corrupt",) and "IDAT" in source.message


@pytest.mark.slow
def test_many_packed_texts_are_refused_before_they_fill_the_memory() -> None:
    body = b"zTXtComment\0\0" + zlib.compress(b"A1 " * 350_000, 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = encoded(of(RAMP), "PNG")
    source = read_image(content[:33] + 2000 * chunk + content[33:])
    assert source.codes == ("inflate_limit",) and len(source.header.private) >= 1


def test_a_text_bomb_in_a_good_picture_is_not_unpacked() -> None:
    body = b"zTXtComment\0\0" + zlib.compress(b"A" * (64 << 20))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = encoded(of(RAMP), "PNG")
    source = read_image(content[:33] + chunk + content[33:])
    np.testing.assert_array_equal(gray(source), RAMP)
    assert sum(map(len, source.header.private)) <= 1 << 20


@pytest.mark.parametrize(
    "content", [b"hello", b"BM is a car", b"<svg/>", b"\xff\xd8", b"a;b\n1;2\n"]
)
def test_other_files_are_not_images(content: bytes) -> None:
    assert read_image(content).codes == ("not_an_image",)


def test_a_format_that_is_not_read_is_named_so() -> None:
    assert read_image(encoded(of(RAMP), "WEBP")).codes == ("unsupported",)


def test_text_runs_find_ascii_and_utf_8() -> None:
    assert text_runs(b"\x00\x01DOE^JANE\x00ab\x00" + "Müller".encode() + b"\xff") == [
        "DOE^JANE",
        "Müller",
    ]


def test_random_damage_never_raises() -> None:
    random = np.random.default_rng(0)
    seeds = [encoded(of(SPECKLE), kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP")]
    for number in range(400):
        content = bytearray(seeds[number % 5])
        for place in random.integers(0, len(content) if number % 3 else 200, 3):
            content[place] = random.integers(0, 256)
        source = read_image(bytes(content[: random.integers(8, len(content) + 1)]))
        assert source.frames or source.codes
