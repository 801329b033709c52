"""Export a model as two ONNX graphs of any batch size, verified against the model."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sono.curation.core.atomic import atomic_path, write_text
from sono.curation.core.errors import SonoError
from sono.training.model.mask_clip import MaskClip

TOLERANCE = 1e-4  # of the largest feature, between the graph and the model
_PROBES = (1, 3)  # batch sizes at which the two are compared; the graph is traced with another


class _Image(nn.Module):
    """The image side alone: frames [n, c, S, S] in [0, 1] and masks [n, 1, S, S] in {0, 1}."""

    def __init__(self, model: MaskClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.model.encode_image(image, mask)


class _Text(nn.Module):
    """The text side alone: token ids [n, context]."""

    def __init__(self, model: MaskClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode_text(tokens)


@dataclass(frozen=True)
class _Graph:
    """One side of the model, the names of its inputs, and how to draw some."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]

    def draw(self, model: MaskClip, count: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(count)
        if self.name == "text":
            return (
                model.tokenize(
                    [f"a fetal ultrasound frame of {'head ' * number}" for number in range(count)]
                ),
            )
        side = model.image_size
        image = torch.rand(count, model.config.channels, side, side, generator=generator)
        return image, (torch.rand(count, 1, side, side, generator=generator) > 0.5).float()


def export_onnx(model: MaskClip, folder: Path) -> tuple[Path, ...]:
    """Write image.onnx, text.onnx and model.json.

    The features are those of `encode_image` and `encode_text`. Raises SonoError if the extra is not
    installed, or a graph differs from the model by more than 1e-4.
    """
    if any(
        importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")
    ):
        raise SonoError(
            "the ONNX export needs onnx, onnxscript and onnxruntime; install them with `pip "
            "install .[onnx]`"
        )
    model = model.eval().cpu()
    graphs = (
        _Graph("image", _Image(model), ("image", "mask")),
        _Graph("text", _Text(model), ("tokens",)),
    )
    files = tuple(_write(graph, model, folder / f"{graph.name}.onnx") for graph in graphs)
    scalars = {"logit_scale": model.logit_scale.item(), "logit_bias": model.logit_bias.item()}
    sizes = {"image_size": model.image_size, "context_length": model.context_length}
    write_text(
        folder / "model.json",
        json.dumps(model.config.model_dump(mode="json") | sizes | scalars, indent=1),
    )
    return (*files, folder / "model.json")


def _write(graph: _Graph, model: MaskClip, path: Path) -> Path:
    batch = {0: torch.export.Dim("batch", min=1)}
    with _silence():
        program = torch.onnx.export(
            graph.module.eval(),
            graph.draw(model, 2),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=[f"{graph.name}_features"],
            dynamic_shapes=tuple(batch for _ in graph.inputs),
            verbose=False,
        )
    assert program is not None
    with atomic_path(path) as temporary:
        program.save(temporary)
        for count in _PROBES:
            _compare(graph, model, temporary, count)
    return path


@torch.inference_mode()
def _compare(graph: _Graph, model: MaskClip, path: Path, count: int) -> None:
    import onnxruntime

    inputs = graph.draw(model, count)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = dict(zip(graph.inputs, (value.numpy() for value in inputs), strict=True))
    found, expected = session.run(None, given)[0], graph.module(*inputs).numpy()
    difference = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
    if not difference <= TOLERANCE:
        raise SonoError(
            f"the {graph.name} graph differs from the model by {difference:.1e}; it was not written"
        )


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the exporter's logs and warnings meanwhile."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
