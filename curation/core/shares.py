"""The interval of a share."""


def wilson_limits(share: float, size: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share of `size` answers, `z` standard errors wide."""
    middle = share + z * z / (2 * size)
    half = z * (share * (1 - share) / size + z * z / (4 * size * size)) ** 0.5
    scale = 1 + z * z / size
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
