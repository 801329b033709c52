"""Write files that readers fail on: broken, unusual, hostile or private ones.

`make_bad_files` writes 52 entries to `img` and 56 to `dcm`. All intact ones show the same sector.
"""

import os
import struct
import zlib
from pathlib import Path

import bad_dicom_files
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 480, 640
ORIENTATION, DESCRIPTION = 0x0112, 0x010E  # tags of EXIF
PNG_MARK = b"\x89PNG\r\n\x1a\n"
CHUNK = 1 << 20


def make_bad_files(folder: Path) -> None:
    """Write all files below `folder`; the same on every call."""
    images, dicom = folder / "img", folder / "dcm"
    images.mkdir(parents=True)
    dicom.mkdir()
    gray = fan(seed=0)
    _broken_images(images, gray)
    _unusual_images(images, gray)
    _look_alikes(images, gray)
    _names(images, png_of(gray))
    bad_dicom_files.write(dicom, gray, png_of(gray))


def fan(seed: int) -> NDArray[np.uint8]:
    """Speckle inside a convex sector, black outside [480, 640]."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    across, down = columns - WIDTH / 2, rows + 20
    depth, angle = np.hypot(across, down), np.arctan2(across, down)
    inside = (np.abs(angle) < 0.6) & (depth > 60) & (depth < 470)
    speckle = np.random.default_rng(seed).rayleigh(40, inside.shape)
    return np.where(inside, speckle.clip(0, 255), 0).astype(np.uint8)


def png_of(image: NDArray[np.generic]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def jpeg_of(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _broken_images(folder: Path, gray: NDArray[np.uint8]) -> None:
    png, jpeg = png_of(gray), jpeg_of(gray)
    data = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[data - 4 : data])
    middle = len(jpeg) // 2
    files = {
        "zero_byte.png": b"",
        "trunc_half.png": png[: len(png) // 2],
        "trunc_half.jpg": jpeg[:middle],
        "trunc_last2.jpg": jpeg[:-2],
        "text_as.jpg": b"a text and no image at all\n" * 60,
        "html_as.png": b"<!DOCTYPE html><html><body>not found</body></html>",
        "crc_idat.png": _flipped(png, data + 4 + length),
        "flip_idat.png": _flipped(png, data + 4 + length // 2),
        "early_eoi.jpg": jpeg[:middle] + b"\xff\xd9" + jpeg[middle + 2 :],
        "jpeg_named.png": jpeg,
        "png_named.jpg": png,
        "trailing_garbage.jpg": jpeg + b"PatientName=DOE^JANE" * 20,
        "bomb_12000.png": _zero_png(12_000),
        "bomb_20000.png": _zero_png(20_000),
        "header_1e5x1e5.png": _png(100_000, zlib.compress(bytes(1000))),
        "ztxt_bomb.png": _png(8, zlib.compress(bytes(9 * 8)), _large_text()),
        "._apple_double.jpg": b"\x00\x05\x16\x07" + bytes(82),
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        ".DS_Store": b"\0\0\0\1Bud1",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def _png(side: int, compressed: bytes, extra: bytes = b"") -> bytes:
    """A gray PNG of side x side pixels with any compressed data."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", compressed) + _chunk(b"IEND", b"")
    return PNG_MARK + body


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def _zero_png(side: int) -> bytes:
    """A PNG of a few hundred kB that unfolds to side x side zeros."""
    packer, left, packed = zlib.compressobj(9), (side + 1) * side, []
    while left > 0:
        packed.append(packer.compress(bytes(min(left, CHUNK))))
        left -= CHUNK
    return _png(side, b"".join(packed) + packer.flush())


def _large_text() -> bytes:
    return _chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"A" * (80 * CHUNK), 9))


def _unusual_images(folder: Path, gray: NDArray[np.uint8]) -> None:
    (folder / "00_good.png").write_bytes(png_of(gray))
    (folder / "00_good.jpg").write_bytes(jpeg_of(gray))
    (folder / "gray16.png").write_bytes(png_of(gray.astype(np.uint16) * 16))
    (folder / "gray16_full.png").write_bytes(png_of(gray.astype(np.uint16) * 257))
    (folder / "one_px.png").write_bytes(png_of(gray[:1, :1]))
    (folder / "thin_1x4000.png").write_bytes(png_of(np.zeros((1, 4000), np.uint8)))
    (folder / "black.png").write_bytes(png_of(np.zeros_like(gray)))
    (folder / "white.png").write_bytes(png_of(np.full_like(gray, 255)))
    picture = Image.fromarray(gray)
    seen = Image.fromarray(np.where(gray > 0, 255, 0).astype(np.uint8))
    Image.merge("RGBA", [picture, picture, picture, seen]).save(folder / "rgba.png")
    Image.merge("LA", [picture, picture]).save(folder / "la.png")
    picture.convert("P").save(folder / "palette.png", transparency=0)
    picture.convert("1").save(folder / "bilevel.png")
    picture.convert("RGB").convert("CMYK").save(folder / "cmyk.jpg", quality=92)
    tags = Image.Exif()
    tags[ORIENTATION], tags[DESCRIPTION] = 6, "DOE^JANE 1990"
    picture.save(folder / "exif_orient6_phi.jpg", exif=tags, quality=92)
    second = Image.fromarray(255 - gray)
    picture.save(folder / "multi.tif", save_all=True, append_images=[second])
    picture.save(folder / "anim.gif", save_all=True, append_images=[second], duration=40)
    real = gray.astype(np.float32) / 255
    real[0, 0] = np.nan
    Image.fromarray(real).save(folder / "float_nan.tif")


def _look_alikes(folder: Path, gray: NDArray[np.uint8]) -> None:
    """Frames that a search for duplicates must find, and one that it must not."""
    printed = gray.copy()
    cv2.putText(printed, "DOE^JANE 12/03/1990", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    decoded = cv2.imdecode(np.frombuffer(jpeg_of(gray), np.uint8), cv2.IMREAD_GRAYSCALE)
    images = {
        "dup_reenc.png": decoded,
        "dup_text.png": printed,
        "dup_hflip.png": gray[:, ::-1],
        "dup_resize.png": cv2.resize(gray, (512, 384)),
        "diff_speckle.png": fan(seed=9),
    }
    for name, image in images.items():
        (folder / name).write_bytes(png_of(image))


def _names(folder: Path, png: bytes) -> None:
    """Names that shells, spreadsheets and decoders of text stumble over; links and a pipe."""
    names = [
        '=HYPERLINK("x").png', 'comma, "quote"\nnewline.png', "-rf.png", "caf\u00e9.png",
        "cafe\u0301.png", "n" * 250 + ".png", os.fsdecode(b"bad_\xff\xfe.png"),
    ]  # fmt: skip
    for name in names:
        (folder / name).write_bytes(png)
    (folder / "dir.png").mkdir()
    (folder / "loop").symlink_to(".")
    (folder / "dangling.png").symlink_to("/nonexistent")
    os.mkfifo(folder / "fifo.png")
