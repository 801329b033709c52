"""Tables of the reports are sorted in a browser, by mouse and keyboard, and by our script alone."""

from pathlib import Path
from typing import TYPE_CHECKING

from review_pages import chromium, needs_chromium

from sono.evaluation.text_tables import TextTable, html_text

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROWS = [("b", "9.5 [1, 20]"), ("a", "10.0 [2, 20]"), ("<script>document.title = 1</script>", "")]


def first_cells(page: "Page") -> list[str]:
    return page.locator("tbody tr td:first-child").all_inner_texts()


@needs_chromium
def test_a_heading_sorts_by_number_or_word_and_no_other_script_runs(tmp_path: Path) -> None:
    table = TextTable("Runs", "Runs", ("run", "score"), ROWS, "x", "")
    (tmp_path / "page.html").write_text(html_text(table), encoding="utf-8")
    with chromium() as browser:
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        check_sorting(page)


def check_sorting(page: "Page") -> None:
    odd = ROWS[2][0]
    assert first_cells(page) == ["b", "a", odd] and page.title() == "Runs"
    score = page.locator("thead th").nth(1)
    score.click()
    assert first_cells(page) == ["b", "a", odd]  # 9.5 before 10, the empty one last
    assert score.get_attribute("aria-sort") == "ascending"
    score.click()
    assert first_cells(page) == ["a", "b", odd]
    page.locator("thead th").first.focus()
    page.keyboard.press("Enter")
    assert first_cells(page) == [odd, "a", "b"]
    assert score.get_attribute("aria-sort") is None
    page.evaluate(
        "const made = document.createElement('script'); made.textContent = 'document.title = 2';"
        "document.body.append(made)"
    )
    assert page.title() == "Runs"
