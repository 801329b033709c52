"""What every probe needs: the frames with a target, how they are divided, and the encoder."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.biometry import CONVENTIONS, RULES
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.planes import OTHER
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.exams import counts_of, orphan_sentence, without_patient
from sono.evaluation.config import EvaluationConfig
from sono.evaluation.modes import annotated_masks, usable_masks
from sono.evaluation.outlines import StoredMask
from sono.evaluation.probes.classes import Labeled
from sono.evaluation.probes.encoder import Probed, Subject, find_probed, random_twin
from sono.evaluation.probes.features import FrozenFeatures, Store, frozen_features
from sono.evaluation.probes.parts import Part, Protocol, parts_of, rows_tested
from sono.evaluation.probes.predicted_masks import proposers_of
from sono.evaluation.selection import leaking, size_of
from sono.evaluation.statistics.bootstrap import Draws, cluster_index
from sono.evaluation.zero_shot import Features, best_device

PLANE = "plane"
SITES = ("center", "machine", "sector_kind")
CLASSES = (PLANE, "region", *SITES, "laterality", "presentation")
BIOMETRY = "biometry"
TARGETS = (*CLASSES, "ga_days", "masks", BIOMETRY)
MASKS = ("none", "own")
MIN_PATIENTS = 5  # of a site


@dataclass(frozen=True)
class ProbeOptions:
    """What is read from the features of which encoder, and how frames are divided."""

    target: str = PLANE
    run: str | None = None
    encoder: str | None = None
    mask: str = "none"
    protocol: Protocol = field(default_factory=Protocol)
    fine_tune: bool = False
    segmenter: Path | None = None

    def check(self) -> None:
        """Raise SonoError for unknown words, and options that exclude each other."""
        if self.target not in TARGETS:
            raise SonoError(
                f"'{self.target}' cannot be probed; choose one of {', '.join(TARGETS)}"
                f"{did_you_mean(self.target, TARGETS)}"
            )
        if self.mask not in MASKS:
            raise SonoError(f"--mask {self.mask}: choose {' or '.join(MASKS)}")
        if self.fine_tune and self.target != PLANE:
            raise SonoError(f"--fine-tune is a probe of the plane; leave it out for {self.target}")
        if self.target == BIOMETRY and (self.run or self.encoder or self.mask != "none"):
            raise SonoError(
                "biometry is measured on masks without an encoder: leave out --run, --encoder and "
                "--mask; --with SEGMENTER adds the masks of a segmenter"
            )
        if self.segmenter is not None and self.target != BIOMETRY:
            raise SonoError(
                f"--with belongs to the target biometry; leave it out for {self.target}"
            )
        if self.run is not None and self.encoder is not None:
            raise SonoError("--run and --encoder exclude each other: give one of them")
        if self.protocol.center is not None and self.protocol.folds is not None:
            raise SonoError("--center and --folds exclude each other: give one of them")
        if self.protocol.center is not None and self.target == "center":
            raise SonoError("--center holds a center out, so it cannot be read: give --folds 5")


@dataclass(frozen=True)
class Probe:
    """An encoder, and the frames that it is probed on.

    `images` are all accepted rows, `frames` those with a target, under the same index.
    """

    workspace: Workspace
    options: ProbeOptions
    settings: EvaluationConfig
    images: pd.DataFrame
    frames: pd.DataFrame
    parts: tuple[Part, ...]
    excluded: dict[str, int]
    subject: Subject

    @property
    def probed(self) -> Probed:
        """The encoder, for all targets but biometry."""
        assert isinstance(self.subject, Probed)
        return self.subject

    @property
    def draws(self) -> Draws:
        """How intervals are drawn."""
        return Draws(self.settings.bootstrap_draws, self.settings.seed)

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """The number of the patient of each frame."""
        frames = self.frames
        return cluster_index(frames["patient_id"], frames["study_id"], frames["source_id"])

    @cached_property
    def masks(self) -> dict[str, StoredMask] | None:
        """The mask of each frame that the encoder is given; None: the whole square."""
        if self.options.mask == "none":
            return None
        return annotated_masks(self.workspace.masks(), self.frames)

    @cached_property
    def features(self) -> FrozenFeatures:
        """The features of the frames."""
        return self._encoded("features", "")

    @property
    def used(self) -> Features:
        """What is probed: what a mask adds is in the embedding alone."""
        return self._used(self.features)

    @cached_property
    def untrained(self) -> Features:
        """What is probed as a control: the features of the same encoder with random weights."""
        return self._used(self.untrained_features)

    @cached_property
    def untrained_features(self) -> FrozenFeatures:
        """The features of the same encoder with random weights."""
        return self._encoded("untrained", "random ")

    @cached_property
    def labeled(self) -> Labeled:
        """The frames with the number of their class."""
        values = self.frames[self.options.target]
        names, labels = np.unique(values.to_numpy(str), return_inverse=True)
        own = tuple(str(name) for name in names)
        return Labeled(self.frames, own, labels.astype(np.int64), self.clusters, self.parts)

    @property
    def first_line(self) -> str:
        """What is read, from which features, on which frames, and what the encoder has seen."""
        rows = self.frames.iloc[rows_tested(self.parts)]
        leaks = int(leaking(rows, self.images, self.subject.seen).sum())
        who = "SEGMENTER" if self.options.target == BIOMETRY else "ENCODER"
        seen = f"; {leaks} OF THE TESTED FRAMES WERE IN THE TRAINING OF THE {who}" * (leaks > 0)
        mask = "" if self.options.mask == "none" else ", under a mask of each frame"
        what = "masks" if self.options.target == BIOMETRY else "frozen features"
        return (
            f"{self.options.target} from {what} of {self.subject.label}{mask}; "
            f"{self.options.protocol.words}: {size_of(rows)} tested{seen}"
        )

    @property
    def notes(self) -> list[str]:
        """What a reader must know before the numbers."""
        notes = list(self.subject.notes)
        if self.options.mask == "own":
            notes.append(
                "which structure a person outlined can reveal the plane: masks are oracle masks"
            )
        rows = without_patient(self.images).reindex(self.frames.index).dropna()
        if len(rows):
            notes.append(f"{orphan_sentence(counts_of(rows))}; intervals may be too narrow")
        return notes

    def _used(self, features: FrozenFeatures) -> Features:
        return features.pooled if self.options.mask == "none" else features.both()

    def _encoded(self, name: str, prefix: str) -> FrozenFeatures:
        store = Store(
            self.probed.folder / "probe" / f"{name}.safetensors", prefix + self.probed.key
        )
        model = random_twin(self.probed) if prefix else self.probed.model
        batch = self.settings.batch_size
        return frozen_features(self.workspace, model, self.frames, store, self.masks, batch)


def open_probe(workspace: Workspace, options: ProbeOptions) -> Probe:
    """Select and divide the frames, then load the encoder.

    Raises SonoError for an unknown target, too few classes, and a part without frames.
    """
    options.check()
    settings = workspace.settings("evaluation", EvaluationConfig)
    images = workspace.accepted_images()
    options = replace(options, protocol=options.protocol.spelled_as_in(images))
    frames, excluded = _with_target(workspace, images, options)
    parts = parts_of(images, frames, options.protocol, options.target != BIOMETRY)
    if options.target in CLASSES:
        frames, fewer = _with_classes(frames, parts, options.target)
        excluded |= fewer
        parts = parts_of(images, frames, options.protocol)
    counts = {reason: count for reason, count in excluded.items() if count}
    subject = _subject(workspace, options)
    return Probe(workspace, options, settings, images, frames, tuple(parts), counts, subject)


def _subject(workspace: Workspace, options: ProbeOptions) -> Subject:
    if options.target == BIOMETRY:
        return proposers_of(workspace, options.segmenter)
    probed = find_probed(workspace, options.run, options.encoder)
    probed.model.to(best_device()).eval()
    return probed


def _with_target(
    workspace: Workspace, images: pd.DataFrame, options: ProbeOptions
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The frames that have what is probed, and the number of the others by reason."""
    target, left = options.target, pd.Series(True, index=images.index)
    excluded: dict[str, int] = {}

    def drop(reason: str, odd: "pd.Series[bool]") -> None:
        nonlocal left
        excluded[reason] = int((left & odd).sum())
        left &= ~odd

    if target in (PLANE, *SITES):
        drop("without a plane", images["plane"].isna())
        drop("of no standard plane", images["plane"].eq(OTHER).fillna(False).astype(bool))
    if target == BIOMETRY:
        planes = {plane for rule in RULES.values() for plane in rule.planes}
        drop("of a plane without biometry", ~images["plane"].isin(planes).astype(bool))
        spacing = images[["row_spacing_mm", "col_spacing_mm"]]
        drop("without a pixel spacing", spacing.isna().any(axis=1))
    elif target != "masks":
        drop(f"without {target}", images[target].isna())
    if target in ("masks", BIOMETRY) or options.mask == "own":
        masked = images["image_id"].isin(set(usable_masks(workspace.masks(), images)["image_id"]))
        if target == BIOMETRY:
            recorded = images[[f"{name}_mm" for name in CONVENTIONS if name != "ofd"]]
            masked |= recorded.notna().any(axis=1)
        drop("without an accepted mask" + " or recorded size" * (target == BIOMETRY), ~masked)
    if not left.any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in excluded.items() if count)
        raise SonoError(
            f"{workspace.root}: none of {len(images)} accepted frames can be probed for {target} "
            f"({reasons}); choose another target, or import what is missing"
        )
    return images[left].sort_values("image_id").drop_duplicates("image_id"), excluded


def _with_classes(
    frames: pd.DataFrame, parts: list[Part], target: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The frames of classes that can be learned and tested, and the number of the others."""
    values = frames[target].to_numpy(str)
    patients = cluster_index(frames["patient_id"], frames["study_id"], frames["source_id"])
    learned = set(np.concatenate([values[part.pool] for part in parts]))
    known = learned & set(values[rows_tested(parts)])
    excluded = {}
    for name in sorted(set(values) - known):
        where = "tested" if name in learned else "fitted on"
        excluded[f"of {target} '{name}' (none of them is {where})"] = int((values == name).sum())
    if target in SITES:
        for name in sorted(known):
            if len(np.unique(patients[values == name])) < MIN_PATIENTS:
                known.discard(name)
                few = f"of {target} '{name}' (fewer than {MIN_PATIENTS} patients)"
                excluded[few] = int((values == name).sum())
    if len(known) < 2:
        found = ", ".join(f"'{name}'" for name in sorted(known)) or "none"
        reasons = "; ".join(f"{count} frames {reason}" for reason, count in excluded.items())
        raise SonoError(
            f"{target}: a probe needs frames of two classes to fit and to test on, and has {found}"
            f"{f' ({reasons})' if reasons else ''}; choose another target, or add frames"
        )
    return frames[np.isin(values, sorted(known))], excluded
