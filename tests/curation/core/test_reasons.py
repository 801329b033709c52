from pathlib import Path

from sono.curation.core.reasons import REASONS, SPACING_REASONS

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
