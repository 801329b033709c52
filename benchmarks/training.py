"""Speed of training relative to plain published-style code, as ratios of CPU times on one core.

loader: samples/s of the frame cache against reading PNG and RLE for each sample (at least 20
times).

step: `Trainer.step` of ViT-B/16 at 224, batch 8, text tower frozen, against `plain_clip.py` with
the same weights: at least 1.2 times in float32, where the first losses must agree to 1e-4 (else
exit 1), and 1.7 times in bfloat16 if the processor has it (the plain step is timed in both).

regions: the step of the default recipe against that of whole frames only (at most 1.3 times).

memory: that of the sigmoid loss of 32,768 pairs by the size of its parts.

gpu: samples/s and model FLOPs utilization of `Trainer.step` of the published size (ViT-L/14 at
336) in bfloat16 on random data, and the slowest operations; skipped without a GPU.

Example: python benchmarks/training.py ../shared/data [--parts loader step gpu] [--compile]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from plain_clip import PlainClip, plain_optimizer, plain_step

from sono.templates.loader import load_templates
from sono.training.config import TrainingConfig
from sono.training.data.pairs import Batch, PairMixture, draw_batch
from sono.training.data.read_pairs import load_pairs
from sono.training.model.architectures import ModelConfig, architecture_of
from sono.training.model.freeze import set_trainable
from sono.training.model.mask_clip import MASK_MEAN, MASK_STD, MaskClip
from sono.training.objectives.attributes import NOTHING, AttributeTable
from sono.training.objectives.facts import Facts
from sono.training.objectives.objective import Heads
from sono.training.step import Learner, Trainer

PARTS = ["loader", "step", "regions", "memory", "gpu"]
SIDE = 336
BATCH = 8  # of a step
RATE = 1e-6
TOLERANCE = 1e-4  # of the losses in float32
# dense bfloat16, by the vendor
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40": 181e12, "4090": 165e12}


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of `work`, which other work on the machine moves little."""
    started = time.process_time()
    work()
    return time.process_time() - started


def compare(
    plain: Callable[[], Any], ours: Callable[[], Any], repeats: int
) -> tuple[float, float, float]:
    """Medians of the times of both, taking turns, and of their ratios.

    The first turn is a warm-up and does not count.
    """
    turns = [(seconds(plain), seconds(ours)) for _ in range(repeats + 1)][1:]
    ratio = statistics.median(one / other for one, other in turns)
    return (
        statistics.median(one for one, _ in turns),
        statistics.median(other for _, other in turns),
        ratio,
    )


def make_study(data: Path, folder: Path, count: int) -> Any:
    """A workspace of real frames, each with a mask of a head's size and captions."""
    import cv2
    import numpy as np

    from sono.annotation.captions import build_captions
    from sono.annotation.masks import mask_row, mask_table
    from sono.curation.core.atomic import write_bytes
    from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
    from sono.curation.core.tables import IMAGES, MASKS, from_rows
    from sono.curation.core.workspace import Workspace

    study = Workspace.create(folder / "study")
    rows, masks = [], []
    for path in sorted((data / "barcelona" / "Images").iterdir())[:count]:
        gray = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        height, width = gray.shape
        image_id, file = image_id_of(gray), frame_file(image_id_of(gray), gray)
        write_bytes(study.root / file, encode_png(gray), durable=False)
        row = {
            "image_id": image_id,
            "source_id": path.name,
            "frame": 0,
            "status": "accepted",
            "split": "train",
        }
        rows.append(
            row | {"plane": "transthalamic", "height": height, "width": width, "file": file}
        )
        head = np.zeros((height, width), np.uint8)
        cv2.ellipse(head, (width // 2, height // 2), (width // 4, height // 4), 20, 0, 360, 1, -1)
        masks.append(
            mask_row(rows[-1], head.astype(np.bool_), "fetal head", "manual", state="accepted")
        )
    study.write(IMAGES, from_rows(IMAGES, rows))
    study.write(MASKS, mask_table(masks))
    build_captions(study)
    return study


def loader(data: Path, repeats: int, count: int = 64) -> str:
    """Batches from the frame cache against reading the same pairs one by one as published."""
    import cv2
    import numpy as np
    from pycocotools import mask as coco

    from sono.curation.core.tables import rows_of
    from sono.training.interop.preprocess import published_square

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(data, Path(folder), count)
        images = study.accepted_images()
        masks = {mask["image_id"]: mask for mask in rows_of(study.masks())}

        def one_by_one() -> None:
            for image in rows_of(images):
                content = np.frombuffer((study.root / image["file"]).read_bytes(), np.uint8)
                picture = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                mask = masks[image["image_id"]]
                inside = coco.decode(
                    {"size": [mask["height"], mask["width"]], "counts": mask["counts"].encode()}
                )
                published_square(picture, inside.astype(np.bool_), SIDE)

        build = seconds(
            lambda: load_pairs(study, images, ("accepted",), load_templates("standard"), SIDE)
        )
        pairs = load_pairs(study, images, ("accepted",), load_templates("standard"), SIDE)
        generator = torch.Generator().manual_seed(0)

        def packed() -> None:
            for start in range(0, len(pairs), 32):
                rows = range(start, min(start + 32, len(pairs)))
                draw_batch(pairs, rows, PairMixture(0.1, 0.0, None), generator)

        plain, ours, ratio = compare(one_by_one, packed, repeats)
    return (
        f"loader   published {len(images) / plain:.0f} samples/s, cached {len(images) / ours:.0f} "
        f"samples/s: {ratio:.0f} times (bar 20); the cache is made at {len(images) / build:.0f} "
        "samples/s"
    )


def steps(repeats: int, model: str = "base", compiled: bool = False) -> Iterator[str]:
    """One line for float32, and two for bfloat16: against plain bfloat16 and float32."""
    yield _step_line(step_config(model, "float32", compiled), torch.float32, repeats, 1.2)
    if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        half = step_config(model, "bfloat16", compiled)
        yield _step_line(half, torch.bfloat16, repeats, 1.7)
        yield _step_line(half, torch.float32, repeats, 1.7)


def step_config(model: str, precision: str, compiled: bool) -> TrainingConfig:
    """The published objective with a frozen text tower."""
    given = {
        "model": model,
        "precision": precision,
        "compile": compiled,
        "batch_size": BATCH,
        "learning_rate": RATE,
    }
    return TrainingConfig(
        objective="sigmoid",
        trainable="vision",
        targets="identity",
        region_weight=0.0,
        region_pool=False,
        mask_rate=1.0,
        **given,
    )


def regions(repeats: int, side: int = 96) -> str:
    """The default recipe's step against the same model on whole frames without pooling."""
    trainers = []
    for changes in ({"region_weight": 0.0, "region_pool": False}, {}):
        config = TrainingConfig(
            model="lite0", text="clip", image_size=side, trainable="vision", **changes
        )
        trainers.append(make_trainer(config))
    count = trainers[1].config.batch_size
    whole = round(trainers[1].config.global_fraction * count)
    plain, ours = (random_batch(side, count, each) for each in (count, whole))
    before, after, ratio = compare(
        partial(trainers[0].step, [plain], RATE), partial(trainers[1].step, [ours], RATE), repeats
    )
    return (
        f"regions  {count} whole frames, mask in the stem: {before:.2f} s; {whole} whole frames "
        f"and {count - whole} regions, pooled: {after:.2f} s: {1 / ratio:.2f} times (bar 1.3)"
    )


def _step_line(config: TrainingConfig, plain_type: torch.dtype, repeats: int, bar: float) -> str:
    trainer = make_trainer(config)
    batch = random_batch(trainer.model.image_size, BATCH)
    plain, ours = plain_work(trainer, batch, plain_type), partial(trainer.step, [batch], RATE)
    losses = plain(), ours()  # of the first step, before weights part
    first = f"first losses {losses[0]:.6f} and {losses[1]:.6f}"
    numbers = f"{config.precision} against plain {str(plain_type).removeprefix('torch.')}"
    exact = config.precision == "float32" and plain_type == torch.float32
    if exact and not abs(losses[0] - losses[1]) <= TOLERANCE:
        raise SystemExit(
            f"step     {numbers}: {first} differ by more than {TOLERANCE}: not the same work"
        )
    before, after, ratio = compare(plain, ours, repeats)
    return (
        f"step     {numbers}: {before:.2f} s and {after:.2f} s: {ratio:.2f} times (bar {bar}); "
        f"{first}"
    )


def make_trainer(config: TrainingConfig, device: str = "cpu") -> Trainer:
    """The trainer that `sono train` makes of `config`, with random weights, also for the mask."""
    torch.manual_seed(0)
    own = {"image_size": config.image_size, "region_pool": config.region_pool}
    model = MaskClip(ModelConfig(name=config.model, **own)).to(device)
    torch.nn.init.normal_(model.stem.mask.weight, std=0.02)
    set_trainable(model, config.trainable)
    heads = Heads(config, AttributeTable([]).rows, architecture_of(model.config)["embed_dim"])
    return Trainer(Learner(model, heads.to(device), config))


def random_batch(side: int, count: int, whole: int = 0) -> Batch:
    """Frames and masks of noise, each with a caption of its own.

    The first `whole` of them are whole frames.
    """
    image, mask = torch.rand(2, count, 1, side, side)
    captions = [
        f"an ultrasound frame of the fetal head, {number} days"
        for number in range(100, 100 + count)
    ]
    facts = Facts.of(
        captions,
        [(text, text) for text in captions],
        [number >= whole for number in range(count)] if whole else [False] * count,
    )
    attributes = AttributeTable([NOTHING]).of([NOTHING] * count)
    return Batch(image, mask.round(), captions, list(range(count)), attributes, facts)


def plain_work(trainer: Trainer, batch: Batch, plain_type: torch.dtype) -> partial[float]:
    """The plain step from the trainer's weights; RGB frames and tokens are made beforehand."""
    model, config = trainer.model, trainer.config
    plain = PlainClip(architecture_of(model.config))
    share_weights(model, plain)
    optimizer = plain_optimizer(plain, RATE, config.weight_decay, config.scale_rate)
    color = ((batch.image - model.pixel_mean) / model.pixel_std).repeat(1, 3, 1, 1)
    pairs = color, (batch.mask - MASK_MEAN) / MASK_STD, model.tokenize(batch.captions)
    return partial(plain_step, plain, optimizer, pairs, plain_type)


def share_weights(model: MaskClip, plain: PlainClip) -> None:
    """Give `plain` the weights of `model`, the gray filters in three equal parts."""
    names = {
        name.removeprefix("towers.").replace("visual.conv1.", "visual.stem."): name
        for name in model.state_dict()
    }
    weights = {
        short: model.state_dict()[name]
        for short, name in names.items()
        if not short.startswith("pixel_")
    }
    filters = "visual.stem.image.weight"
    weights[filters] = (weights[filters] / 3).repeat(1, 3, 1, 1)
    plain.load_state_dict(weights)


def gpu(
    model: str = "large",
    device: str = "cuda",
    batches: tuple[int, ...] = (32, 64, 128),
    compiled: bool = False,
) -> list[str]:
    """Samples/s and MFU by batch size, then the slowest operations at the last batch size."""
    trainer = make_trainer(step_config(model, "bfloat16", compiled), device)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    peak = next((flops for known, flops in PEAKS.items() if known in name), None) or _peak(device)
    lines = [f"gpu      {name}, {peak / 1e12:.1f} TFLOP/s in bfloat16"]
    for count in batches:
        batch = random_batch(trainer.model.image_size, count)
        step = partial(trainer.step, [batch], RATE)
        rate = count / _wall(step, device)
        share = 3 * image_flops(trainer.model, batch) * rate / peak
        held = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
        lines.append(
            f"gpu      batch {count}: {rate:.1f} samples/s, MFU {share:.3f}, {held:.1f} GiB"
        )
    return lines + _where(step, device)


def image_flops(model: MaskClip, batch: Batch) -> int:
    """Floating-point operations of one frame forward, as torch counts them.

    They include matrix products and convolutions.
    """
    from torch.utils.flop_counter import FlopCounterMode

    frame, mask = (each[:1].to(model.logit_scale.device) for each in (batch.image, batch.mask))
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        model.train().encode_image(frame, mask)
    return counter.get_total_flops()


def _wall(work: Callable[[], Any], device: str, repeats: int = 10) -> float:
    """Seconds of one `work` by the clock, after two that do not count."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(2):
        work()
    wait()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - started) / repeats


def _peak(device: str) -> float:
    """Operations a second of a large matrix product: the bound where the vendor's is not known."""
    side = 8192 if device == "cuda" else 512
    one = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / _wall(lambda: one.mm(one), device)


def _where(work: Callable[[], Any], device: str, rows: int = 12) -> list[str]:
    """The share of time of each operation, without the operations that it calls.

    On a GPU, the time is that of its kernels.
    """
    from torch.autograd import DeviceType
    from torch.profiler import profile

    with profile() as seen:
        work()
    own = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    # kernels are also listed separately, and would count twice
    events = [event for event in seen.key_averages() if event.device_type == DeviceType.CPU]
    events.sort(key=lambda event: -getattr(event, own))
    total = sum(getattr(event, own) for event in events)
    return [
        f"gpu      {getattr(event, own) / total:6.1%}  {event.key[:80]}" for event in events[:rows]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", type=Path, nargs="?", help="the folder of the real frames (only for loader)"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="our vision tower by torch.compile")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if "loader" in given.parts:
        print(
            loader(given.data, given.repeats)
            if given.data
            else "loader   skipped: no folder of frames",
            flush=True,
        )
    if "step" in given.parts:
        for line in steps(given.repeats, compiled=given.compile):
            print(line, flush=True)
    if "regions" in given.parts:
        print(regions(given.repeats), flush=True)
    if "memory" in given.parts:
        command = [sys.executable, str(Path(__file__).with_name("losses.py")), "--batch", "32768"]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if "gpu" in given.parts:
        there = torch.cuda.is_available()
        print(
            *(gpu(compiled=given.compile) if there else ["gpu      skipped: torch finds none"]),
            sep="\n",
        )


if __name__ == "__main__":
    main()
