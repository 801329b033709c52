"""The temperature of a model's probabilities, fitted on validation frames and kept with it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from sono.annotation.weights.weight_files import short
from sono.curation.core.atomic import read_json, write_text
from sono.curation.core.console import warn
from sono.curation.core.errors import SonoError, counted
from sono.evaluation.region_control.regions import RegionStudy
from sono.evaluation.statistics.calibration import fit_temperature
from sono.evaluation.statistics.metrics import cosines, predict
from sono.evaluation.zero_shot import class_features, mode_features
from sono.training.model.checkpoints import CALIBRATION, own_file


@dataclass(frozen=True)
class Calibration:
    """The temperature, and the validation frames and patients that it was fitted on."""

    temperature: float
    frames: int
    patients: int
    planes: int

    @property
    def source(self) -> str:
        """As in "temperature 0.83, fitted on 30 validation frames of 12 patients"."""
        frames = counted(self.frames, "validation frame")
        if self.temperature == 1:
            return f"temperature of training, because all {frames} have the right answer"
        return (
            f"temperature {self.temperature:.2f}, fitted on "
            f"{frames} of {counted(self.patients, 'patient')}"
        )


def fit_calibration(study: RegionStudy) -> Calibration | None:
    """The temperature fitted on the validation frames of `study`, among all its planes.

    If all answers are right, any small temperature fits, so that of training stays. The result is
    None if they show one plane or none.
    """
    if len(np.unique(study.plane_index)) < 2:
        return None
    scores = whole_scores(study)
    right = (predict(scores) == study.plane_index).all()
    logits = float(study.model.logit_scale.detach().exp()) * scores
    return Calibration(
        1.0 if right else round(fit_temperature(logits, study.plane_index), 6),
        len(study.plane_index),
        len(np.unique(study.clusters)),
        scores.shape[1],
    )


def whole_scores(study: RegionStudy) -> NDArray[np.float64]:
    """Cosines [frames, planes] of the whole frames with all planes of the study."""
    whole = np.ones((study.side, study.side), np.bool_)
    features = mode_features(
        study.model, study.files, ["all_one"], lambda mode, row: whole, study.batch_size
    )
    names = [study.templates.render_prompts(plane.name) for plane in study.planes.planes]
    return cosines(features["all_one"], class_features(study.model, names))


def save_calibration(checkpoint: Path, found: Calibration) -> None:
    """Keep the temperature with the weights; a folder that cannot be written goes without."""
    try:
        write_text(checkpoint / CALIBRATION, json.dumps(asdict(found), indent=1) + "\n")
    except OSError as error:
        warn(
            f"{checkpoint / CALIBRATION}: cannot be written ({error.strerror}); `sono predict` "
            "will give probabilities that are not calibrated"
        )


def load_calibration(checkpoint: Path) -> Calibration | None:
    """The temperature of a checkpoint folder, or None if no evaluation has fitted one.

    Raises SonoError if the file is damaged.
    """
    path = checkpoint / CALIBRATION
    try:
        found = TypeAdapter(Calibration).validate_python(
            read_json(own_file(checkpoint, CALIBRATION))
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        raise SonoError(f"{path}: damaged ({short(error)}); run `sono eval` again") from error
    if not 0 < found.temperature < float("inf"):
        raise SonoError(f"{path}: temperature {found.temperature}; run `sono eval` again")
    return found
