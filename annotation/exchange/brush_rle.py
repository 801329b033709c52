"""Label Studio's run-length code of brushes: a stream of bits over the RGBA bytes of a picture.

It is the format of thi.ng's rle-pack: the number of words (32 bits), bits of a word - 1 (5), four
sizes of lengths - 1 (4 each), then blocks. A block has a bit (1: one word repeated, 0: a list of
words), which of the four sizes (2), the number of words - 1 in that size, and the word or words.
"""

import numpy as np
from numpy.typing import NDArray

from sono.annotation.exchange.foreign_masks import Size
from sono.curation.core.arrays import Mask
from sono.curation.core.errors import SonoError

CHANNELS = 4  # RGBA; the last one, opacity, is the mask
WORD = 8  # bits
SIZES = (3, 4, 8, 16)  # bits of lengths that this module writes
OPAQUE = 255


def encode_brush(mask: Mask) -> list[int]:
    """The bytes of a mask [H, W] as Label Studio's brush tool stores them."""
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    words = np.diff(ends, prepend=0) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}", f"{WORD - 1:05b}", *(f"{n - 1:04b}" for n in SIZES)]
    for start, count in zip((ends - words // CHANNELS).tolist(), words.tolist(), strict=True):
        value = f"{OPAQUE if flat[start] else 0:08b}"
        left = count
        while left:
            run = min(left, 1 << SIZES[-1])
            index = next(at for at, size in enumerate(SIZES) if run <= 1 << size)
            bits.append(f"1{index:02b}{run - 1:0{SIZES[index]}b}{value}")
            left -= run
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def decode_brush(numbers: object, size: Size) -> Mask:
    """The mask [H, W] of the bytes of a brush: where its picture is not transparent.

    Raises SonoError if they are no such code, or of a picture of another size.
    """
    words = size[0] * size[1] * CHANNELS
    stream = _Bits(_bytes(numbers))
    if (count := stream.read(32)) != words or stream.read(5) + 1 != WORD:
        raise SonoError(
            f"a brush of {count} words; its picture of {size[0]} x {size[1]} pixels (height x "
            f"width) has {words}"
        )
    sizes = [stream.read(4) + 1 for _ in SIZES]
    found = np.empty(words, np.uint8)
    done = 0
    while done < words:
        repeated, index = stream.read(1), stream.read(2)
        end = done + stream.read(sizes[index]) + 1
        if end > words:
            raise SonoError("a brush whose runs are longer than its picture; export it again")
        found[done:end] = stream.read(WORD) if repeated else stream.words(end - done)
        done = end
    return np.asarray(found[CHANNELS - 1 :: CHANNELS].reshape(size) > 0)


def _bytes(numbers: object) -> bytes:
    if not isinstance(numbers, list):
        raise SonoError("a brush without its list of bytes ('rle'); export as JSON")
    try:
        return bytes(numbers)
    except (TypeError, ValueError) as error:
        raise SonoError("a brush whose 'rle' is not a list of bytes; export as JSON") from error


class _Bits:
    """Numbers of any number of bits from bytes, highest bit first."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def read(self, bits: int) -> int:
        first, start = divmod(self.place, 8)
        self._advance(bits)
        last = (self.place + 7) // 8
        number = int.from_bytes(self.content[first:last], "big")
        return number >> (last - first) * 8 - start - bits & (1 << bits) - 1

    def words(self, count: int) -> NDArray[np.uint8]:
        """`count` words of 8 bits, which may begin inside a byte."""
        first, start = divmod(self.place, 8)
        self._advance(WORD * count)
        part = np.frombuffer(self.content[first : (self.place + 7) // 8], np.uint8)
        return np.packbits(np.unpackbits(part)[start : start + WORD * count])

    def _advance(self, bits: int) -> None:
        self.place += bits
        if self.place > 8 * len(self.content):
            raise SonoError("a brush that ends too early; export it again")
