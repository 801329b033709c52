import io

import cv2
import numpy as np
import pytest
from PIL import Image

from sono.curation.core.frame_files import encode_png


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (480, 641), (1, 900), (900, 1)])
def test_a_stored_png_gives_its_pixels_back_to_every_reader(shape: tuple[int, int]) -> None:
    gray = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    encoded = encode_png(gray)
    assert np.array_equal(
        cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED), gray
    )
    with Image.open(io.BytesIO(encoded)) as image:
        assert image.mode == "L" and np.array_equal(np.asarray(image), gray)


def test_a_stored_png_says_nothing_but_its_pixels() -> None:
    encoded = encode_png(np.arange(64, dtype=np.uint8).reshape(8, 8)[:, ::-1])
    kinds, place = [], 8
    while place < len(encoded):
        kinds.append(encoded[place + 4 : place + 8])
        place += 12 + int.from_bytes(encoded[place : place + 4], "big")
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
