"""What `sono qc`, deid and sonocrop keep of the sector and leave of the text of the same screens.

Real tissue is cut to a sector of known shape and set on a screen of 960 x 720 pixels with a banner,
settings and a depth scale; every second screen has a name on the tissue. Each tool gets the screen
in the form that it reads: sono a PNG file or a DICOM object, deid a DICOM object with or without
the region of the sector, sonocrop a clip of it in which the tissue moves. Install deid and
sonocrop into an environment of their own and name its Python.

Example: python benchmarks/cleaning_peers.py ../shared/data --peer-python /tmp/peers/bin/python
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]

SIZE = (720, 960)  # rows, columns
APEX, RADII, HALF_ANGLE = (480, -40), (110, 690), 33  # column and row; pixels; degrees
CLIP_FRAMES = 30  # sonocrop takes pixels with one value in 20 frames or less for moving
ECHO = 24  # tones from which a pixel of the tissue counts
LEGIBLE = 0.5  # share of a line's ink that is left; then it can be read
BANNER = ("LINDQVIST^ASTRID MARIA", "ST. VINCENT 2026-03-02 10:41", "ID 48 207 731   *1991-04-17")
SETTINGS = ("C5-1", "22Hz", "16.0cm", "2D 58%", "Dyn R 60", "TIS 0.4")
CASES = {
    "sono qc, PNG file": "png",
    "sono qc, DICOM object with its region": "region",
    "deid, DICOM object with its region": "region",
    "deid, DICOM object without region": "plain",
    "sonocrop mask": "clip",
    "sonocrop crop": "clip",
}


class Screen(NamedTuple):
    """A screen, which pixels are its sector, and the pixels of each line of text; all [H, W]."""

    gray: Gray
    sector: NDArray[np.bool_]
    lines: dict[str, NDArray[np.bool_]]  # those on the tissue begin with "tissue"


def sector_shape() -> NDArray[np.bool_]:
    """The pixels [H, W] of the convex sector."""
    down, across = np.mgrid[: SIZE[0], : SIZE[1]]
    radius = np.hypot(across - APEX[0], down - APEX[1])
    angle = np.abs(np.degrees(np.arctan2(across - APEX[0], down - APEX[1])))
    return np.asarray((radius >= RADII[0]) & (radius <= RADII[1]) & (angle <= HALF_ANGLE))


def write(canvas: Gray, text: str, place: tuple[int, int], size: int) -> NDArray[np.bool_]:
    """Write on `canvas` [H, W] in place; the pixels of the letters."""
    from PIL import Image, ImageDraw, ImageFont

    layer = Image.new("L", canvas.shape[::-1])
    ImageDraw.Draw(layer).text(place, text, fill=255, font=ImageFont.load_default(size))
    cover = np.asarray(layer)
    np.copyto(canvas, np.maximum(canvas, (cover * 0.9).astype(np.uint8)))
    return np.asarray(cover > 127)


def screen_of(
    tissue: Gray, banner: Sequence[str], name_at: tuple[int, int] | None = None
) -> Screen:
    """The middle of a frame [h, w] as the sector of a screen, with a name on it where wanted."""
    sector, lines = sector_shape(), {}
    tall, wide = tissue.shape
    inner = tissue[tall // 8 : 7 * tall // 8, wide // 8 : 7 * wide // 8]
    gray = cv2.resize(inner, SIZE[::-1], interpolation=cv2.INTER_AREA) * sector
    for place, text in zip(((20, 8), (600, 8), (20, 34)), banner, strict=False):
        lines[f"banner {text}"] = write(gray, text, place, 20)
    for row, text in enumerate(SETTINGS):
        lines[f"setting {text}"] = write(gray, text, (130, 90 + 24 * row), 16)
    for row in range(80, 700, 60):  # the depth scale
        lines[f"scale {row}"] = write(gray, "-", (930, row), 16)
    if name_at:
        lines["tissue LINDQVIST A."] = write(gray, "LINDQVIST A.", name_at, 18)
    return Screen(gray, sector, lines)


def screens(data: Path, count: int) -> list[Screen]:
    """Screens with tissue of the public frames, every second one with a name on the tissue."""
    paths = sorted((data / "barcelona" / "Images").iterdir()) + sorted(
        (data / "nijmegen" / "training_set").glob("*HC.png")
    )
    rng, made = np.random.default_rng(0), []
    for number in range(count):
        content = paths[number * len(paths) // count].read_bytes()
        tissue = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        place = (int(rng.integers(380, 520)), int(rng.integers(250, 450)))
        made.append(screen_of(tissue, BANNER, place if number % 2 else None))
    return made


def clip(screen: Screen, seed: int) -> list[Gray]:
    """Frames in which the tissue moves and its noise changes; the letters stay."""
    rng, frames = np.random.default_rng(seed), []
    letters = np.any(list(screen.lines.values()), axis=0)
    for number in range(CLIP_FRAMES):
        shift = (3 * np.sin(number), 3 * np.cos(number))
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        moved = cv2.warpAffine(screen.gray, matrix, SIZE[::-1]).astype(np.float64)
        noise = cv2.GaussianBlur(rng.normal(0, 1, SIZE), (0, 0), 1.2)
        frame = np.where(screen.sector, np.clip(moved * (1 + 0.4 * noise), 0, 255), 0)
        frames.append(np.where(letters, screen.gray, frame).astype(np.uint8))
    return frames


def write_dicom(gray: Gray, path: Path, form: str) -> None:
    """An ultrasound image with the name in its header, as scanners write it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID = meta.MediaStorageSOPClassUID
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientName, image.PatientID = "LINDQVIST^ASTRID MARIA", "48207731"
    image.Modality, image.Manufacturer = "US", "GE Healthcare"
    image.ManufacturerModelName, image.ImageType = "Voluson E10", ["ORIGINAL", "PRIMARY"]
    image.Rows, image.Columns = gray.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    if form == "region":
        rows, columns = (np.flatnonzero(sector_shape().any(axis=axis)) for axis in (1, 0))
        region = Dataset()
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 2
        region.RegionLocationMinX0, region.RegionLocationMaxX1 = int(columns[0]), int(columns[-1])
        region.RegionLocationMinY0, region.RegionLocationMaxY1 = int(rows[0]), int(rows[-1])
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.022
        image.SequenceOfUltrasoundRegions = [region]
    image.PixelData = gray.tobytes()
    image.save_as(path, enforce_file_format=True)


def write_inputs(made: list[Screen], folder: Path) -> None:
    """Every screen in every form."""
    from sono.curation.core.frame_files import encode_png

    for form in ("png", "region", "plain", "clip"):
        (folder / form).mkdir()
    for number, screen in enumerate(made):
        (folder / "png" / f"{number:03}.png").write_bytes(encode_png(screen.gray))
        for form in ("region", "plain"):
            write_dicom(screen.gray, folder / form / f"{number:03}.dcm", form)
        film = cv2.VideoWriter(
            str(folder / "clip" / f"{number:03}.avi"),
            cv2.VideoWriter.fourcc(*"FFV1"),
            15,
            SIZE[::-1],
            isColor=False,
        )
        for frame in clip(screen, number):
            film.write(frame)
        film.release()


def by_sono(folder: Path) -> tuple[list[Gray | None], float]:
    """The accepted crops in the place where they were, and the CPU seconds."""
    from sono.curation.imaging.analysis import AnalysisTask, analyze
    from sono.curation.imaging.quality import QualityConfig

    cv2.setNumThreads(1)
    results: list[Gray | None] = []
    with tempfile.TemporaryDirectory() as name:
        stored = Path(name)
        task = AnalysisTask(
            os.fsencode(folder), bytes(32), stored / "frames", stored / "held", QualityConfig()
        )
        begin = time.process_time()
        rows = [analyze(task, os.fsencode(path))[0] for path in sorted(folder.iterdir())]
        seconds = time.process_time() - begin
        for row in rows:
            whole: Gray | None = None
            if row["status"] == "accepted":
                content = (stored / row["file"]).read_bytes()
                crop = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
                whole = np.zeros(SIZE, np.uint8)
                whole[row["crop_y0"] : row["crop_y1"], row["crop_x0"] : row["crop_x1"]] = crop
            results.append(whole)
    return results, seconds


def by_deid(folder: Path) -> tuple[list[Gray | None], float]:
    """The pixels cleaned by the recipe for ultrasound; those of the file if none are flagged."""
    import pydicom
    from deid.dicom import DicomCleaner

    cleaner, results, seconds = DicomCleaner(deid="dicom.ultrasound"), [], 0.0
    for path in sorted(folder.iterdir()):
        begin = time.process_time()
        found = cleaner.detect(str(path))
        cleaned = cleaner.clean() if found and found["flagged"] else None
        seconds += time.process_time() - begin
        pixels = pydicom.dcmread(path).pixel_array if cleaned is None else cleaned
        results.append(np.asarray(pixels, np.uint8).reshape(SIZE))
    return results, seconds


def by_sonocrop(folder: Path, how: str) -> tuple[list[Gray | None], float]:
    """The first frame of the result; a crop in the place where it was."""
    from sonocrop import cli

    results: list[Gray | None] = []
    seconds = 0.0
    for path in sorted(folder.iterdir()):
        with tempfile.TemporaryDirectory() as name:
            target = Path(name) / "out.mp4"
            begin = time.process_time()
            (cli.mask if how == "mask" else cli.crop)(str(path), str(target))
            seconds += time.process_time() - begin
            film = cv2.VideoCapture(str(target))
            found, frame = film.read()
        whole = np.zeros(SIZE, np.uint8)
        if found and how == "mask":
            whole = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)
        elif found:
            left, _, top, _ = map(int, cli.edges(str(path)).split(","))
            part = frame[: SIZE[0] - top, : SIZE[1] - left, 0]
            whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        results.append(whole)
    return results, seconds


def run_case(case: str, folder: Path, out: Path) -> None:
    """Run a case in this process and store what it gives."""
    source = folder / CASES[case]
    if case.startswith("sono qc"):
        results, seconds = by_sono(source)
    elif case.startswith("deid"):
        results, seconds = by_deid(source)
    else:
        results, seconds = by_sonocrop(source, case.removeprefix("sonocrop "))
    np.savez_compressed(
        out,
        seconds=seconds,
        **{f"{number:03}": one for number, one in enumerate(results) if one is not None},
    )


def score(made: list[Screen], results: dict[int, Gray], seconds: float) -> str:
    """One row of the table."""
    kept, background, tissue, named, frames = [], 0, 0, 0, len(made)
    for number, screen in enumerate(made):
        on_tissue = [name for name in screen.lines if name.startswith("tissue")]
        named += len(on_tissue)
        if number not in results:
            continue
        cleaned = results[number]
        letters = np.any(list(screen.lines.values()), axis=0)
        echoes = screen.sector & (screen.gray >= ECHO) & ~letters
        kept.append((cleaned[echoes] >= ECHO // 2).mean())
        left = {
            name: (cleaned[ink] >= 0.5 * screen.gray[ink]).mean() > LEGIBLE
            for name, ink in screen.lines.items()
        }
        tissue += sum(left[name] for name in on_tissue)
        background += any(
            one for name, one in left.items() if name.startswith(("banner", "setting"))
        )
    cells = (
        f"{len(results)} of {frames}",
        f"{np.mean(kept):.3f}" if kept else "",
        f"{background} of {len(results)}",
        f"{tissue} of {named}",
        f"{1000 * seconds / frames:.0f}",
    )
    return " | ".join(cells)


def compare(data: Path, count: int, peer_python: str | None) -> None:
    """Make the screens, run the cases, print a table in Markdown."""
    from sono.benchmarks.peers import SkippedError, run_peer

    made = screens(data, count)
    heads = ("tool and input", "given out", "echoes kept", "text on the background legible")
    print("|", " | ".join((*heads, "name on tissue legible", "CPU ms per file")), "|")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(made, folder)
        for case in CASES:
            python = sys.executable if case.startswith("sono qc") else peer_python
            out = folder / "result.npz"
            try:
                run_peer(python, __file__, str(folder), "--case", case, "--out", str(out))
            except SkippedError as error:
                print(f"| {case} | {error} | | | | |")
                continue
            stored = dict(np.load(out))
            seconds = float(stored.pop("seconds"))
            results = {int(key): value for key, value in stored.items()}
            print(f"| {case} | {score(made, results, seconds)} |")


def main() -> None:
    """Compare, or run one case for the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the public data")
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--peer-python", help="a Python that has deid and sonocrop")
    parser.add_argument("--case", choices=CASES, help="run this alone on a folder of inputs")
    parser.add_argument("--out", type=Path, help="where the result of --case is stored")
    options = parser.parse_args()
    if options.case:
        run_case(options.case, options.folder, options.out)
    else:
        compare(options.folder, options.files, options.peer_python)


if __name__ == "__main__":
    main()
