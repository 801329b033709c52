"""Two processes train as one does: run as a script by torchrun, this file is the command line with a tiny model."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sono.curation.errors import SonoError
from sono.curation.workspace import Workspace
from sono.training import architectures
from sono.training.config import TrainingConfig
from sono.training.distributed import alone, from_first, process_count, process_rank
from sono.training.shared_norm import share_norms
from sono.training.train import train

VISION = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
SETTINGS = TrainingConfig(model="tiny2", epochs=2, batch_size=12, validate_every=1, precision="float32")


def normalised(rows: slice, wrap: bool) -> dict[str, Tensor]:
    """Gradients and statistics of two norms over some of eight frames."""
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(8, 3, 4, 4, generator=generator) + 2
    layers = [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), BatchNormAct2d(3)]
    for weight in (weight for layer in layers for weight in layer.parameters()):
        nn.init.normal_(weight, generator=generator)
    model = nn.Sequential(*layers)
    share_norms(model)
    together = DistributedDataParallel(model) if wrap else model
    together(frames[rows]).pow(3).mean().backward()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    return buffers | {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def fails() -> None:
    raise SonoError("the first process says no")


def one_of_two(study: Path, out: Path) -> None:
    """Compare norms, tell an error, and train by the command line."""
    dist.init_process_group(  # not over the port, which the command line joins over
        "gloo", init_method=f"file://{out}.meet", rank=int(os.environ["RANK"]), world_size=2
    )
    found = normalised(slice(4 * process_rank(), 4 * process_rank() + 4), wrap=True)
    with alone():
        assert process_count() == 1
    assert process_count() == 2
    assert from_first(process_rank) == 0
    with pytest.raises(SonoError, match="the first process says no"):
        from_first(fails)
    if process_rank() == 0:
        torch.save(found, out)
    dist.destroy_process_group()
    from sono.cli import main

    options = {"--recipe": out.with_name("recipe.toml"), "--name": "two", "-w": study}
    sys.argv = ["sono", "train", *(str(word) for pair in options.items() for word in pair)]
    main()


@pytest.fixture(scope="module")
def told(study: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of what two processes did, and what they printed."""
    folder = tmp_path_factory.mktemp("two")
    changed = SETTINGS.model_dump(exclude_defaults=True)
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, int) else repr(value)}" for name, value in changed.items()
    ]
    (folder / "recipe.toml").write_text("\n".join(["[training]", *lines]))
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(free_port()),
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command, __file__, study.root, folder / "norms.pt"],
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout


def test_two_processes_give_the_losses_of_one_with_the_double_batch(
    study: Workspace, told: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(architectures.SIZES, "tiny2", {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT})
    one = train(study, SETTINGS, "one").folder
    logs = [list(csv.DictReader((one.with_name(name) / "log.csv").read_text().splitlines())) for name in ("one", "two")]
    assert len(logs[1]) == 2
    for first, second in zip(*logs, strict=True):
        assert {name: float(value) for name, value in second.items() if name != "seconds"} == pytest.approx(
            {name: float(value) for name, value in first.items() if name != "seconds"}, rel=1e-5
        )


def test_one_process_writes_and_talks(study: Workspace, told: tuple[Path, str]) -> None:
    assert told[1].count("best epoch") == 1
    assert '"processes": "2"' in (study.runs / "two" / "run.json").read_text()
    assert len(list((study.runs / "two" / "tensorboard").iterdir())) == 1


def test_norms_see_the_frames_of_all_processes(told: tuple[Path, str]) -> None:
    found = torch.load(told[0] / "norms.pt", weights_only=True)
    whole = normalised(slice(0, 8), wrap=False)
    assert whole.keys() == found.keys()
    for name, value in whole.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-5), name


if __name__ == "__main__":
    architectures.SIZES["tiny2"] = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    one_of_two(Path(sys.argv[1]), Path(sys.argv[2]))
