"""The picture inside a LabelMe file, compared with the frame that the file names.

In 1,609 frames of the Barcelona, Nijmegen and Shenzhen sets, the same picture correlates by at
least 0.93 after strong JPEG compression, a gamma of 0.5 or 1.6, or with text on the tissue. Of
1,642 pairs of different frames of one patient, 1,612 correlate by less than 0.9; the others nearly
repeat each other, so a mask of one fits the other. Exact pixels of another frame are recognized in
any case.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sono.annotation.exchange.foreign_masks import Picture, read_file, reading
from sono.annotation.mask_matching import FrameFinder, Match, NoMatch
from sono.curation.core.arrays import Gray
from sono.curation.core.errors import SonoError
from sono.curation.core.frame_files import checksum_of, image_id_of, picture_of, read_stored
from sono.curation.core.geometry import crop_box, resampled, shown_size, shrink
from sono.curation.readers.images import read_image

MAX_TEXT = 1 << 28  # characters of base64
SAME = 0.9  # correlation of two copies of one picture
SIDE = 64  # pixels of the small copies that are compared: noise and compression average out


def read_embedded(path: Path) -> Gray:
    """The picture [H, W] in `imageData` of a LabelMe file; SonoError if it cannot be read."""
    text = json.loads(read_file(path)).get("imageData")
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise SonoError(f"{path}: imageData is no text, or too long for a picture")
    try:
        content = base64.b64decode("".join(text.rpartition(",")[2].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SonoError(f"{path}: imageData is not base64") from error
    result = read_image(content)
    if not result.frames:
        raise SonoError(f"{path}: imageData is not a picture ({result.message})")
    return result.frames[0].gray


def checked(
    match: Match | NoMatch, picture: Picture, finder: FrameFinder, root: Path
) -> Match | NoMatch:
    """`match`, or a NoMatch if the picture in the LabelMe file is another one.

    `root` is the folder of the stored frames. A picture that cannot be read is refused as well,
    because nothing shows that it is the right one.
    """
    if picture.embedded is None or isinstance(match, NoMatch):
        return match
    try:
        with reading():
            gray = picture.embedded()
    except SonoError as error:
        what = str(error).removeprefix(f"{picture.entry}: ")
        return NoMatch("broken", f"{what}; save it again in LabelMe, or set imageData to null")
    if picture.size is not None and gray.shape != picture.size:
        return NoMatch(
            "other_picture",
            f"the picture in it has {gray.shape[0]} x {gray.shape[1]} pixels (height x width), but "
            f"imageHeight and imageWidth are {picture.size[0]} and {picture.size[1]}",
        )
    problem = _other_frame(gray, match, finder) or _difference(gray, match, root)
    return NoMatch("other_picture", problem) if problem else match


def _other_frame(gray: Gray, match: Match, finder: FrameFinder) -> str:
    """The name of another frame of the study that has exactly these pixels; "" for none."""
    image_id = image_id_of(gray)
    if match.stored or image_id == match.row["image_id"] or image_id not in finder.accepted:
        return ""
    paths = [file.path for file in finder.files if file.key == image_id]
    return f"the picture in it is {paths[0] if paths else f'frame {image_id}'}"


def _difference(gray: Gray, match: Match, root: Path) -> str:
    """How a picture differs from the stored frame where both have pixels; "" if it does not."""
    file = root / str(match.row["file"])
    if match.stored and picture_of(file.name).endswith(f"-{checksum_of(gray)}"):
        return ""
    stored = read_stored(file)
    own = gray if match.stored else _cropped(gray, match.row)
    if own.shape != stored.shape:
        return ""  # the size of the masks is refused
    kept = stored > 0  # crops are zero outside the sector and where text was painted over
    inside = shrink(kept.astype(np.uint8) * 255, SIDE, SIDE) > 127
    one, other = (
        shrink(np.where(kept, pixels, 0).astype(np.uint8), SIDE, SIDE)[inside].astype(np.float64)
        for pixels in (stored, own)
    )
    flat = min(one.std(), other.std()) == 0
    correlation = 0.0 if flat else float(np.corrcoef(one, other)[0, 1])
    if correlation >= SAME:
        return ""
    return f"the picture in it correlates by {correlation:.2f} with the frame of this name"


def _cropped(gray: Gray, image: Mapping[str, Any]) -> Gray:
    x0, y0, x1, y1 = crop_box(image)
    return resampled(gray, shown_size(image))[y0:y1, x0:x1]
