"""Name the plane of a fetal ultrasound frame with the exported model; needs no sono, no network.

Usage: python run_onnx.py FRAME.png [MASK.png]

The frame is an 8-bit picture, cropped to its sector; the mask has its size and is above 0 inside
the region. It prints the probability of each plane, the most probable first. Needs numpy, pillow
and onnxruntime.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

FOLDER = Path(__file__).resolve().parent
SHARPNESS = -0.75  # of the bicubic curve that enlarges small frames


def classify(frame: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """The probability of each plane by name, for a gray frame [H, W] and a mask [H, W]."""
    session = onnxruntime.InferenceSession(
        str(FOLDER / "image.onnx"), providers=["CPUExecutionProvider"]
    )
    _, channels, side, _ = session.get_inputs()[0].shape
    image = np.rint(letterbox(frame.astype(np.float64), side, frame=True)).clip(0, 255) / 255
    inside = np.ones((side, side)) if mask is None else letterbox(mask.astype(np.float64), side)
    given = {
        "image": np.repeat(image[None, None], channels, axis=1).astype(np.float32),
        "mask": (inside >= 0.5)[None, None].astype(np.float32),
    }
    features = session.run(None, given)[0][0]
    features = features / np.linalg.norm(features)
    scale = np.exp(read_json("model.json")["logit_scale"])
    if (FOLDER / "calibration.json").exists():
        scale /= read_json("calibration.json")["temperature"]
    logits = scale * (np.load(FOLDER / "planes.npy") @ features)
    shares = np.exp(logits - logits.max())
    names = [plane["name"] for plane in read_json("planes.json")]
    return dict(zip(names, (shares / shares.sum()).tolist(), strict=True))


def letterbox(picture: NDArray[np.float64], side: int, frame: bool = False) -> NDArray[np.float64]:
    """Pad a picture [H, W] with zeros to a centered square, and resize it to [side, side]."""
    height, width = picture.shape
    whole = max(height, width)
    top, left = (whole - height) // 2, (whole - width) // 2
    square = np.pad(picture, [(top, whole - height - top), (left, whole - width - left)])
    weights = resizing(whole, side, cubic=frame)
    return np.asarray(weights @ square @ weights.T)


def resizing(before: int, after: int, cubic: bool) -> NDArray[np.float64]:
    """Weights [after, before] that resize one axis: area averages to reduce, else a curve."""
    weights = np.zeros((after, before))
    scale = before / after
    for place in range(after):
        if scale > 1:
            edges = np.arange(before + 1).clip(place * scale, (place + 1) * scale)
            weights[place] = np.diff(edges) / scale
            continue
        middle = (place + 0.5) * scale - 0.5
        first = int(np.floor(middle))
        for pixel in range(first - 1, first + 3):
            away = abs(middle - pixel)
            share = curve(away) if cubic else max(1 - away, 0)
            weights[place, min(max(pixel, 0), before - 1)] += share
    return weights


def curve(away: float) -> float:
    """The weight of a pixel at this distance in bicubic interpolation."""
    if away <= 1:
        return ((SHARPNESS + 2) * away - (SHARPNESS + 3)) * away**2 + 1
    return (((away - 5) * away + 8) * away - 4) * SHARPNESS if away < 2 else 0.0


def read_json(name: str) -> Any:
    """The content of a JSON file of this folder."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def main(paths: list[str]) -> None:
    """Read the pictures and print the planes."""
    if not 1 <= len(paths) <= 2:
        sys.exit(__doc__)
    pictures = [Image.open(path).convert("L") for path in paths]
    if len({picture.size for picture in pictures}) > 1:
        sys.exit(f"{paths[1]}: {pictures[1].size}, but the frame has {pictures[0].size} pixels")
    frame, *masks = (np.asarray(picture) for picture in pictures)
    found = classify(frame, masks[0] > 0 if masks else None)
    for name, share in sorted(found.items(), key=lambda each: -each[1]):
        print(f"{share:.6f}  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
