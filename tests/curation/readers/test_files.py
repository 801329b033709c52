"""List a folder and read everything in it.

The tests use the corpus of bad files, and special files of the file system.
"""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from memory import run_measured
from waiting import LIMIT

from sono.curation.core.errors import SonoError
from sono.curation.core.reasons import REASONS
from sono.curation.readers.files import Limits, ReadResult, list_sources, read_source

# fmt: off
CODES = {  # file name -> codes of the file; "" where nothing is to be said
    "zero_byte.png": "empty_file", "trunc_half.png": "truncated", "trunc_half.jpg": "truncated",
    "trunc_last2.jpg": "truncated", "text_as.jpg": "not_an_image", "html_as.png": "not_an_image",
    "bomb_12000.png": "too_large", "bomb_20000.png": "too_large", "header_1e5x1e5.png": "too_large",
    "ztxt_bomb.png": "too_small", "crc_idat.png": "corrupt", "flip_idat.png": "corrupt",
    "early_eoi.jpg": "truncated", "jpeg_named.png": "wrong_extension",
    "png_named.jpg": "wrong_extension", "trailing_garbage.jpg": "trailing_data",
    "gray16.png": "bit_depth", "gray16_full.png": "bit_depth", "rgba.png": "", "palette.png": "",
    "bilevel.png": "", "la.png": "", "cmyk.jpg": "", "exif_orient6_phi.jpg": "rotated_by_exif",
    "multi.tif": "", "anim.gif": "first_frame_only", "float_nan.tif": "unsupported",
    "one_px.png": "too_small", "thin_1x4000.png": "too_small", "black.png": "", "white.png": "",
    "._apple_double.jpg": "system_file", "Thumbs.db": "system_file", ".DS_Store": "system_file",
    '=HYPERLINK("x").png': "", 'comma, "quote"\nnewline.png': "", "-rf.png": "",
    "caf\u00e9.png": "", "cafe\u0301.png": "", "bad_\udcff\udcfe.png": "", "n" * 250 + ".png": "",
    "loop": "not_a_file", "dangling.png": "broken_link", "fifo.png": "not_a_file",
    "dup_reenc.png": "", "dup_text.png": "", "dup_hflip.png": "", "dup_resize.png": "",
    "diff_speckle.png": "", "00_good.png": "", "00_good.jpg": "", "00_good.dcm": "",
    "00_good_noext": "", "00_mono1.dcm": "", "00_rgb.dcm": "", "00_rgb_planar1.dcm": "",
    "00_ybr_full.dcm": "", "00_ybr422_raw.dcm": "", "00_palette.dcm": "",
    "00_jpeg_ybr422_2f.dcm": "", "00_cine8.dcm": "", "00_deflated.dcm": "",
    "ybr422_but_full_len.dcm": "pixel_length", "palette_no_lut.dcm": "no_palette",
    "jpeg_says_rgb.dcm": "", "jpeg_5frames_has2.dcm": "frames_mismatch",
    "jpeg_frame2_trunc.dcm": "", "mpeg4.dcm": "unsupported_syntax",
    "unknown_ts.dcm": "unsupported_syntax", "frames_0.dcm": "frames_mismatch",
    "frames_8_data_3.dcm": "frames_mismatch", "frames_claims_60000.dcm": "frames_mismatch",
    "frames_8_undeclared.dcm": "frames_mismatch", "trunc_pixels.dcm": "truncated",
    "trunc_header.dcm": "truncated", "trunc_meta.dcm": "truncated", "zero.dcm": "empty_file",
    "preamble_only.dcm": "truncated", "junk.dcm": "not_an_image", "png_as.dcm": "wrong_extension",
    "no_preamble.dcm": "no_preamble", "no_meta_implicit.dcm": "no_preamble",
    "no_pixeldata.dcm": "no_pixels", "no_rows.dcm": "missing_tag",
    "no_bitsalloc.dcm": "missing_tag", "no_pi.dcm": "missing_tag", "no_patientid.dcm": "",
    "no_regions.dcm": "", "rows_0.dcm": "bad_value", "rows_65535.dcm": "too_large",
    "rows_as_DS.dcm": "bad_value", "extra_bytes.dcm": "pixel_length", "regions_empty.dcm": "",
    "region_oob.dcm": "", "region_inverted.dcm": "", "region_doppler_units.dcm": "",
    "region_neg_zero_delta.dcm": "", "burned_says_no.dcm": "", "phi_everywhere.dcm": "",
    "bad_vr_values.dcm": "", "bad_charset.dcm": "", "delta_unparsable.dcm": "",
    "deep_nest100.dcm": "too_nested", "deep_nest400.dcm": "too_nested",
    "deep_nest5000.dcm": "too_nested", "deflate_bomb_1GiB.dcm": "inflate_limit",
}
FRAMES = {
    "multi.tif": 2,
    "00_jpeg_ybr422_2f.dcm": 2, "jpeg_says_rgb.dcm": 2, "00_cine8.dcm": 8,
    "jpeg_5frames_has2.dcm": 2, "jpeg_frame2_trunc.dcm": 2, "frames_8_data_3.dcm": 3,
    "frames_8_undeclared.dcm": 8, "frames_0.dcm": 1, "frames_claims_60000.dcm": 1,
}
SPACING_REASONS = {
    "no_regions.dcm": "no_regions", "regions_empty.dcm": "regions_empty",
    "region_oob.dcm": "region_out_of_bounds", "region_inverted.dcm": "region_inverted",
    "region_doppler_units.dcm": "region_not_tissue",
    "region_neg_zero_delta.dcm": "region_zero_delta", "00_good.png": "not_dicom",
}
# fmt: on
NAMES_WITH_PLUGIN = {"jpeg_lossless_noplugin.dcm"}  # the outcome depends on python-gdcm
SHAPE = (480, 640)


@pytest.fixture(scope="session")
def sources(bad_files: Path) -> dict[str, ReadResult]:
    return {Path(os.fsdecode(path)).name: read_source(path) for path in list_sources(bad_files)}


def test_every_bad_file_is_listed_once_and_the_table_names_them_all(
    sources: dict[str, ReadResult],
) -> None:
    assert set(sources) == set(CODES) | NAMES_WITH_PLUGIN


@pytest.mark.parametrize("name", sorted(CODES), ids=lambda name: ascii(name)[:40])
def test_a_bad_file_gives_its_code(sources: dict[str, ReadResult], name: str) -> None:
    source = sources[name]
    assert source.codes == ((CODES[name],) if CODES[name] else ())
    readable = all(REASONS[code].status == "accepted" for code in source.codes)
    assert len(source.frames) == (FRAMES.get(name, 1) if readable else 0)
    assert bool(source.message) == bool(source.codes)


def test_good_files_all_decode_to_the_same_fan(sources: dict[str, ReadResult]) -> None:
    truth = sources["00_good.png"].frames[0].gray.astype(int)
    # the palette is a color test (blue runs backwards); two hundred by twenty pixels of the color
    # files are red
    same = np.ones(SHAPE, bool)
    same[96:124, 96:204] = False
    for name, source in sources.items():
        if name.startswith("00_") and name != "00_palette.dcm":
            for frame in source.frames:
                assert np.abs(frame.gray.astype(int) - truth)[same].mean() < 1.5, name


def test_a_palette_is_applied_not_shown_as_indices(sources: dict[str, ReadResult]) -> None:
    frame = sources["00_palette.dcm"].frames[0]
    index = sources["00_good.png"].frames[0].gray
    assert frame.rgb is not None
    np.testing.assert_array_equal(frame.rgb, np.dstack([index, index, 255 - index]))


def test_color_is_kept_only_where_there_is_some(sources: dict[str, ReadResult]) -> None:
    for name in (
        "00_rgb.dcm",
        "00_rgb_planar1.dcm",
        "00_ybr_full.dcm",
        "00_ybr422_raw.dcm",
        "jpeg_says_rgb.dcm",
    ):
        rgb = sources[name].frames[0].rgb
        assert rgb is not None
        red, green, blue = rgb[104:116, 110:190].reshape(-1, 3).mean(axis=0)
        assert red > 230 and green < 25 and blue < 25, name
    assert sources["00_good.jpg"].frames[0].rgb is None
    assert sources["cmyk.jpg"].frames[0].rgb is None


def test_a_broken_frame_costs_only_itself(sources: dict[str, ReadResult]) -> None:
    good, broken = sources["jpeg_frame2_trunc.dcm"].frames
    assert (good.codes, broken.codes) == ((), ("frame_corrupt",))
    assert good.gray.mean() > 20 and not broken.gray.any() and broken.gray.shape == SHAPE


@pytest.mark.parametrize("name", sorted(SPACING_REASONS))
def test_spacing_is_null_with_its_reason(sources: dict[str, ReadResult], name: str) -> None:
    frame = sources[name].frames[0]
    assert (frame.row_spacing_mm, frame.col_spacing_mm) == (None, None)
    assert frame.spacing_reason == SPACING_REASONS[name]


def test_spacing_of_a_usable_region_is_ten_times_its_delta(sources: dict[str, ReadResult]) -> None:
    frame = sources["00_good.dcm"].frames[0]
    assert (frame.row_spacing_mm, frame.col_spacing_mm, frame.spacing_reason) == (0.25, 0.25, None)


def test_private_strings_are_found_wherever_they_hide(sources: dict[str, ReadResult]) -> None:
    private = sources["phi_everywhere.dcm"].header.private
    for text in (
        "DOE^JANE",
        "MRN12345",
        "19900312",
        "20240101",
        "call Jane Doe 555-0100",
        "JANE DOE",
    ):
        assert text in private
    assert "DOE^JANE 1990" in sources["exif_orient6_phi.jpg"].header.private
    assert any("DOE^JANE" in text for text in sources["trailing_garbage.jpg"].header.private)


def test_no_message_holds_a_private_value_or_a_path(
    sources: dict[str, ReadResult], bad_files: Path
) -> None:
    talk = " ".join(source.message for source in sources.values())
    for text in ("DOE", "JANE", "MRN12345", "19900312", str(bad_files), "PatientName"):
        assert text not in talk


def test_header_ids_are_raw_and_the_machine_is_clean(sources: dict[str, ReadResult]) -> None:
    header = sources["00_good.dcm"].header
    assert (header.patient, header.machine) == ("MRN12345", "GE Healthcare")
    assert header.study is not None and header.study.startswith("1.2.826.")
    assert sources["no_patientid.dcm"].header.patient is None


def test_the_corpus_is_read_in_bounded_memory(bad_files: Path) -> None:
    lines, grown, err = run_measured(
        "from pathlib import Path; from sono.curation.readers.files import *",
        "for path in list_sources(Path(sys.argv[1])): read_source(path)",
        str(bad_files),
    )
    assert (lines, err) == ([], "")
    assert grown < 200 * 1024  # KiB; the bombs among them unfold to a gigabyte


def test_reading_leaves_the_originals_untouched(
    bad_files: Path, sources: dict[str, ReadResult]
) -> None:
    path = bad_files / "dcm" / "00_good.dcm"
    before = path.stat()
    assert read_source(os.fsencode(path)).file_sha256 == sources["00_good.dcm"].file_sha256
    after = path.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)


def _png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        cv2.imencode(".png", np.tile(np.arange(80, dtype=np.uint8), (70, 1)))[1].tobytes()
    )
    return path


def test_listing_is_sorted_bytewise_and_descends_into_real_folders_only(tmp_path: Path) -> None:
    for name in ("b/2.png", "b.png", "a/x/1.png"):
        _png(tmp_path / name)
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    found = [os.fsdecode(path)[len(str(tmp_path)) + 1 :] for path in list_sources(tmp_path)]
    assert found == ["a/x/1.png", "b.png", "b/2.png", "b/up"]


def test_a_single_file_may_be_the_root(tmp_path: Path) -> None:
    path = _png(tmp_path / "one.png")
    assert list_sources(path) == [os.fsencode(path)]


def test_a_missing_and_an_empty_folder_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(SonoError, match="does not exist; give a folder"):
        list_sources(tmp_path / "nowhere")
    (tmp_path / "inner").mkdir()
    with pytest.raises(SonoError, match="contains no files"):
        list_sources(tmp_path)


def test_a_link_to_a_file_is_read_and_a_loop_is_not(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(_png(tmp_path / "one.png"))
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert read_source(os.fsencode(tmp_path / "link.png")).frames[0].gray.shape == (70, 80)
    assert read_source(os.fsencode(tmp_path / "loop.png")).codes == ("broken_link",)


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _png(tmp_path / "one.png")
    real, calls = os.fstat, []

    def grow(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        if len(calls) == 2:
            with path.open("ab") as stream:
                stream.write(b"more")
        return real(descriptor)

    monkeypatch.setattr("sono.curation.readers.files.os.fstat", grow)
    assert read_source(os.fsencode(path)).codes == ("changed_while_read",)


def test_a_file_that_vanished_is_unreadable_and_one_too_big_is_not_opened(tmp_path: Path) -> None:
    assert read_source(os.fsencode(tmp_path / "gone.png")).codes == ("unreadable",)
    path = _png(tmp_path / "one.png")
    assert read_source(os.fsencode(path), Limits(max_file_bytes=10)).codes == ("too_large",)


def test_a_device_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    for path, said in (
        ("/dev/zero", "a pipe, socket or device"),
        ("link", "does not exist"),
        ("loop", "does not exist"),
    ):
        with pytest.raises(SonoError, match=said):
            list_sources(tmp_path / path)


def test_a_device_is_not_opened() -> None:
    assert read_source(b"/dev/zero").codes == ("not_a_file",)


def test_the_readers_do_not_import_pydicom_for_pictures() -> None:
    code = (
        "import sys; import sono.curation.readers.files; print('pydicom' in sys.modules, "
        "'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout.split() == ["False", "False"]
