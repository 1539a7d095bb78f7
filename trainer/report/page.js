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
      const order = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => order * (key(a) === undefined
        ? b.cells[column].textContent.localeCompare(a.cells[column].textContent)
        : Number(key(a)) - Number(key(b))));
      table.tBodies[0].append(...rows);
    });
  });
}
