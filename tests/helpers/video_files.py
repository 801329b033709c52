"""Write small videos of given frames with PyAV."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = {  # by extension: container and codec
    "avi": ("avi", "mjpeg"),
    "mp4": ("mp4", "libx264"),
    "mov": ("mov", "mpeg4"),
    "mkv": ("matroska", "libx264"),
    "wmv": ("asf", "wmv2"),
}


def fan(height: int = 240, width: int = 320, seed: int = 0) -> NDArray[np.uint8]:
    """An ultrasound sector of smooth speckle [height, width] on black."""
    import cv2

    noise = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 3)
    down, across = np.mgrid[0:height, 0:width]
    inside = (np.abs(across - width / 2) < 20 + 0.5 * down) & (down > 15) & (down < height - 20)
    return np.where(inside, np.clip(110 + 350 * blobs, 20, 250), 0).astype(np.uint8)


def moving(count: int, step: int = 4, **shape: int) -> list[NDArray[np.uint8]]:
    """`count` frames, each moved by `step` pixels to the right of the one before."""
    first = fan(**shape)
    return [np.roll(first, step * number, axis=1) for number in range(count)]


def video(
    frames: Sequence[NDArray[np.uint8]],
    kind: str = "mp4",
    metadata: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    of_stream: dict[str, str] | None = None,
    **options: Any,
) -> bytes:
    """The frames [H, W] or [H, W, 3] as a video of `kind`; `times` are in units of 50 ms.

    `metadata` are tags of the file, `of_stream` those of its stream of pictures.

    The option `codec` replaces the usual one, and `sample_aspect_ratio` is that of the pixels;
    others are those of the codec.
    """
    import av

    container, usual = KINDS[kind]
    codec = options.pop("codec", usual)
    aspect = options.pop("sample_aspect_ratio", None)
    form = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    file = io.BytesIO()
    with av.open(file, "w", format=container) as made:
        made.metadata.update(metadata or {})
        stream = made.add_stream(codec, rate=20, options={"g": "5", **options})
        stream.metadata.update(of_stream or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = form
        stream.bit_rate = 4_000_000
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "gray" if frame.ndim == 2 else "rgb24")
            picture = picture.reformat(format=form)
            picture.pts = number if times is None else times[number]
            picture.time_base = Fraction(1, 20)
            made.mux(stream.encode(picture))
        made.mux(stream.encode())
    return file.getvalue()
