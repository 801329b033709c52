"""Colors of labels: the same number always has the same color, and none is black or gray."""

import colorsys

STEP = 0.61803398875  # of the hue: neighbors differ most
SHADES = ((0.85, 1.0), (0.6, 0.8), (1.0, 0.6))  # saturation and value, in turn


def color_of(number: int) -> tuple[int, int, int]:
    """Red, green and blue of label `number`, counted from 0."""
    saturation, value = SHADES[number % len(SHADES)]
    channels = colorsys.hsv_to_rgb(number * STEP % 1, saturation, value)
    red, green, blue = (round(255 * channel) for channel in channels)
    return red, green, blue
