"""The evaluation stage: score a run on a split or an unseen center, in every mask mode."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sono.annotation.weights.weight_files import short
from sono.curation.core.atomic import read_json, write_text
from sono.curation.core.atomic_folders import atomic_folder, copy_others
from sono.curation.core.config import override
from sono.curation.core.console import stderr_console
from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.tables import CAPTIONS, usable_captions
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.exams import orphan_sentence
from sono.curation.privacy.gate import check_privacy
from sono.evaluation.calibrate import (
    Calibration,
    fit_calibration,
    save_calibration,
    whole_scores,
)
from sono.evaluation.calipers import caliper_features, caliper_results
from sono.evaluation.captions import (
    CaptionedFrames,
    CaptionResults,
    caption_results,
    own_captions,
)
from sono.evaluation.config import EvaluationConfig
from sono.evaluation.modes import (
    MODES,
    REGION_MODES,
    MaskPlan,
    annotated_masks,
    mask_for,
    plan_masks,
)
from sono.evaluation.outlines import Outlines, stored_outlines
from sono.evaluation.predictions import write_predictions, write_region_predictions
from sono.evaluation.probabilities import Frames as LogitFrames
from sono.evaluation.probabilities import probability_results
from sono.evaluation.prompt_sets import PromptSet, prompt_set_results, prompt_sets
from sono.evaluation.proposed_regions import (
    Weighting,
    choose_weight,
    region_modes,
    region_planes_results,
    validation_frames,
)
from sono.evaluation.region_control.measures import TRAINING
from sono.evaluation.region_control.regions import Regions, RegionStudy, encode_regions
from sono.evaluation.region_control.results import region_control_results
from sono.evaluation.report import Gallery, write_report
from sono.evaluation.result_tables import FOLDER as TABLES
from sono.evaluation.result_tables import result_tables, write_tables
from sono.evaluation.results import Evidence, collect_results
from sono.evaluation.run_facts import weights_id
from sono.evaluation.selection import Seen, Selection, Target, resolve_target, select_frames
from sono.evaluation.statistics.bootstrap import Draws, cluster_index
from sono.evaluation.statistics.metrics import cosines
from sono.evaluation.summaries import Scored
from sono.evaluation.view import EvaluationResult
from sono.evaluation.zero_shot import Frames, best_device, mode_features
from sono.templates.loader import CaptionTemplates, load_templates
from sono.training.data.frame_cache import kept_frames
from sono.training.model.checkpoints import (
    BEST,
    END,
    SUMMARY,
    RunInfo,
    chosen_checkpoint,
    find_run,
    load_model,
    own_file,
)
from sono.training.model.mask_clip import MaskClip
from sono.training.runtime.memory import reuse_freed_memory
from sono.training.start import UNKNOWN_PATIENTS


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate: a run, its target and the mask modes.

    `run` None is the newest run, `modes` None those of `sono.toml`; `prompts` is a file of prompts
    to measure next to those of the run.
    """

    run: str | None = None
    target: Target = field(default_factory=Target)
    modes: tuple[str, ...] | None = None
    prompts: Path | None = None


def evaluate(
    workspace: Workspace, options: EvaluationOptions, engine: Engine | None = None
) -> EvaluationResult:
    """Score a run on frames it has not seen and write the evaluation's folder.

    The folder holds report.html and its tables, metrics.json, predictions.parquet and
    regions.parquet. Raises SonoError if there is no run, the center or split is unknown, or its
    frames were in training.
    """
    reuse_freed_memory()
    settings = override(workspace.settings("evaluation", EvaluationConfig), modes=options.modes)
    folder = find_run(workspace, options.run)
    images = workspace.accepted_images()
    target = resolve_target(images, options.target)  # before the model is read
    model, info = load_model(folder)
    checkpoint = chosen_checkpoint(folder)
    weights = weights_id(checkpoint)  # before a running training replaces them
    model = model.to(best_device()).eval()
    seen = Seen(frozenset(info.centers_seen), info.patients_seen, info.image_ids_seen, info.origin)
    selection = select_frames(images, seen, target)
    if selection.excluded:
        stderr_console.print(selection.start_line(target), markup=False)
    study = _study(workspace, model, info, selection, settings, engine or Engine())
    sets = study.prompt_sets(options.prompts)  # before the frames are encoded
    plan = _plan(study)
    scored, features = _score(study, plan, sets[TRAINING].together)
    regions, control = _region_control(study, scored, features["all_one"])
    scored, weighting = _with_proposed_regions(study, scored)
    calibration = fit_calibration(study.validation)
    if calibration is not None and weights_id(checkpoint) == weights:
        save_calibration(checkpoint, calibration)
    probabilities = _probabilities(study, scored, calibration)
    names = {plane.id: plane.name for plane in study.planes.planes}
    evidence = Evidence(target, selection, plan, scored, info.planes_seen, names, study.draws)
    metrics = collect_results(evidence) | _provenance(study)
    captions = _captions(study, features["all_one"], regions)
    metrics |= {"captions": captions.metrics, "region_control": control}
    metrics["probabilities"] = probabilities
    metrics["prompt_sets"] = prompt_set_results(features["all_one"], scored, sets, study.draws)
    painted = caliper_features(model, study.pixels, study.image_ids, settings.batch_size)
    metrics["calipers"] = caliper_results(painted, sets[TRAINING].together, scored, study.draws)
    if "regions" in settings.modes:
        metrics["region_planes"] = region_planes_results(weighting, metrics["differences"])
    metrics |= {"checkpoint": checkpoint.name, "weights": weights}
    metrics["without_patient"] = selection.without_patient
    root = _run_root(workspace, folder)
    metrics["notes"] = _notes_on_run(study, folder, metrics["checkpoint"]) + metrics["notes"]
    tables = result_tables(metrics)
    named = "" if folder == root else f" ({folder.name})"
    output = root / "eval" / f"{target.folder}{named}"
    files = study.image_ids, study.files
    whole = features["all_one"]
    _write(metrics, Gallery(evidence, *files, regions, tables, whole, captions.texts), output)
    check_privacy(workspace)
    return EvaluationResult(str(metrics["first_line"]), info.name, output, metrics, tables)


def _notes_on_run(study: "_Study", folder: Path, checkpoint: str) -> list[str]:
    """What a reader must know about the run and what it has seen, the most important first."""
    root, notes = _run_root(study.workspace, folder), []
    if not (root / END).exists():
        notes.append(
            f"the run has not ended; finish it with `sono train --name {root.name} --resume`"
        )
    best_epoch = _best_epoch(root)
    if folder == root and best_epoch and checkpoint != BEST:
        notes.append(
            f"the best checkpoint (epoch {best_epoch}) is missing: these are the scores of "
            f"{checkpoint}"
        )
    if study.info.key_check not in ("", study.workspace.study().key_check):
        notes.append(f"the run was {UNKNOWN_PATIENTS}: these may be among them")
    if study.selection.without_patient:
        notes.append(
            f"{orphan_sentence(study.selection.without_patient)}; their patients may be in "
            "training under another name"
        )
    return notes


def _best_epoch(root: Path) -> int:
    """The epoch of the best checkpoint of a finished run; 0 if it kept none."""
    try:
        summary = read_json(own_file(root, SUMMARY))
    except FileNotFoundError:  # still running, or imported
        return 0
    except (OSError, ValueError) as error:
        raise SonoError(f"{root / SUMMARY}: damaged ({short(error)}); delete it") from error
    epoch = summary.get("best_epoch") if isinstance(summary, dict) else None
    return epoch if isinstance(epoch, int) else 0


def _run_root(workspace: Workspace, folder: Path) -> Path:
    return workspace.runs / folder.relative_to(workspace.runs).parts[0]


@dataclass(frozen=True)
class _Study:
    """What every step of one evaluation needs."""

    workspace: Workspace
    model: MaskClip
    info: RunInfo
    selection: Selection
    settings: EvaluationConfig
    planes: PlaneTable
    templates: CaptionTemplates
    engine: Engine

    @property
    def image_ids(self) -> list[str]:
        return [str(image_id) for image_id in self.selection.frames["image_id"]]

    @property
    def files(self) -> list[Path]:
        return [self.workspace.root / str(file) for file in self.selection.frames["file"]]

    @cached_property
    def pixels(self) -> Frames:
        """The frames of the frame cache if it exists, else their files."""
        return self.packed_or_files(self.selection.frames)

    def packed_or_files(self, frames: pd.DataFrame) -> Frames:
        """The pixels of `frames`: those of the frame cache if it has all of them, else files."""
        names = [str(file) for file in frames["file"]]
        packed = kept_frames(self.workspace, names, self.model.image_size)
        return [self.workspace.root / name for name in names] if packed is None else packed

    @cached_property
    def regions(self) -> RegionStudy:
        """The selected frames for region control and for the mode `regions`."""
        return self.region_study(self.selection.frames, self.pixels)

    def region_study(self, frames: pd.DataFrame, files: Frames) -> RegionStudy:
        """`frames` with the model and the settings of this evaluation."""
        clusters = cluster_index(frames["patient_id"], frames["study_id"], frames["source_id"])
        how = self.settings
        return RegionStudy(
            self.model,
            frames,
            files,
            clusters,
            self.planes,
            self.templates,
            how.batch_size,
            how.seed,
        )

    @cached_property
    def validation(self) -> RegionStudy:
        """The validation frames of training that are unrelated to the selected ones."""
        images = self.workspace.accepted_images()
        known = validation_frames(images, self.info.held_out, self.selection.frames)
        return self.region_study(known, self.packed_or_files(known))

    def prompt_sets(self, own: Path | None) -> dict[str, PromptSet]:
        """The prompts of the planes, also those of the file `own`."""
        names = [plane.name for plane in self.planes.planes]
        return prompt_sets(self.model, self.templates, names, own)

    @cached_property
    def outlines(self) -> Outlines:
        """The outlines found in each frame without a label."""
        return stored_outlines(self.workspace, self.engine, self.image_ids, self.files)

    @property
    def draws(self) -> Draws:
        return Draws(self.settings.bootstrap_draws, self.settings.seed)


def _study(
    workspace: Workspace,
    model: MaskClip,
    info: RunInfo,
    selection: Selection,
    settings: EvaluationConfig,
    engine: Engine,
) -> _Study:
    planes = workspace.planes()
    planes.check(sorted(set(selection.frames["plane"])))
    return _Study(
        workspace, model, info, selection, settings, planes, load_templates(info.template), engine
    )


def _plan(study: _Study) -> MaskPlan:
    asked = any("proposed" in mode for mode in study.settings.modes)
    proposed = (
        {image_id: outlines[0] for image_id, outlines in study.outlines.items()} if asked else {}
    )
    annotated = annotated_masks(study.workspace.masks(), study.selection.frames)
    return plan_masks(annotated, proposed, study.settings.seed)


def _score(
    study: _Study, plan: MaskPlan, texts: NDArray[np.float32]
) -> tuple[Scored, dict[str, NDArray[np.float32]]]:
    """Cosines [frames, planes] and image features [frames, d] of each mode with masks.

    `texts` [planes, d] are those of all planes.
    """
    image_ids, side = study.image_ids, study.model.image_size
    modes = [mode for mode in study.settings.modes if plan.can(mode)]
    features = mode_features(
        study.model,
        study.pixels,
        modes,
        lambda mode, number: mask_for(plan, mode, image_ids[number], side),
        study.settings.batch_size,
    )
    ids = [plane.id for plane in study.planes.planes]
    scores = {mode: cosines(features[mode], texts) for mode in modes if mode in features}
    return Scored(tuple(ids), study.regions.plane_index, study.regions.clusters, scores), features


def _region_control(
    study: _Study, scored: Scored, whole: NDArray[np.float32]
) -> tuple[Regions, dict[str, Any]]:
    """The masks with their features, and the results of region control."""
    regions = encode_regions(study.regions, study.workspace.masks(), whole)
    return regions, region_control_results(regions, study.draws)


def _with_proposed_regions(study: _Study, scored: Scored) -> tuple[Scored, Weighting | None]:
    """Add the mode `regions` and its control to the scores if its weight is known."""
    settings = study.settings
    if "regions" not in settings.modes:
        return scored, None
    if settings.region_weight is not None:
        weighting: Weighting | None = Weighting(settings.region_evidence, settings.region_weight)
    else:
        known = study.validation
        files = [study.workspace.root / str(file) for file in known.frames["file"]]
        outlines = stored_outlines(study.workspace, study.engine, known.keys, files)
        weighting = choose_weight(known, outlines, settings.region_evidence)
    if weighting is None:
        return scored, None
    whole = scored.scores["all_one"]
    if weighting.weight:
        added = region_modes(study.regions, whole, weighting, study.outlines)
    else:
        added = dict.fromkeys(REGION_MODES, whole)
    scores = scored.scores | added
    scores = {mode: scores[mode] for mode in MODES if mode in scores}
    return replace(scored, scores=scores), weighting


def _probabilities(
    study: _Study, scored: Scored, calibration: Calibration | None
) -> dict[str, Any]:
    """The results of the probabilities of whole frames, and of frames without a plane."""
    others, whole = study.selection.others, None
    scale = float(study.model.logit_scale.detach().exp())
    known = LogitFrames(scale * scored.scores["all_one"], scored.clusters)
    if len(others):
        table = pd.concat([study.selection.frames, others])
        own = cluster_index(table["patient_id"], table["study_id"], table["source_id"])
        known = replace(known, clusters=own[: len(scored.truth)])
        scores = whole_scores(study.region_study(others, study.packed_or_files(others)))
        whole = LogitFrames(scale * scores, own[len(scored.truth) :])
    return probability_results(known, scored.truth, whole, calibration, study.draws)


def _provenance(study: _Study) -> dict[str, Any]:
    return {
        "run": study.info.name,
        "data_hash": study.info.data_hash,
        "run_config": study.info.config,
        "settings": study.settings.model_dump(mode="json") | {"template": study.templates.id},
        "prompts": study.templates.render_prompts("PLANE"),
    }


def _captions(study: _Study, images: NDArray[np.float32], regions: Regions) -> CaptionResults:
    written_by = (study.templates.name, study.templates.id)
    captions = own_captions(usable_captions(study.workspace.read(CAPTIONS)), written_by)
    known = study.regions
    shown = CaptionedFrames(study.image_ids, images, known.clusters, known.plane_index)
    return caption_results(study.model, shown, regions, captions, study.draws)


def _write(metrics: dict[str, Any], gallery: Gallery, folder: Path) -> None:
    """Write all files of an evaluation or none, so that the report fits the numbers."""
    frames, scored = gallery.evidence.selection.frames, gallery.evidence.scored
    with atomic_folder(folder) as new:
        write_predictions(new / "predictions.parquet", frames, scored)
        write_region_predictions(new / "regions.parquet", frames, gallery.regions)
        write_text(new / "metrics.json", json.dumps(metrics, indent=2, sort_keys=True) + "\n")
        write_report(new / "report.html", metrics, gallery)
        copy_others(folder, new)
        write_tables(new / TABLES, gallery.tables.values())
