from pathlib import Path

from sono.curation.core.reasons import REASONS, SPACING_REASONS, verdict_of

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reasons.md"


def test_the_page_of_reasons_tells_every_code_as_it_is() -> None:
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    expected = {
        f"| `{code}` | {reason.status} | {reason.meaning} |" for code, reason in REASONS.items()
    }
    assert set(rows) == expected and len(rows) == len(expected)


def test_the_page_of_geometry_lists_every_reason_for_a_missing_spacing() -> None:
    page = PAGE.with_name("geometry.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{code}` | {meaning} |" for code, meaning in SPACING_REASONS.items()]


def test_the_verdict_names_the_first_code_of_the_gravest_status() -> None:
    codes = ["bit_depth", "dual_view", "m_mode", "bit_depth"]
    found = verdict_of(codes)
    assert found.status == "quarantined" and found.reasons == ["bit_depth", "dual_view", "m_mode"]
    assert found.message == REASONS["dual_view"].meaning
    assert verdict_of(codes, "a row of its own").message == "a row of its own"


def test_the_verdict_on_remarks_alone_has_no_message() -> None:
    assert verdict_of(["bit_depth"]).message is None and verdict_of([], "").message is None
    assert verdict_of(["dual_view", "released"]).message is None
