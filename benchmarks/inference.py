"""How long one frame takes on one core: the exported ONNX graph and PyTorch, in turn.

Each repeat times every step once per engine, so that both see the same machine; the median over
the repeats is shown, with their ratio. A frame is letterboxed, encoded with its mask, and compared
with the texts of the planes; reading the file is not part of it.

Example: python benchmarks/inference.py STUDY/runs/demo
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime
import torch

from sono.curation.core.geometry import letterbox
from sono.training.interop.export_onnx import export_onnx
from sono.training.model.architectures import ModelConfig
from sono.training.model.checkpoints import load_model
from sono.training.model.mask_clip import MaskClip
from sono.training.validation import image_features


def main() -> None:
    """Print the median milliseconds of each engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a run, or an architecture with random weights")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 800), help="of the frame")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = (
        load_model(Path(options.model))[0]
        if Path(options.model).is_dir()
        else MaskClip(ModelConfig(name=options.model))
    ).eval()
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, tuple(options.size), np.uint8)
    side = model.image_size
    mask = np.zeros((side, side), np.bool_)
    mask[side // 4 : side // 2, side // 4 : side // 2] = True

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, Path(folder))
        choices = onnxruntime.SessionOptions()
        choices.intra_op_num_threads = choices.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(Path(folder) / "image.onnx"), choices, providers=["CPUExecutionProvider"]
        )
    channels = session.get_inputs()[0].shape[1]

    def by_onnx() -> np.ndarray:
        image = letterbox(frame, side).astype(np.float32)[None, None].repeat(channels, 1) / 255
        given = {"image": image, "mask": mask[None, None].astype(np.float32)}
        return np.asarray(session.run(None, given)[0])

    def by_torch() -> np.ndarray:
        square = letterbox(frame, side)[None]
        return image_features(model, square, mask[None]).numpy()

    first, second = by_onnx(), by_torch()
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    texts = rng.normal(size=(24, first.shape[1])).astype(np.float32)
    print(f"largest difference of the features: {np.abs(first - second).max():.1e}")
    engines: dict[str, Callable[[], np.ndarray]] = {"onnx": by_onnx, "torch": by_torch}
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(options.repeats):
        for name, encode in engines.items():
            began = time.process_time()
            (encode() @ texts.T).argmax()
            taken[name].append(1000 * (time.process_time() - began))
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    for name, value in medians.items():
        low, high = np.percentile(taken[name], [5, 95])
        print(f"{name:6s} {value:6.1f} ms of CPU a frame (5 to 95 %: {low:.1f} to {high:.1f})")
    print(f"torch / onnx: {medians['torch'] / medians['onnx']:.2f}")


if __name__ == "__main__":
    main()
