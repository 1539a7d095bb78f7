"use strict";
// Heads of sortable tables become buttons; without this script the tables are plain ones.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...table.tBodies[0].rows];
      // Numbers begin with the largest, text with A.
      const first = rows.some((row) => key(row) !== undefined) ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
      const order = direction === "ascending" ? 1 : -1;
      rows.sort((a, b) => order * (key(a) === undefined || key(b) === undefined
        ? a.cells[column].textContent.localeCompare(b.cells[column].textContent)
        : Number(key(a)) - Number(key(b))));
      table.tBodies[0].append(...rows);
    });
  });
}
