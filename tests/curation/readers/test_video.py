"""Videos: the frames that a decoder gives, and what damaged and hostile files give."""

import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from memory import run_measured
from video_files import KINDS, fan, moving, video

from sono.curation.core.engine import Engine
from sono.curation.core.reasons import REASONS
from sono.curation.core.workspace import Workspace
from sono.curation.imaging.analysis import AnalysisTask, analyze
from sono.curation.imaging.quality import QualityConfig
from sono.curation.privacy.source_names import SourceStrings
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers.files import ReadResult, peek_source, read_source
from sono.curation.readers.source import Limits
from sono.curation.readers.video import VideoFormat, _frame, _rgb

pytest.importorskip("av", reason="the extra video (av) is not installed")

FRAMES = moving(12)
SECONDS = 20  # for one small file, on a busy machine


@pytest.fixture(scope="module")
def sound() -> dict[str, bytes]:
    return {kind: video(FRAMES, kind) for kind in KINDS}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ReadResult]:
    def read_bytes(content: bytes, limits: Limits = Limits()) -> ReadResult:  # noqa: B008
        path = tmp_path / "clip"
        path.write_bytes(content)
        return read_source(bytes(path), limits)

    return read_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_read_with_its_time(
    kind: str, sound: dict[str, bytes], read: Callable[..., ReadResult]
) -> None:
    source = read(sound[kind])
    assert source.codes == () and len(source.frames) == len(FRAMES)
    for index, (frame, drawn) in enumerate(zip(source.frames, FRAMES, strict=True)):
        assert frame.index == index and frame.rgb is None
        assert np.abs(frame.gray.astype(int) - drawn).mean() < 4
        assert frame.seconds == pytest.approx(index / 20, abs=0.002)
        assert (frame.row_spacing_mm, frame.spacing_reason) == (None, "video")


def test_frames_are_the_same_in_any_order_of_access(
    sound: dict[str, bytes], read: Callable[..., ReadResult]
) -> None:
    frames = read(sound["mp4"]).frames
    in_order = [frame.gray for frame in frames]
    for index in (7, 3, 3, 11, 0):
        assert frames[index].index == index
        np.testing.assert_array_equal(frames[index].gray, in_order[index])
    assert [frame.index for frame in frames[9:]] == [9, 10, 11]
    with pytest.raises(IndexError):
        frames[12]


def test_colors_of_all_frames_are_converted_by_one_converter(
    sound: dict[str, bytes], read: Callable[..., ReadResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one for each frame starts and ends threads, which took 5 ms a frame."""
    from av.video import reformatter

    made: list[object] = []
    real = reformatter.VideoReformatter
    monkeypatch.setattr(reformatter, "VideoReformatter", lambda: made.append(1) or real())
    assert len(list(read(sound["mp4"]).frames)) == len(FRAMES) and len(made) == 1


def test_the_time_of_a_variable_rate_is_that_of_the_file(read: Callable[..., ReadResult]) -> None:
    times = [0, 1, 2, 8, 9, 30]
    source = read(video(FRAMES[:6], "mkv", times=times))
    assert [frame.seconds for frame in source.frames] == pytest.approx(
        [one / 20 for one in times], abs=0.002
    )


def test_color_is_kept_where_there_is_some(read: Callable[..., ReadResult]) -> None:
    rgb = np.repeat(FRAMES[0][..., None], 3, axis=2)
    rgb[80:120, 120:200] = (220, 30, 20)
    (frame,) = read(video([rgb], "mp4")).frames
    assert frame.rgb is not None
    assert np.abs(frame.rgb[90:110, 130:190].reshape(-1, 3).mean(axis=0) - (220, 30, 20)).max() < 25


def test_pixels_that_are_not_square_are_resampled(read: Callable[..., ReadResult]) -> None:
    source = read(video(FRAMES[:2], "mp4", sample_aspect_ratio=2))
    assert source.codes == ("resampled",)
    assert source.frames[0].gray.shape == (240, 640)
    assert source.frames[0].file_size == (240, 320)


@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)]
)
def test_a_turned_video_is_shown_upright(
    matrix: tuple[int, int, int, int],
    turns: int,
    sound: dict[str, bytes],
    read: Callable[..., ReadResult],
) -> None:
    content = bytearray(sound["mp4"])
    place = content.find(b"tkhd") + 4 + 40  # of the matrix of version 0
    a, b, c, d = (one << 16 for one in matrix)
    struct.pack_into(">9i", content, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    source = read(bytes(content))
    assert source.codes == ("rotated_by_exif",)
    shown = np.rot90(FRAMES[0], turns)  # to the left
    assert source.frames[0].gray.shape == shown.shape
    assert np.abs(source.frames[0].gray.astype(int) - shown).mean() < 4


def test_after_damage_nothing_is_read_up_to_the_next_key_frame(
    read: Callable[..., ReadResult],
) -> None:
    content = video(moving(30), "mp4", bf="0")
    data = content.find(b"mdat")
    size = int.from_bytes(content[data - 4 : data], "big")
    damaged = bytearray(content)
    middle = data + size // 2
    damaged[middle : middle + 1500] = bytes(1500)
    source = read(bytes(damaged))
    assert "video_damaged" in source.codes
    kept = [frame for frame in source.frames if not frame.codes]
    assert 10 <= len(kept) < 30
    drawn = moving(30)
    for frame in kept:
        at = round((frame.seconds or 0) * 20)
        assert np.abs(frame.gray.astype(int) - drawn[at]).mean() < 4, frame.index
    lost = [frame for frame in source.frames if frame.codes]
    assert all(frame.codes == ("frame_corrupt",) and not frame.gray.any() for frame in lost)


def test_metadata_is_private_and_no_name_of_a_format_is(read: Callable[..., ReadResult]) -> None:
    tags = {"title": "DOE^JANE", "comment": "born 12.03.1990", "artist": "Dr Tanaka"}
    private = read(video(FRAMES[:2], "mp4", tags)).header.private
    assert private == tuple(sorted(tags.values()))


def test_private_texts_may_be_in_latin_1(read: Callable[..., ReadResult]) -> None:
    made = video(FRAMES[:2], "avi", {"title": "Jörg Müller"})
    utf8 = "Jörg Müller".encode()
    latin = made.replace(utf8, "Jörg Müller".encode("latin-1") + bytes(2))
    assert read(made).header.private == read(latin).header.private == ("Jörg Müller",)


def test_a_video_is_matched_without_decoding_it(sound: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(sound["mp4"])
    found = peek_source(bytes(path))
    assert found is not None and found.file_sha256 == read_source(bytes(path)).file_sha256


def test_frames_of_a_video_are_chosen_as_those_of_a_cine(tmp_path: Path) -> None:
    """Two views of eight frames each, which do not move."""
    still = [fan()] * 8 + [fan(seed=5)] * 8
    path = tmp_path / "clip.mp4"
    path.write_bytes(video(still, "mp4"))
    task = AnalysisTask(
        bytes(tmp_path), b"key", tmp_path / "f", tmp_path / "q", QualityConfig.model_validate({})
    )
    rows = analyze(task, bytes(path))
    assert [row["frame"] for row in rows] == list(range(16))
    assert [row["frame"] for row in rows if "cine_repeat" not in row["reasons"]] == [0, 8]
    assert {row.get("repeats_frame") for row in rows} == {None, 0, 8}


def test_a_frame_without_border_may_show_names(tmp_path: Path) -> None:
    everywhere = np.random.default_rng(0).integers(30, 220, (240, 320), np.uint8)
    path = tmp_path / "clip.avi"
    path.write_bytes(video([everywhere], "avi"))
    task = AnalysisTask(
        bytes(tmp_path), b"key", tmp_path / "f", tmp_path / "q", QualityConfig.model_validate({})
    )
    (row,) = analyze(task, bytes(path))
    assert "border_unknown" in row["reasons"] and row["status"] == "quarantined"


def test_no_metadata_reaches_the_workspace_and_the_gate_searches_for_it(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    tags = {"title": "Quillfeather Agatha", "comment": "MRN-7741902"}
    (raw / "Ostrander_Beatrix.mp4").write_bytes(video(FRAMES, "mp4", tags))
    study = Workspace.create(tmp_path / "study")
    summary = run_qc(study, QcOptions(raw), Engine(jobs=1))
    assert summary.files == 1 and summary.frames == 12
    assert set(tags.values()) <= SourceStrings.of([study.sources()]).raw
    for file in study.root.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for text in (b"Quillfeather", b"7741902", b"Ostrander", b"Lavf"):
                assert text not in content, file


def test_a_video_needs_its_extra(
    sound: dict[str, bytes], read: Callable[..., ReadResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    source = read(sound["avi"])
    assert source.codes == ("needs_extra",) and not source.frames
    assert source.message == "AVI video: pip install 'sono[video]', then run `sono qc` again"


def test_more_frames_than_fit_are_left_out_and_said(
    sound: dict[str, bytes], read: Callable[..., ReadResult]
) -> None:
    source = read(sound["avi"], Limits(max_decoded_bytes=5 * 3 * 240 * 320))
    assert source.codes == ("frames_limit",) and len(source.frames) == 5


def test_pictures_beyond_the_limit_are_not_decoded(
    sound: dict[str, bytes], read: Callable[..., ReadResult]
) -> None:
    assert read(sound["avi"], Limits(max_pixels=10_000)).codes == ("too_large",)


def test_a_picture_whose_colors_cannot_be_converted_is_corrupt() -> None:
    class Odd:
        def reformat(self, picture: object, format: str, threads: int) -> None:
            raise ValueError(f"no conversion to {format}")

    form = VideoFormat("avi", (240, 320), (240, 320), sound=(True,))
    assert _rgb(object(), Odd()) is None
    frame = _frame(0, None, form, None)
    assert frame.codes == ("frame_corrupt",) and not frame.gray.any()


def test_a_file_of_sound_alone_has_no_pictures(read: Callable[..., ReadResult]) -> None:
    import io

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as made:
        stream = made.add_stream("aac", rate=8000)
        stream.layout = "mono"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        made.mux(stream.encode(silence))
        made.mux(stream.encode())
    assert read(file.getvalue()).codes == ("video",)


# Damage: the name of a case, and what it does to a file.
Damage = Callable[[bytearray], bytes]


def cut(share: float) -> Damage:
    return lambda content: bytes(content[: int(len(content) * share)])


def flipped(seed: int, count: int) -> Damage:
    def change(content: bytearray) -> bytes:
        places = np.random.default_rng(seed).integers(12, len(content), count)
        for place in places:
            content[place] ^= 0xFF
        return bytes(content)

    return change


def filled(start: float, count: int, value: int) -> Damage:
    def change(content: bytearray) -> bytes:
        place = int(len(content) * start)
        count_here = min(count, len(content) - place)
        content[place : place + count_here] = bytes([value]) * count_here
        return bytes(content)

    return change


DAMAGES: dict[str, Damage] = {
    **{f"cut {share}": cut(share) for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
    **{f"flip {seed}": flipped(seed, 1 + 4 * seed) for seed in range(14)},
    **{f"zeros {start}": filled(start, 400, 0) for start in (0.02, 0.2, 0.5, 0.8, 0.95)},
    **{f"ones {start}": filled(start, 400, 255) for start in (0.02, 0.2, 0.5, 0.8, 0.95)},
    "head alone": lambda content: bytes(content[:12]),
    "twice": lambda content: bytes(content * 2),
    "garbage after": lambda content: bytes(content + b"DOE^JANE" * 300),
    "random": lambda content: (
        bytes(content[:64]) + np.random.default_rng(0).bytes(len(content) - 64)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_video_gives_frames_or_a_reason(
    kind: str, damage: str, sound: dict[str, bytes], read: Callable[..., ReadResult]
) -> None:
    start = time.monotonic()
    source = read(DAMAGES[damage](bytearray(sound[kind])))
    refused = any(REASONS[code].status != "accepted" for code in source.codes)
    assert refused != bool(len(source.frames))
    assert bool(source.message) == bool(source.codes)
    for index, frame in enumerate(source.frames):
        assert frame.index == index and frame.gray.shape == (240, 320)
    if damage.startswith("cut") and kind != "mkv":  # Matroska declares no number of frames
        assert source.codes
    assert time.monotonic() - start < SECONDS


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


FTYP = box(b"ftyp", b"isom", bytes(4))
HOSTILE = {
    "no index": (FTYP + box(b"mdat", bytes(100)), "truncated"),
    "zero boxes": (FTYP + bytes(4000), "truncated"),
    "short box": (FTYP + struct.pack(">I", 4) + b"moov" + bytes(100), "corrupt"),
    "endless box": (FTYP + b"\0\0\0\1moov" + b"\xff" * 8 + bytes(50), "corrupt"),
    "compressed index": (FTYP + box(b"moov", box(b"cmov", bytes(50))), "unsupported"),
    "deep boxes": (FTYP + b"".join(b"\x00\x10\x00\x00moov" for _ in range(5000)), "corrupt"),
    "many boxes": (FTYP + box(b"moov", box(b"free") * 200_000), "too_large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_is_refused(name: str, read: Callable[..., ReadResult]) -> None:
    content, code = HOSTILE[name]
    assert read(content).codes == (code,)


@pytest.mark.parametrize("place", ["stream", "pictures", "both"])
@pytest.mark.parametrize(
    ("width", "height"), [(0, 0), (1, 1), (-320, -240), (20_000, 20_000), (65_500, 65_500)]
)
def test_false_sizes_of_pictures_cost_no_memory(
    width: int,
    height: int,
    place: str,
    sound: dict[str, bytes],
    read: Callable[..., ReadResult],
) -> None:
    content = bytearray(sound["avi"])
    if place != "pictures":
        struct.pack_into("<ii", content, content.find(b"strf") + 12, width, height)
    if place != "stream":
        start = -1
        while (start := content.find(b"\xff\xc0", start + 1)) > 0:
            struct.pack_into(">HH", content, start + 5, height & 0xFFFF, width & 0xFFFF)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = read(bytes(content))
    if place == "stream":  # the pictures know their size
        assert [frame.gray.shape for frame in source.frames] == [(240, 320)] * 12
    else:
        assert not source.frames and source.codes
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024


@pytest.mark.parametrize("count", [1 << 21, 1 << 24, 1 << 27, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("size", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_index_of_more_samples_than_a_video_has_costs_no_memory(
    count: int, size: int, sound: dict[str, bytes], tmp_path: Path
) -> None:
    content = bytearray(sound["mp4"])
    struct.pack_into(">II", content, content.find(b"stsz") + 8, size, count)
    struct.pack_into(">I", content, content.find(b"stts") + 12, count)
    struct.pack_into(">II", content, content.find(b"stsc") + 12, 1, count & 0x7FFFFFFF)
    path = tmp_path / "bomb.mp4"
    path.write_bytes(content)
    (codes,), grown, err = run_measured(
        "from sono.curation.readers.files import read_source; import av",
        "print(read_source(sys.argv[1].encode()).codes)",
        str(path),
    )
    assert codes in ("('too_large',)", "('corrupt',)") and grown < 100 * 1024
    assert err == ""


def test_a_long_video_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.avi"
    path.write_bytes(video(moving(300, height=480, width=640), "avi"))
    (count,), grown, _ = run_measured(
        "from sono.curation.readers.files import read_source; import av",
        "frames = read_source(sys.argv[1].encode()).frames\n"
        "print(sum(frame.gray.shape[0] > 0 for frame in frames))",
        str(path),
    )
    assert int(count) == 300
    assert grown * 1024 < path.stat().st_size * 3 + 40 * 3 * 480 * 640  # of 300 frames
