"""Read third-party weight files as tensors only: safetensors, torch.save and TorchScript."""

import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sono.curation.core import checkpoint_names
from sono.curation.core.atomic import open_regular
from sono.curation.core.checkpoint_names import asked_for
from sono.curation.core.config import format_problem
from sono.curation.core.errors import SonoError

DAMAGED = (*checkpoint_names.DAMAGED, SafetensorError)
_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_weights(path: Path) -> dict[str, Any]:
    """The tensors and plain values of a weight file by name.

    No code of the file is run: only tensors, numbers, text and containers of them are built. Raises
    SonoError if it is damaged or contains code.
    """
    if path.suffix == ".onnx":
        raise SonoError(
            f"{path}: a graph, not trainable weights; give the checkpoint that it was exported from"
        )
    try:
        content = _reader(path)(path)
    except FileNotFoundError as error:
        raise SonoError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise SonoError(f"{path}: a folder; give the weight file in it") from error
    except pickle.UnpicklingError as error:
        raise SonoError(
            f"{path}: damaged, or contains more than weights{asked_for(error)}; none of its code "
            "was run. Get it again, or as safetensors"
        ) from error
    except DAMAGED as error:
        raise SonoError(
            f"{path}: damaged or not a weight file ({short(error)}); get it again"
        ) from error
    if not isinstance(content, Mapping):
        raise SonoError(f"{path}: contains a {type(content).__name__}, not named weights")
    return {str(name): value for name, value in content.items()}


def _reader(path: Path) -> Callable[[Path], Any]:
    with open_regular(path) as stream:
        start = stream.read(9)
    if start[8:9] == b"{" and not start.startswith(b"PK"):
        return load_file
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                return _read_torchscript
    return _read_torch


def _read_torch(path: Path) -> Any:
    with warnings.catch_warnings():
        # about old ways of saving, which are no fault of the user's
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters of a TorchScript archive, as OpenAI publishes CLIP; its code is ignored.

    torch.jit.load would compile and run that code, and torch.load refuses such files.
    """
    with zipfile.ZipFile(path) as archive:
        record = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if record is None:
            raise ValueError("no data.pkl")
        with archive.open(record) as stream:
            return dict(_tensors(_Weights(stream, archive, record.removesuffix(".pkl")).load(), ""))


class _Module:
    """A substitute for any TorchScript class: attributes without behavior."""


class _Weights(pickle.Unpickler):
    """An unpickler limited to tensors, ordered dictionaries and modules without behavior."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return type("_Module", (_Module,), {})
        known = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch.jit._pickle":  # typed lists
            return lambda values, *_: values
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, identity: Any) -> Tensor:
        _, dtype, key, *_ = identity
        member = self._archive.getinfo(f"{self._folder}/{key}")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("compressed weights")
        content = bytearray(self._archive.read(member))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(module: Any, prefix: str) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found.append((prefix + name, value))
        elif isinstance(value, _Module):
            found += _tensors(value, f"{prefix}{name}.")
    return found


def short(error: Exception) -> str:
    """A third-party error in one line, without torch's advice to load unsafely."""
    if isinstance(error, ValidationError):
        return format_problem(error)
    if isinstance(error, pickle.UnpicklingError):
        return "not of torch, or more than tensors and numbers"
    return " ".join(str(error).split())[:160] or "cut short"
