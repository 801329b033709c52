"""The benchmark of the training step.

It times sono's own step, and the plain step that it is compared with does the same work.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from sono.training.model import architectures

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SIDE, PATCH, WIDTH, EMBED = 32, 8, 32, 16


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a small model `two` of two blocks a tower."""
    monkeypatch.syspath_prepend(FOLDER)
    vision = {
        "layers": 2,
        "width": WIDTH,
        "head_width": 16,
        "patch_size": PATCH,
        "image_size": SIDE,
    }
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    monkeypatch.setitem(
        architectures.SIZES, "two", {"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": text}
    )
    spec = importlib.util.spec_from_file_location("training_benchmark", FOLDER / "training.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def test_plain_and_ours_give_the_same_features_from_the_same_weights(benchmark: ModuleType) -> None:
    trainer = benchmark.make_trainer(benchmark.step_config("two", "float32", False))
    model, batch = trainer.model, benchmark.random_batch(SIDE, 6)
    plain, _, (color, mask, tokens), _ = benchmark.plain_work(trainer, batch, torch.float32).args
    image, text = model.encode_image(batch.image, batch.mask), model.encode_captions(batch.captions)
    seen = plain.encode_image(color, mask)
    torch.testing.assert_close(seen, F.normalize(image, dim=-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        plain.encode_text(tokens), F.normalize(text, dim=-1), rtol=0, atol=1e-5
    )
    assert float((seen - plain.encode_image(color, -mask)).abs().max()) > 1e-3  # the mask matters


def test_plain_and_our_step_have_the_same_losses_one_after_another(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 1e-4
    monkeypatch.setattr(benchmark, "RATE", rate)
    trainer = benchmark.make_trainer(benchmark.step_config("two", "float32", False))
    batch = benchmark.random_batch(SIDE, 6)
    plain = benchmark.plain_work(trainer, batch, torch.float32)
    for stem in (trainer.model.stem, plain.args[0].visual.stem):
        # three colors move three times as far as one
        stem.get_submodule("image").requires_grad_(False)
    theirs, ours = zip(*((plain(), trainer.step([batch], rate)) for _ in range(4)), strict=True)
    assert theirs == pytest.approx(ours, abs=1e-5)
    assert ours[-1] < ours[0] - 0.1


def test_a_line_a_number_format(benchmark: ModuleType) -> None:
    form = (
        r"step     float32 against plain float32: [\d.]+ s and [\d.]+ s: [\d.]+ times \(bar "
        r"1\.2\); "
        r"first losses ([\d.]+) and ([\d.]+)"
    )
    found = re.fullmatch(form, next(benchmark.steps(1, "two")))
    assert found and float(found[1]) == pytest.approx(float(found[2]), abs=1e-4)


def test_steps_of_other_losses_end_the_benchmark(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "share_weights", lambda *_: None)
    with pytest.raises(
        SystemExit, match=r"float32 .*first losses [\d.]+ and [\d.]+ differ by more than 0\.0001"
    ):
        next(benchmark.steps(1, "two"))


def test_flops_are_those_of_the_products_that_are_made(benchmark: ModuleType) -> None:
    model = benchmark.make_trainer(benchmark.step_config("two", "float32", False)).model
    patches = (SIDE // PATCH) ** 2
    tokens, square = patches + 1, WIDTH**2
    stem = (2 * PATCH**2 + 9) * 2 * WIDTH * patches
    first = 24 * square * tokens + 4 * tokens**2 * WIDTH
    last = 4 * square * tokens + 20 * square + 4 * tokens * WIDTH  # one token asks
    head = 2 * WIDTH * EMBED
    assert (
        benchmark.image_flops(model, benchmark.random_batch(SIDE, 2)) == stem + first + last + head
    )


def test_the_part_for_a_gpu_runs(benchmark: ModuleType) -> None:
    title, rate, *where = benchmark.gpu("two", "cpu", (4,))
    assert re.fullmatch(r"gpu      cpu, [\d.]+ TFLOP/s in bfloat16", title)
    found = re.fullmatch(r"gpu      batch 4: ([\d.]+) samples/s, MFU (0\.\d+), 0\.0 GiB", rate)
    assert found and float(found[1]) > 0 and float(found[2]) < 1
    shares = [float(line.split()[1].removesuffix("%")) for line in where]
    assert shares == sorted(shares, reverse=True) and 20 < sum(shares) < 100.5
