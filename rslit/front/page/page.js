"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const narrow = window.matchMedia("(max-width: 600px)").matches;
for (const [name, figure] of Object.entries(figures)) {
  const layout = figure.layout;
  if (narrow && layout.polar) layout.height = 400;
  Plotly.newPlot("figure-" + name, figure.data, layout, {displayModeBar: false, responsive: true, scrollZoom: false});
}

// A select puts another reward on an axis: every trace has its values and bars for each.
for (const select of document.querySelectorAll("select[data-figure]")) {
  select.addEventListener("change", () => {
    const name = select.dataset.figure, side = select.dataset.axis;
    const axis = figures[name].axes[select.value];
    const place = document.getElementById("figure-" + name);
    axis.values.forEach((values, k) => {
      const change = {[side]: [values]};
      if (axis.bars[k]) change["error_" + side] = [{...place.data[k]["error_" + side], ...axis.bars[k]}];
      Plotly.restyle(place, change, [k]);
    });
    Plotly.relayout(place, {[side + "axis.title.text"]: axis.name, [side + "axis.range"]: axis.range});
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value;
    const order = (a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const both = Number(x) - Number(y);
      return (down ? -1 : 1) * (Number.isNaN(both) ? x.localeCompare(y) : both);
    };
    const rows = [...table.tBodies[0].rows].sort(order);
    table.tBodies[0].append(...rows);
  }));
}
