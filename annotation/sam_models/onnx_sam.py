"""A promptable model as a pair of ONNX graphs in the layout of SAM 2's exports.

Encoder: `image` [1, 3, S, S] to any arrays. Decoder: these arrays by the same names, points
[1, N, 2] in pixels of the square and labels [1, N] to masks [1, M, h, w] and qualities [1, M].
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sono.annotation.proposers import Prompt
from sono.annotation.sam_models.model import Embedding
from sono.annotation.sam_models.onnx_files import data_files
from sono.curation.core.atomic import file_sha256, sha256
from sono.curation.core.errors import SonoError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Of ImageNet, as SAM 2 expects them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CORNERS, INSIDE = (2, 3), 1  # labels of the corners of a box, and of a point in the structure
POINTS, LABELS = "point_coords", "point_labels"
MASKS, QUALITY = "masks", "iou_predictions"
# Inputs of a mask that is refined: none is given. The names differ by exporter.
EARLIER = ("mask_input", "input_masks")
HAS_EARLIER = ("has_mask_input", "has_input_masks")
FRAME_SIZE = ("orig_im_size", "original_image_size")  # height, width
KNOWN = frozenset((POINTS, LABELS, *EARLIER, *HAS_EARLIER, *FRAME_SIZE))
KINDS = {
    "tensor(float)": np.float32, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip
ADVICE = "give a folder with the encoder and the decoder of an ONNX export of SAM 2"


@dataclass(frozen=True)
class Graph:
    """A loaded graph: its file, and its inputs (type and shape) and outputs by name."""

    path: Path
    session: "InferenceSession"
    inputs: dict[str, tuple[str, list[Any]]]
    outputs: dict[str, list[Any]]

    def run(self, given: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs by name; raises SonoError if the graph cannot compute them."""
        try:
            found = self.session.run(None, given)
        except Exception as error:  # onnxruntime's own have no common class
            raise SonoError(f"{self.path}: cannot be run ({_line(error)}); {ADVICE}") from error
        return dict(zip(self.outputs, found, strict=True))


@dataclass(frozen=True)
class OnnxSam:
    """An encoder and a decoder whose names and sizes fit."""

    encoder: Graph
    decoder: Graph
    side: int  # S
    hash: str

    @classmethod
    def load(cls, folder: Path) -> "OnnxSam":
        """From a folder with one encoder and one decoder.

        Raises SonoError if one is missing, damaged or of another layout, or refers to data outside
        of the folder.
        """
        if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
            raise SonoError(
                "an ONNX model needs onnx and onnxruntime; install them with `pip install "
                "'sono[onnx]'`"
            )
        if not folder.is_dir():
            raise SonoError(f"{folder}: is one graph of two; {ADVICE}")
        paths = [_only(folder, part) for part in ("encoder", "decoder")]
        digests = [file_sha256(path) for one in paths for path in (one, *data_files(one))]
        encoder, decoder = (_graph(path) for path in paths)
        side = _check(encoder, decoder)
        return cls(encoder, decoder, side, sha256("".join(digests).encode())[:16])

    def encode(self, gray: NDArray[np.uint8]) -> Embedding:
        """What the decoder needs of a frame [H, W], which is stretched to the square."""
        square = cv2.resize(gray, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        colors = np.repeat(square[np.newaxis].astype(np.float32) / 255, 3, axis=0)
        mean, deviation = (np.reshape(each, (3, 1, 1)) for each in (MEAN, DEVIATION))
        image = ((colors - mean) / deviation).astype(np.float32)[np.newaxis]
        found = self.encoder.run({next(iter(self.encoder.inputs)): image})
        return {name: found[name] for name in self.decoder.inputs if name not in KNOWN}

    def decode(
        self, embedding: Embedding, size: tuple[int, int], prompt: Prompt
    ) -> tuple[NDArray[np.floating[Any]], float]:
        """The logits [H, W] of the mask with the best quality, and this quality."""
        given = dict(embedding)
        for name, (kind, shape) in self.decoder.inputs.items():
            if name in KNOWN:
                given[name] = self._prompt(name, shape, size, prompt).astype(KINDS[kind])
        found = self.decoder.run(given)
        masks, quality = found[MASKS], found[QUALITY]
        if masks.ndim != 4 or quality.shape != masks.shape[:2] or not masks.size:
            raise SonoError(
                f"{self.decoder.path}: gives masks {list(masks.shape)} and qualities "
                f"{list(quality.shape)}, not [1, M, h, w] and [1, M]; {ADVICE}"
            )
        best = int(np.argmax(quality[0]))
        logits = masks[0, best].astype(np.float32)
        if logits.shape != size:
            logits = cv2.resize(logits, size[::-1], interpolation=cv2.INTER_LINEAR)
        return logits, float(quality[0, best])

    def _prompt(
        self, name: str, shape: list[Any], size: tuple[int, int], prompt: Prompt
    ) -> NDArray[Any]:
        """The value of an input of the decoder that is not of the embedding."""
        places, labels = [prompt.point or (0, 0)], [INSIDE]
        if prompt.box is not None:
            places, labels = [prompt.box[:2], prompt.box[2:]], [*CORNERS]
        if name == POINTS:
            return np.array([places]) * (self.side / np.array([size[1], size[0]]))
        if name == LABELS:
            return np.array([labels])
        if name in FRAME_SIZE:
            return np.array(size)
        # no earlier mask
        return np.zeros([each if isinstance(each, int) else 1 for each in shape])


def _only(folder: Path, part: str) -> Path:
    """The one graph of the folder whose name contains `part`."""
    found = sorted(path for path in folder.glob("*.onnx") if part in path.name.lower())
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        what = f"several graphs for the {part} ({names})" if found else f"no *{part}*.onnx"
        raise SonoError(f"{folder}: {what}; {ADVICE}")
    return found[0]


def _graph(path: Path) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an error is raised, too
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own have no common class
        raise SonoError(f"{path}: cannot be loaded ({_line(error)}); {ADVICE}") from error
    return Graph(
        path,
        session,
        {each.name: (each.type, each.shape) for each in session.get_inputs()},
        {each.name: each.shape for each in session.get_outputs()},
    )


def _check(encoder: Graph, decoder: Graph) -> int:
    """The side of the encoder's square; raises SonoError if the pair does not fit."""
    shapes = [(kind, shape[1:]) for kind, shape in encoder.inputs.values()]
    side = shapes[0][1][-1] if len(shapes) == 1 and shapes[0][1] else None
    if not isinstance(side, int) or shapes != [("tensor(float)", [3, side, side])]:
        raise SonoError(
            f"{encoder.path}: its inputs are {_shown(encoder.inputs)}, not one image of floats "
            f"[1, 3, S, S] with a fixed S; {ADVICE}"
        )
    missing = [name for name in (POINTS, LABELS) if name not in decoder.inputs]
    missing += [name for name in (MASKS, QUALITY) if name not in decoder.outputs]
    if missing:
        raise SonoError(
            f"{decoder.path}: has no {' and no '.join(missing)}; its inputs are "
            f"{', '.join(decoder.inputs)}, its outputs {', '.join(decoder.outputs)}; {ADVICE}"
        )
    for name, (kind, shape) in decoder.inputs.items():
        if name in KNOWN and kind in KINDS:
            continue
        if name in KNOWN or name not in encoder.outputs:
            raise SonoError(
                f"{decoder.path}: its input {name} ({kind}) is no output of {encoder.path.name} "
                f"({', '.join(encoder.outputs)}) and no prompt; {ADVICE}"
            )
        if not _agree(shape, encoder.outputs[name]):
            raise SonoError(
                f"{decoder.path}: takes {name} as {shape}, and {encoder.path.name} gives it as "
                f"{encoder.outputs[name]}; {ADVICE}"
            )
    return side


def _agree(one: list[Any], other: list[Any]) -> bool:
    """Whether two shapes fit; a size that is not a number fits any."""
    return len(one) == len(other) and all(
        a == b for a, b in zip(one, other, strict=True) if isinstance(a, int) and isinstance(b, int)
    )


def _shown(inputs: dict[str, tuple[str, list[Any]]]) -> str:
    return ", ".join(f"{name} {shape}" for name, (_, shape) in inputs.items()) or "none"


def _line(error: Exception) -> str:
    """The first line of a library's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
