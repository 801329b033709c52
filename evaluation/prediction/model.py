"""A trained model in Python: features of images and texts, and probabilities of planes."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sono.curation.core.errors import SonoError
from sono.curation.core.geometry import letterbox, letterbox_mask
from sono.curation.core.planes import PlaneTable
from sono.curation.core.study_folder import enclosing_workspace
from sono.curation.core.workspace import Workspace
from sono.curation.readers.source import split_color
from sono.evaluation.calibrate import Calibration, load_calibration
from sono.evaluation.statistics.calibration import probabilities
from sono.evaluation.zero_shot import best_device, class_features, masked_features, text_features
from sono.templates.loader import load_templates
from sono.training.model.checkpoints import RunInfo, chosen_checkpoint
from sono.training.model.checkpoints import load_model as load_run
from sono.training.model.mask_clip import MaskClip

Features = NDArray[np.float32]


class Model:
    """A trained model with its prompts. Build one with `sono.load_model`.

    Attributes:
        clip: The PyTorch module, on its device, in evaluation mode.
        info: What the run was given and what it has seen.
        planes: The standard planes, or those of the study that the run is in.
        calibration: The temperature of its probabilities; None if `sono eval` fitted none.
    """

    def __init__(
        self,
        clip: MaskClip,
        info: RunInfo,
        planes: PlaneTable,
        calibration: Calibration | None = None,
    ) -> None:
        self.clip = clip
        self.info = info
        self.planes = planes
        self.calibration = calibration
        self._templates = load_templates(info.template)

    def encode_image(
        self, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None
    ) -> Features:
        """Unit features [d] of a frame, as a whole or under a mask.

        Args:
            image: 8-bit gray [H, W] or RGB [H, W, 3], cropped to its sector as by `read_image`.
            mask: True inside the region [H, W]; None covers the whole square, padding included.
        """
        gray = _gray(image)
        size = self.clip.image_size
        inside = (
            np.ones((size, size), np.bool_)
            if mask is None
            else letterbox_mask(_mask(mask, gray), size)
        )
        features: Features = masked_features(self.clip, letterbox(gray, size)[None], inside[None])
        return np.asarray(features[0])

    def encode_text(self, texts: Sequence[str]) -> Features:
        """Unit features [n, d] of n texts.

        Their dot product with the features of an image is the cosine similarity.
        """
        if isinstance(texts, str):
            raise SonoError("encode_text takes a list of texts; put the text in brackets: [text]")
        return (
            text_features(self.clip, texts)
            if len(texts)
            else np.zeros((0, self._classes.shape[1]), np.float32)
        )

    def classify(
        self, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None
    ) -> dict[str, float]:
        """Zero-shot probabilities of the planes by name, the most probable first; they sum to 1.

        This is a softmax over the similarity to each plane's prompts, at the temperature that
        `sono eval` has fitted on validation frames, else at that of training (see `calibration`).
        There is no class for "none of these planes". For the arguments see `encode_image`.
        """
        shares = self.plane_probabilities(self.encode_image(image, mask)[None])[0]
        order = np.argsort(-shares, kind="stable")
        return {self.planes.planes[place].name: float(shares[place]) for place in order}

    def plane_probabilities(self, features: Features) -> NDArray[np.float64]:
        """The probabilities [n, planes] of unit features [n, d], in the order of `planes`."""
        scale = float(self.clip.logit_scale.detach().exp())
        temperature = 1.0 if self.calibration is None else self.calibration.temperature
        return probabilities(scale * features @ self._classes.T, temperature)

    @property
    def probabilities_source(self) -> str:
        """How the probabilities are calibrated, or that they are not, and what to do."""
        if self.calibration is None:
            return "probabilities are not calibrated; `sono eval` fits their temperature"
        return f"probabilities: {self.calibration.source}"

    @cached_property
    def _classes(self) -> Features:
        """Unit features [planes, d] of the mean prompt of each plane."""
        return class_features(
            self.clip, [self._templates.render_prompts(plane.name) for plane in self.planes.planes]
        )


def load_model(path: str | os.PathLike[str], device: str | torch.device | None = None) -> Model:
    """The model of a run: `runs/NAME` (its best checkpoint) or one of its checkpoint folders.

    Args:
        path: The folder of the run.
        device: Where to compute; None takes the accelerator where there is one.

    Raises:
        SonoError: The folder is no run, or it is damaged.
    """
    folder = Path(path)
    clip, info = load_run(folder)
    calibration = load_calibration(chosen_checkpoint(folder))
    root = enclosing_workspace(folder.resolve())
    planes = PlaneTable.load(None) if root is None else Workspace.find(root).planes()
    return Model(clip.to(best_device() if device is None else device), info, planes, calibration)


def _gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame as gray [H, W]; raises SonoError for other types and shapes."""
    picture = np.asarray(image)
    if picture.dtype != np.uint8:
        raise SonoError(
            f"the image has values of type {picture.dtype}; give 8-bit gray or RGB (numpy.uint8, 0 "
            f"to 255)"
        )
    if (
        picture.ndim not in (2, 3)
        or (picture.ndim == 3 and picture.shape[2] != 3)
        or 0 in picture.shape
    ):
        raise SonoError(f"the image has shape {picture.shape}; give gray [H, W] or RGB [H, W, 3]")
    return split_color(picture)[0]


def _mask(mask: NDArray[np.bool_], gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    inside = np.asarray(mask)
    if inside.shape != gray.shape:
        raise SonoError(
            f"the mask has shape {inside.shape} and the image {gray.shape}; they must be the same "
            f"[H, W]"
        )
    if inside.dtype != np.bool_:
        raise SonoError(
            f"the mask has values of type {inside.dtype}; give True inside the region: mask > 0"
        )
    return inside
