"""The record of a run: its settings, data and environment, so that it can be repeated."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from sono.curation.core.atomic import file_sha256
from sono.curation.core.config import override, section_values, validated
from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import CAPTIONS, IMAGES, MASKS
from sono.curation.core.workspace import Workspace
from sono.curation.dataset.exams import orphan_counts
from sono.training.config import NAMED, PLACES, TrainingConfig, training_config
from sono.training.data.shard_records import Contents
from sono.training.data.shards import INDEX, Shards
from sono.training.data.stream import open_shards
from sono.training.inputs import TrainingInputs
from sono.training.model.checkpoints import RUN, RunInfo, find_run, is_used, read_run
from sono.training.runs.environment import differences, environment
from sono.training.runtime.distributed import is_main_process
from sono.training.start import inherit_seen

START_HASH = "start_sha256"  # of an encoder's file, in the environment of a record


def run_info(
    workspace: Workspace, inputs: TrainingInputs, config: TrainingConfig, name: str
) -> RunInfo:
    """The record of a new run, including what the run that it starts from has seen."""
    images = inputs.images
    used = images[images["split"].isin(["train", "val"])]
    planes = Counter(images.loc[images["split"] == "train", "plane"].dropna())
    info = RunInfo(
        name=name,
        template=inputs.template,
        centers_seen=tuple(sorted(used["center"].dropna().unique())),
        held_out=config.hold_out,
        patients_seen=frozenset(used["patient_id"].dropna()),
        image_ids_seen=frozenset(used["image_id"]),
        planes_seen=dict(sorted(planes.items())),
        data_hash=data_hash(workspace, config),
        config=config.record(),
        key_check=workspace.study().key_check,
        environment=environment(config, inputs.start.config) | _encoder_hash(inputs),
        without_patient=orphan_counts(used),
        left_out=inputs.left_out,
        origin="" if inputs.start.encoder is None else inputs.start.encoder.origin,
    )
    if isinstance(inputs.train, Shards):
        info = _with_stream(info, inputs.train.contents)
    return inherit_seen(info, inputs.start.info)


def _encoder_hash(inputs: TrainingInputs) -> dict[str, str]:
    encoder = inputs.start.encoder
    return {} if encoder is None else {START_HASH: file_sha256(encoder.path)}


def _with_stream(info: RunInfo, contents: Contents) -> RunInfo:
    """The record of a run that reads shards, in addition to its validation frames."""
    return replace(
        info,
        centers_seen=tuple(sorted({*info.centers_seen, *contents.centers})),
        patients_seen=info.patients_seen.union(contents.patients),
        image_ids_seen=info.image_ids_seen.union(contents.image_ids),
        planes_seen=contents.planes,
    )


def data_hash(workspace: Workspace, config: TrainingConfig) -> str:
    """16 hexadecimal digits over the bytes of the three tables and the index of the shards."""
    files = [
        path for table in (CAPTIONS, IMAGES, MASKS) if (path := workspace.path(table)).exists()
    ]
    if config.shards is not None:
        files.append(open_shards(workspace, config.shards).folder / INDEX)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def settings_of_run(
    workspace: Workspace,
    recorded: str | None,
    recipe: str | None,
    options: dict[str, Any],
    resume: bool = False,
) -> TrainingConfig:
    """The settings of the run `recorded`, or of a new run; options that are not None win.

    Runs are given by name or by the path of their folder. Prints a message when the data have
    changed since that run; `train` refuses to `resume` then.
    """
    if options.get("init") is not None:
        options = {**options, "init": workspace.run_name(options["init"])}
    if recorded is None:
        return _holding_out(workspace, training_config(workspace, recipe, options))
    if recipe is not None:
        raise SonoError(f"run '{recorded}' has its own settings; leave --recipe out")
    recorded = workspace.run_name(recorded)
    config = recorded_config(workspace, recorded)
    other = _other_encoder(workspace, recorded, config)
    if resume:
        if other:
            raise SonoError(
                f"{other}; put the old one back, or start a new run with `sono train --from "
                f"{recorded}`"
            )
        return override(config, **options)
    if is_main_process():
        if other:
            stderr_console.print(f"{other}, so its weights will differ", markup=False)
        _warn_changes(workspace, recorded, config)
    return _holding_out(workspace, override(config, **options))


def _other_encoder(workspace: Workspace, name: str, config: TrainingConfig) -> str:
    """A message if the file of `start` has changed since the run; "" otherwise."""
    known = read_run(workspace.runs / name).environment.get(START_HASH)
    if known is None or config.start is None:
        return ""
    path = workspace.place(config.start)
    if not path.is_file() or file_sha256(path) == known:
        return ""
    return f"{name}: {path.name} is not the file that the run started from"


def _warn_changes(workspace: Workspace, name: str, config: TrainingConfig) -> None:
    if _has_changed(workspace, name, config):
        stderr_console.print(
            f"{name}: images, masks or captions have changed since, so its weights will differ"
        )
    other = differences(read_run(workspace.runs / name).environment)
    if other:
        stderr_console.print(
            f"{name}: made with {other}, so its weights may differ slightly",
            markup=False,
        )


def _holding_out(workspace: Workspace, config: TrainingConfig) -> TrainingConfig:
    """`config` with the held-out centers of the run `init`, unless others are given."""
    if config.init is None or config.hold_out:
        return config
    held = read_run(workspace.runs / config.init.split("/")[0]).held_out
    if held and is_main_process():
        stderr_console.print(
            f"{', '.join(held)} stays held out, as in {config.init}; use --hold-out to change this"
        )
    return config.model_copy(update={"hold_out": tuple(held)})


def recorded_config(workspace: Workspace, name: str) -> TrainingConfig:
    """The settings of the run `name`."""
    folder = find_run(workspace, name)
    if folder.parent != workspace.runs:
        raise SonoError(
            f"{folder}: is not a run, but a part of one; give the run, "
            f"'{folder.relative_to(workspace.runs).parts[0]}'"
        )
    info = read_run(folder)
    if "imported" in info.config:
        raise SonoError(
            f"{folder}: imported, not trained; `sono train --init {name}` starts from it"
        )
    unknown = set(info.config) - set(TrainingConfig.model_fields)
    if unknown or ("model" in info.config and "region_weight" not in info.config):
        raise SonoError(
            f"{folder}: made by another version, with settings that are unknown or differ in "
            f"meaning here; `sono train --init {name}` starts from it"
        )
    return _with_places(validated(info.config, "config", TrainingConfig, folder / RUN), workspace)


def check_data(workspace: Workspace, name: str, config: TrainingConfig) -> None:
    """Raise SonoError if the run `name` saw other data.

    A resumed run would learn from patients that its record lacks.
    """
    if _has_changed(workspace, name, config):
        raise SonoError(
            f"{workspace.runs / name}: images, masks or captions have changed since it started, so "
            "it cannot be resumed; put the tables back, or start a new run with `sono train --from "
            f"{name}`"
        )


def _has_changed(workspace: Workspace, name: str, config: TrainingConfig) -> bool:
    return read_run(workspace.runs / name).data_hash != data_hash(workspace, config)


def _with_places(config: TrainingConfig, workspace: Workspace) -> TrainingConfig:
    """`config` with the paths of `sono.toml`, since a record has only names.

    Raises SonoError if a path is missing there.
    """
    own, found = section_values(workspace.config_path, "training"), {}
    for name in PLACES:
        kept, place = getattr(config, name), own.get(name)
        if kept in NAMED:
            continue
        if kept is not None and (not isinstance(place, str) or Path(place).name != kept):
            raise SonoError(
                f"{workspace.config_path}: the run read {name} '{kept}' and does not store its "
                f"path; set {name} under [training]"
            )
        found[name] = place if kept is not None else None
    return config.model_copy(update=found)


def next_run_name(workspace: Workspace, after: str = "") -> str:
    """run-001, run-002, ...: the first one behind `after` whose folder is not used."""
    taken = {run.name for run in workspace.runs.glob("run-*") if is_used(run)}
    names = (f"run-{number:03d}" for number in range(1, 10_000))
    return next(
        name for name in names if name not in taken and (len(name), name) > (len(after), after)
    )
