import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sono.annotation.weights.weight_files import read_weights
from sono.curation.core.errors import SonoError

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


class Harm:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def scripted(path: Path) -> Path:
    with warnings.catch_warnings():
        # OpenAI's files are of this kind, however old it is
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(
            torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)).half()
        ).save(str(path))
    return path


def rewritten(path: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, content if name.endswith(member) else part)


def test_every_format_gives_the_same_tensors(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "new.pt")
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(WEIGHTS, tmp_path / "safe.bin")
    for file in tmp_path.iterdir():
        read = read_weights(file)
        assert set(read) == set(WEIGHTS)
        assert all(torch.equal(read[name], WEIGHTS[name]) for name in WEIGHTS)


def test_a_torchscript_archive_gives_the_parameters_of_its_modules(tmp_path: Path) -> None:
    torch.manual_seed(0)
    read = read_weights(scripted(tmp_path / "module.pt"))
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 2).half()
    assert set(read) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(read["0.weight"], linear.weight)


@pytest.mark.parametrize("way", ["zip", "pickle", "torchscript"])
def test_a_malicious_pickle_is_refused_and_not_run(way: str, tmp_path: Path) -> None:
    file, trace = tmp_path / "weights.pt", tmp_path / "harm"
    if way == "zip":
        torch.save({"a": Harm(trace)}, file)
    elif way == "pickle":
        file.write_bytes(pickle.dumps({"a": Harm(trace)}, protocol=2))
    else:
        rewritten(scripted(file), "data.pkl", pickle.dumps({"a": Harm(trace)}, protocol=2))
    with pytest.raises(
        SonoError,
        match=(
            r"weights.pt: .* more than weights \(it asks for posix.mkdir\); none of its code "
            r"was run"
        ),
    ):
        read_weights(file)
    assert not trace.exists()


@pytest.mark.parametrize("way", ["zip", "old", "safetensors", "torchscript"])
def test_a_truncated_file_is_one_line(way: str, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    if way == "safetensors":
        save_file(WEIGHTS, file)
    elif way == "torchscript":
        scripted(file)
    else:
        torch.save(WEIGHTS, file, _use_new_zipfile_serialization=way == "zip")
    whole = file.read_bytes()
    for length in (0, 1, 7, 9, 20, len(whole) // 3, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:length])
        with pytest.raises(SonoError) as caught:
            read_weights(file)
        assert "\n" not in str(caught.value)


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.save(WEIGHTS, tmp_path / "a")
    for original in (tmp_path / "a", scripted(tmp_path / "b")):
        whole, refused = original.read_bytes(), 0
        for place in torch.randint(len(whole), (150,), generator=generator).tolist():
            broken = tmp_path / "broken"
            broken.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            try:
                read_weights(broken)
            except SonoError:
                refused += 1
        assert 0 < refused < 150


def test_a_folder_a_missing_file_and_a_lone_tensor_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(SonoError, match="a folder; give the weight file in it"):
        read_weights(tmp_path)
    content = io.BytesIO()
    torch.save(torch.ones(2), content)
    (tmp_path / "lone.pt").write_bytes(content.getvalue())
    with pytest.raises(SonoError, match="contains a Tensor, not named weights"):
        read_weights(tmp_path / "lone.pt")


def test_a_graph_is_told_apart_from_weights(tmp_path: Path) -> None:
    (tmp_path / "image.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(SonoError, match=r"image.onnx: a graph, not trainable weights.*checkpoint"):
        read_weights(tmp_path / "image.onnx")


def test_a_torchscript_archive_without_values_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.pt", "w") as archive:
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(SonoError, match=r"empty.pt: damaged or not a weight file \(no data.pkl\)"):
        read_weights(tmp_path / "empty.pt")
