"use strict";
// A click on a heading sorts the rows of its table by this column, a second click reverses them.
function sortValue(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = Number.parseFloat(text.replaceAll(",", "").replace("<", ""));
  return Number.isNaN(number) ? text : number;
}
function sortTable(heading) {
  const body = heading.closest("table").tBodies[0];
  const down = heading.ariaSort === "ascending";
  const rows = [...body.rows].filter((row) => !row.classList.contains("total"));
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.ariaSort = down ? "descending" : "ascending";
  const compare = (one, other) => {
    const [first, second] = [one, other].map((row) => sortValue(row, heading.cellIndex));
    if (first === "" || second === "") return (first === "") - (second === "");
    const order = typeof first === "number" && typeof second === "number" ? first - second
      : String(first).localeCompare(String(second));
    return down ? -order : order;
  };
  for (const row of rows.sort(compare)) body.insertBefore(row, body.querySelector("tr.total"));
}
for (const heading of document.querySelectorAll("thead th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sortTable(heading));
  heading.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    sortTable(heading);
  });
}
