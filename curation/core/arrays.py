"""Names for the types of arrays and boxes that all packages pass around."""

import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]  # an image [H, W], 0 black to 255 white
Mask = NDArray[np.bool_]  # [H, W], True inside
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; the last column and row are outside
