"use strict";
// Decisions are made here and saved as the table; without this script the table is edited in an editor.
const table = JSON.parse(document.getElementById("table").textContent);
const rows = new Map(table.rows.map((row) => [row.image_path, row]));
const cards = Map.groupBy(document.querySelectorAll(".card"), (card) => card.dataset.path);
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function show(path) {
  const row = rows.get(path);
  for (const card of cards.get(path)) {
    card.classList.toggle("relabel", row.decision === "relabel");
    card.classList.toggle("drop", row.decision === "drop");
    for (const radio of card.querySelectorAll("input[type=radio]")) radio.checked = radio.value === row.decision;
    card.querySelector(".as input").value = row.suggested_label;
  }
  const changed = table.rows.filter((each) => each.decision !== "keep").length;
  document.getElementById("count").textContent = `${changed} of ${table.rows.length} decided on, the others kept`;
}

for (const part of document.querySelectorAll(".decide")) part.hidden = false;
for (const card of document.querySelectorAll(".card")) {
  const path = card.dataset.path;
  card.addEventListener("change", (event) => {
    const row = rows.get(path);
    if (event.target.type === "radio") row.decision = event.target.value;
    else row.suggested_label = event.target.value.trim();
    show(path);
  });
}
for (const path of cards.keys()) show(path);
document.getElementById("save").addEventListener("click", () => {
  const lines = [table.columns, ...table.rows.map((row) => table.columns.map((column) => row[column]))];
  const text = lines.map((cells) => cells.map(quoted).join(",")).join("\n") + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "decisions.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
