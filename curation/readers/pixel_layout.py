"""How a DICOM dataset describes its pixels: layout, decoder and palette, checked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sono.curation.readers.dicom_header import dicom_errors, text_of
from sono.curation.readers.source import UnreadableError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.pixels.decoders.base import Decoder


IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_FAMILY = "1.2.840.10008.1.2.4."
JPEG_BASELINE = JPEG_FAMILY + "50"
# Syntaxes that python-gdcm adds: JPEG extended, lossless (two processes), JPEG-LS (two).
WITH_GDCM = tuple(JPEG_FAMILY + end for end in ("51", "57", "70", "80", "81"))
GRAY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True)
class PixelLayout:
    """How one frame is stored, checked."""

    rows: int
    columns: int
    samples: int
    bits: int
    bits_stored: int
    signed: bool
    planar: int
    photometric: str
    syntax: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of an uncompressed frame; 4:2:2 keeps two values per pixel."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return -(-self.rows * self.columns * samples * self.bits // 8)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded pictures of a frame: gray, and its colors."""
        return self.rows * self.columns * (1 if self.photometric.startswith("MONOCHROME") else 4)


def read_integer(dataset: "Dataset", keyword: str, default: int | None = None) -> int:
    """A number of the pixel description; raises UnreadableError missing_tag or bad_value."""
    if keyword not in dataset and default is None:
        raise UnreadableError("missing_tag", f"the DICOM element {keyword} is missing")
    try:
        value = dataset.get(keyword)
        return int(value) if value is not None and value != "" else int(default or 0)
    except dicom_errors() as error:
        raise UnreadableError(
            "bad_value", f"the DICOM element {keyword} is not a number"
        ) from error


def read_layout(dataset: "Dataset") -> PixelLayout:
    """The description of the pixels.

    Raises UnreadableError if an element is missing or contradicts another.
    """
    if "PhotometricInterpretation" not in dataset:
        raise UnreadableError(
            "missing_tag", "the DICOM element PhotometricInterpretation is missing"
        )
    syntax = text_of(dataset.file_meta, "TransferSyntaxUID")
    bits = read_integer(dataset, "BitsAllocated")
    layout = PixelLayout(
        rows=read_integer(dataset, "Rows"),
        columns=read_integer(dataset, "Columns"),
        samples=read_integer(dataset, "SamplesPerPixel"),
        bits=bits,
        bits_stored=read_integer(dataset, "BitsStored", bits),
        signed=read_integer(dataset, "PixelRepresentation", 0) == 1,
        planar=read_integer(dataset, "PlanarConfiguration", 0),
        photometric=text_of(dataset, "PhotometricInterpretation").upper(),
        # without a meta header pydicom has found out how the elements are written
        syntax=syntax or (IMPLICIT if dataset.original_encoding[0] else EXPLICIT),
    )
    if layout.photometric not in (*GRAY, *COLOR):
        raise UnreadableError("unsupported", "a photometric interpretation that sono does not read")
    if layout.samples != (1 if layout.photometric in GRAY else 3):
        raise UnreadableError(
            "bad_value", f"{layout.samples} samples per pixel do not fit {layout.photometric}"
        )
    if layout.photometric.startswith("YBR") and layout.bits != 8:
        raise UnreadableError("unsupported", f"{layout.photometric} with {layout.bits} bits")
    allowed = (8, 16) if layout.photometric == "PALETTE COLOR" else (1, 8, 16, 32)
    if layout.bits not in allowed or not 1 <= layout.bits_stored <= layout.bits:
        raise UnreadableError(
            "bad_value", f"{layout.bits_stored} bits stored in {layout.bits} allocated"
        )
    return layout


def find_decoder(syntax: str) -> "Decoder":
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder: Decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnreadableError("unsupported_syntax") from error
    if not decoder.is_available:
        raise UnreadableError("needs_plugin" if syntax in WITH_GDCM else "unsupported_syntax")
    return decoder


def read_palette(dataset: "Dataset", layout: PixelLayout) -> NDArray[np.uint8]:
    """The colors [values, 3] of all pixel values that the layout can hold."""
    from pydicom.pixels.processing import apply_color_lut

    try:
        values = np.arange(2**layout.bits_stored, dtype=np.uint8 if layout.bits == 8 else np.uint16)
        colors = apply_color_lut(values, dataset)[..., :3]
    except dicom_errors() as error:
        raise UnreadableError("no_palette") from error
    # a palette of 16 bits an entry; some machines fill only the lower 8
    deep = colors.dtype != np.uint8 and int(colors.max()) > 255
    return np.asarray(colors >> 8 if deep else colors, np.uint8)
