"""A phantom whose findings can be seen, and a server that rewrites captions by rules.

`sono phantom` writes findings at random, which no picture shows. Here each frame has a drawn lesion
of one of six kinds, or none, and its record lists the words of that kind in the vocabulary of
Ultrasound-CLIP. Kinds share words, as similar findings do. `Paraphraser` answers as a server with
OpenAI's chat API does, with the grammars of `rewrite_verifier.py`. It is no language model.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rewrite_verifier import GRAMMARS, rewrite

from sono.annotation.caption_facts import DAYS_A_WEEK, Facts
from sono.annotation.captions import build_captions
from sono.annotation.masks import mask_row, mask_table
from sono.curation.core.arrays import Mask
from sono.curation.core.atomic import write_bytes
from sono.curation.core.frame_files import encode_png, frame_file, image_id_of
from sono.curation.core.planes import PLANES
from sono.curation.core.tables import IMAGES, MASKS, from_rows, write_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.phantom.anatomy import FIRST_TRIMESTER, draw_plane, visible_masks
from sono.curation.phantom.frames import LOOKS, PROBES
from sono.curation.phantom.patients import make_patient
from sono.curation.phantom.physics import render
from sono.curation.phantom.scene import BONE, BRAIN, FLUID, Scene, blob, fill, oval, stroke
from sono.curation.phantom.study import CENTERS, deal_planes

FRAMES = 8  # of each patient
NORMAL = "none"
KINDS = MappingProxyType(
    {
        "simple cyst": ("cyst", "anechoic", "round", "enhancement"),
        "septated cyst": ("cyst", "anechoic", "oval", "septations"),
        "solid mass": ("mass", "hyperechoic", "round", "solid components"),
        "calcified mass": ("mass", "hyperechoic", "irregular", "shadowing"),
        "nodule": ("nodule", "hypoechoic", "oval"),
        "mixed mass": ("mass", "mixed echogenicity", "round", "complex cystic-solid"),
        NORMAL: ("normal appearance",),
    }
)
TRAINED, UNSEEN = ("first", "second", "third"), ("unseen",)  # grammars of the two "models"
MODELS = MappingProxyType({"rules": TRAINED, "other-rules": UNSEEN})
_CAPTION = re.compile(
    r"A fetal ultrasound image of the (?P<plane>.+?) plane(?: at (?P<age>\d+ weeks?.*?) of "
    r"gestation)?(?:, showing the (?P<structures>.+?))?(?:; study finding: (?P<findings>.+))?\."
)
_REGION = re.compile(
    r"The (?P<structure>.+) in a fetal ultrasound image of the (?P<plane>.+?) plane"
    r"(?: at (?P<age>.+) of gestation)?\."
)


def draw_lesion(scene: Scene, kind: str, rng: np.random.Generator) -> None:
    """Draw a lesion of `kind` into the fetus, about a tenth of the frame wide."""
    if kind == NORMAL:
        return
    x, y = rng.uniform(-0.4, 0.4, 2)
    radius, turn = rng.uniform(0.28, 0.36), rng.uniform(0, 180)
    wide = oval((x, y), (1.35 * radius, 0.75 * radius), turn)
    round_ = oval((x, y), (radius, radius))
    if kind == "simple cyst":
        fill(scene, round_, FLUID, loss=-0.08)
    elif kind == "septated cyst":
        fill(scene, wide, FLUID)
        for share in (-0.45, 0.1, 0.6):
            stroke(scene, _across((x, y), radius, turn, share), 0.05, -8)
    elif kind == "solid mass":
        fill(scene, round_, -12.0)
    elif kind == "calcified mass":
        fill(scene, blob(scene, (x, y), (radius, 0.6 * radius)), BONE, loss=0.5)
    elif kind == "nodule":
        fill(scene, wide, BRAIN - 8)
    else:
        fill(scene, round_, FLUID)
        fill(scene, oval((x, y), (0.5 * radius, 0.5 * radius)), -10.0)


def _across(center: tuple[float, float], radius: float, turn: float, share: float) -> Any:
    """A line across an oval, at a share of its longer half axis."""
    angle = np.deg2rad(turn)
    along, over = (np.array([np.cos(a), np.sin(a)]) for a in (angle, angle + np.pi / 2))
    middle = np.array(center) + share * 1.35 * radius * along
    return np.stack([middle - 0.6 * radius * over, middle + 0.6 * radius * over])


def open_study(out: Path, patients: int) -> Workspace:
    """The study in `out` with lesions, captions, and rewrites by both models; made once.

    The frames are written as `sono qc` would store them, without banners and without its checks.
    """
    root = out / "study"
    if (out / "made").exists():
        return Workspace.find(root)
    for folder in (root, root.with_name("study.vault")):
        shutil.rmtree(folder, ignore_errors=True)
    study = Workspace.create(root)
    _write_frames(study, patients)
    build_captions(study)
    with paraphraser() as url:
        for model in MODELS:
            command = ("captions", "rewrite", "--url", url, "--model", model, "--yes", "--quiet")
            subprocess.run([sys.executable, "-m", "sono", *command, "-w", root], check=True)
    (out / "made").touch()
    return study


def _write_frames(study: Workspace, patients: int) -> None:
    """Frames of half of the `patients` from each center, their masks, and a vault without names."""
    rng = np.random.default_rng(2026)
    planes = deal_planes(FRAMES * patients, rng)
    images: list[dict[str, Any]] = []
    masks = []
    for number, plane in enumerate(planes):
        place = number // FRAMES
        patient = make_patient(place, CENTERS[place % 2], 0)
        age = patient.exams[0 if plane in FIRST_TRIMESTER else 1].ga_days
        kind = str(rng.choice(list(KINDS)))
        gray, shown = _frame(patient.center, plane, age, kind, rng)
        image_id = image_id_of(gray)
        file = frame_file(image_id, gray)
        write_bytes(study.root / file, encode_png(gray))
        images.append({
            "image_id": image_id, "source_id": f"{number:016x}", "frame": 0, "status": "accepted",
            "patient_id": f"p{place}", "center": patient.center, "plane": plane, "ga_days": age,
            "findings": list(KINDS[kind]), "file": file, "height": len(gray),
            "width": len(gray[0]),
        })  # fmt: skip
        masks += [
            mask_row(images[-1], mask, name, "import", state="accepted")
            for name, mask in shown.items()
        ]
    source = {"path": b"/x/1", "root": b"/x", "settings_hash": "", "private": [], "persons": []}
    sources = from_rows(SOURCES, [row | source for row in images])
    study.write(IMAGES, from_rows(IMAGES, images))
    study.write(MASKS, mask_table(masks))
    write_table(study.sources_path, sources, SOURCES, mode=0o600)


def _frame(
    center: str, plane: str, age: int, kind: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], dict[str, Mask]]:
    """A frame with a lesion and the masks of its structures, cropped to the sector."""
    probe = PROBES[center]
    scene = draw_plane(plane, probe, age, rng).scene
    draw_lesion(scene, kind, rng)
    border = np.array(probe.polygon())
    (left, top), (right, bottom) = (
        np.clip(edge, 0, (probe.width, probe.height)).astype(int)
        for edge in (border.min(axis=0), np.ceil(border.max(axis=0)))
    )
    inside = slice(top, bottom), slice(left, right)
    shown = visible_masks(scene, plane, probe)
    gray = render(scene, probe, LOOKS[center], rng)[inside]
    return gray, {name: mask[inside] for name, mask in shown.items() if mask[inside].any()}


def paraphrase(text: str, model: str) -> str:
    """A faithful rewrite of a caption of the set `standard`; equal texts give equal rewrites."""
    seed = int.from_bytes(blake2b(f"{model} {text}".encode(), digest_size=4).digest())
    grammars = MODELS[model]
    return rewrite(_stated(text), GRAMMARS[grammars[seed % len(grammars)]], seed)


def _stated(text: str) -> Facts:
    match = _REGION.fullmatch(text) or _CAPTION.fullmatch(text)
    if match is None:
        raise ValueError(f"no caption of the set standard: {text}")
    said = match.groupdict()
    plane = next(one.id for one in PLANES if one.name == said["plane"])
    weeks, days = (*map(int, re.findall(r"\d+", said["age"] or "")), 0, 0)[:2]
    return Facts(
        plane,
        ga_days=DAYS_A_WEEK * weeks + days if said["age"] else None,
        structures=_words(said.get("structures")),
        structure=said.get("structure"),
        findings=_words(said.get("findings")),
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(re.split(r", | and ", text)) if text else ()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = paraphrase(body["messages"][1]["content"], body["model"])
        answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def paraphraser() -> Iterator[str]:
    """The URL of a running server on this computer."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
