"""Pictures for people."""

import colorsys
from io import BytesIO
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from sono.curation.core.drawing import LEGEND, DrawnMask, contact_sheet, overlay, structure_color
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def test_the_inside_is_tinted_the_outline_is_colored_and_the_rest_is_left() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[10:30, 10:30] = True
    picture = overlay(np.full((40, 40), 100, np.uint8), [DrawnMask("femur", mask)])
    color = np.array(structure_color("femur"))
    assert picture[5, 5].tolist() == [100, 100, 100]
    assert picture[10, 20].tolist() == color.tolist()
    assert picture[20, 20].tolist() == (0.85 * 100 + 0.15 * color).round().astype(int).tolist()
    outlined = overlay(np.full((40, 40), 100, np.uint8), [DrawnMask("femur", mask)], fill=0)
    assert outlined[20, 20].tolist() == [100, 100, 100]
    assert outlined[10, 20].tolist() == color.tolist()


def test_a_proposal_is_dashed_and_a_reviewed_mask_solid() -> None:
    mask = np.zeros((80, 80), np.bool_)
    mask[10:70, 10:70] = True
    gray, color = np.full((80, 80), 100, np.uint8), structure_color("femur")
    edge = [
        (overlay(gray, [DrawnMask("femur", mask, proposed)])[10, 10:70] == color).all(axis=1)
        for proposed in (False, True)
    ]
    assert edge[0].all()
    assert 0.3 < edge[1].mean() < 0.7 and np.diff(edge[1]).sum() >= 4


def test_a_legend_is_below_the_tiles() -> None:
    tiles = [(np.full((20, 20), 50, np.uint8), "x")] * 12
    plain, legend = (pixels(contact_sheet(tiles, 12, 20, lines)) for lines in ((), LEGEND))
    assert (legend[: len(plain)] == plain).all()
    assert legend[len(plain) :].min() < 100


def test_a_legend_that_is_wider_than_the_sheet_has_more_lines() -> None:
    tiles = [(np.full((120, 120), 50, np.uint8), "x")]
    short, long = (contact_sheet(tiles, 1, 120, [text]) for text in ("word", "word " * 30))
    assert len(pixels(long)) - len(pixels(short)) > 60  # an ellipsis would cut it


def test_every_structure_is_named_next_to_its_color() -> None:
    names = PlaneTable().by_id["transcerebellar"].structures
    tiles = [(np.zeros((20, 20), np.uint8), "caption"), (np.zeros((20, 20), np.uint8), "caption")]
    picture = pixels(contact_sheet(tiles, 2, 160, structures=[names, names[:1]]))
    for name in names:
        assert (picture == structure_color(name)).all(axis=2).any(), name
    one = pixels(contact_sheet(tiles, 2, 160, structures=[names[:1], names[:1]]))
    assert len(picture) > len(one)  # names that do not fit go on in the next line, uncut


def test_a_frame_stays_as_it_is() -> None:
    gray = np.full((8, 8), 100, np.uint8)
    overlay(gray, [DrawnMask("femur", np.ones((8, 8), np.bool_))])
    assert (gray == 100).all()


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(SonoError, match="must be equal"):
        overlay(np.zeros((8, 9), np.uint8), [DrawnMask("femur", np.ones((9, 8), np.bool_))])


def test_the_structures_of_a_plane_differ_visibly_in_color() -> None:
    for plane in PlaneTable().planes:
        for one, other in combinations(plane.structures, 2):
            apart = abs(hue(one) - hue(other))
            assert min(apart, 1 - apart) > 0.05, (plane.id, one, other)


def hue(structure: str) -> float:
    return colorsys.rgb_to_hsv(*(part / 255 for part in structure_color(structure)))[0]


def test_a_sheet_holds_each_tile_in_its_place() -> None:
    tiles = [(np.full((10, 20), value, np.uint8), "words") for value in (50, 100, 150)]
    picture = pixels(contact_sheet(tiles, columns=2, side=20))
    assert picture.shape[1] == 20 * 2 + 10
    assert [picture[10, 10, 0], picture[10, 40, 0]] == [50, 100]
    assert picture[picture.shape[0] // 2 + 10, 10, 0] == 150
    assert picture[2, 10].tolist() == [0, 0, 0]  # the padding of the letterbox


def test_a_sheet_takes_color_long_words_and_nothing() -> None:
    color = np.full((20, 20, 3), (200, 10, 20), np.uint8)
    assert pixels(contact_sheet([(color, "x" * 200)], columns=6, side=20))[10, 10].tolist() == [
        200,
        10,
        20,
    ]
    assert pixels(contact_sheet([], columns=6, side=20)).min() == 255
