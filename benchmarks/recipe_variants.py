"""The training settings that `recipes.py` compares: towers, ablations, lengths and recipes."""

from typing import Any

from sono.training.model.architectures import SIZES

PHANTOM = "phantom"  # the run that one ablation begins with

# Other towers of about the size and speed of `nano`, with the same text tower.
for name, vision in {
    "transformer": {
        "image_size": 128,
        "patch_size": 16,
        "width": 192,
        "layers": 12,
        "head_width": 64,
    },
    "regnet": {
        "timm_model_name": "regnetx_004",
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 128,
    },
}.items():
    SIZES[name] = {**SIZES["nano"], "vision_cfg": vision}  # type: ignore[dict-item]

STILL = dict.fromkeys(("rotation_degrees", "scale", "shift", "gain", "gamma", "speckle"), 0.0) | {
    "flip": False
}
# The recipe `sono` when these tables were made, before regions had a separate objective.
FORMER: dict[str, Any] = {
    "model": "nano", "start": "scratch", "text": "clip", "epochs": 100, "batch_size": 16,
    "targets": "identity", "global_fraction": 0.8, "region_weight": 0.0, "regions_per_frame": 1,
    "region_prompts": 0.0, "mask_rate": 1.0,
}  # fmt: skip
# That recipe without the results of these tables, and the changes of each ablation.
BASE = {"objective": "sigmoid", "augment": {"mask_stray": 0.0}}
ABLATIONS: dict[str, dict[str, Any]] = {
    "base": {},
    "positives: caption": {"targets": "caption"},
    "positives: softmax": {"objective": "softmax"},
    "positives: softmax, caption": {"objective": "softmax", "targets": "caption"},
    "bias: auto": {"bias": "auto"},
    "region pairs: none": {"global_fraction": 1.0},
    "region pairs: nine of ten": {"global_fraction": 0.1},
    "region pairs: proposals too": {"mask_states": ["accepted", "edited", "proposed"]},
    "stray masks": {"augment": {"mask_stray": 0.5}},
    "stray masks, prompts under regions": {"augment": {"mask_stray": 0.5}, "region_prompts": 0.5},
    "all of it: softmax, stray": {"objective": "softmax", "augment": {"mask_stray": 0.5}},
    "all of it: softmax, caption, stray": {
        "objective": "softmax",
        "targets": "caption",
        "augment": {"mask_stray": 0.5},
    },
    "all of it: softmax, stray, soft labels": {
        "objective": "softmax",
        "semantic_weight": 1.0,
        "augment": {"mask_stray": 0.5},
    },
    "all of it: softmax, stray, reconstruction": {
        "objective": "softmax",
        "reconstruction_weight": 0.2,
        "augment": {"mask_stray": 0.5},
    },
    "region pairs: half with prompts": {"region_prompts": 0.5},
    "frame augmentation: none": {"augment": STILL},
    "prompts: never": {"prompt_fraction": 0.0},
    "plane balance: none": {"plane_balance": 0.0},
    "plane balance: full": {"plane_balance": 1.0},
    "tower: transformer": {"model": "transformer"},
    "tower: transformer, a third of the rate": {"model": "transformer", "learning_rate": 3e-4},
    "tower: regnet": {"model": "regnet"},
    "pretrained on phantoms": {"init": PHANTOM, "learning_rate": 1e-3, "mask_rate": 1.0},
}
# Length of training and frame size of the recipe `sono`: scored on val, at the epoch that val picks
# among 25 to 30.
SEARCH: dict[str, dict[str, Any]] = {
    "50 epochs": {"epochs": 50, "validate_every": 2},
    "100 epochs": {"epochs": 100, "validate_every": 4},
    "180 epochs": {"epochs": 180, "validate_every": 6},
    "64 pixels, 100 epochs": {"image_size": 64, "epochs": 100, "validate_every": 4},
    "96 pixels, 100 epochs": {"image_size": 96, "epochs": 100, "validate_every": 4},
    "160 pixels, 100 epochs": {"image_size": 160, "epochs": 100, "validate_every": 4},
    "100 epochs, phantoms first": {
        "epochs": 100,
        "validate_every": 4,
        "init": PHANTOM,
        "learning_rate": 1e-3,
        "mask_rate": 1.0,
    },
}


def comparisons(epochs: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Recipes on the tower `nano` for the same number of samples, and the former `sono`."""
    short = {"epochs": epochs, "validate_every": 2}
    return [
        ("sonoclip", "sonoclip", short),
        ("sono", "sono", FORMER | short),
        ("sono, 100 epochs", "sono", FORMER),
    ]
