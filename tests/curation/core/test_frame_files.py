import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import encode_png, frame_file, read_stored


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


def test_a_stored_frame_with_the_pixels_of_another_is_refused(tmp_path: Path) -> None:
    own, other = np.eye(8, dtype=np.uint8), np.ones((8, 8), np.uint8)
    path = tmp_path / Path(frame_file("0123456789abcdef", own)).name
    path.write_bytes(encode_png(own))
    assert np.array_equal(read_stored(path), own)
    path.write_bytes(encode_png(other))
    with pytest.raises(SonoError, match="not those of the frame with this name"):
        read_stored(path)
