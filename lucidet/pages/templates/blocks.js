/** Tables, findings, and any list of blocks. */

/** @param follow called with the group of a row that follows a ground-truth box, where the table has such rows */
function drawTable(block, follow) {
  const body = make("tbody");
  block.rows.forEach((cells, i) => {
    const row = make("tr", {}, ...cells.map((cell) => make("td", {}, String(cell))));
    if (block.groups) {
      row.classList.add("pick");
      row.dataset.group = block.groups[i];
      choosable(row, () => {
        const on = !row.classList.contains("picked");
        if (block.follow && follow) { follow(on ? block.groups[i] : null); return; }
        for (const other of document.querySelectorAll("tr.picked")) other.classList.remove("picked");
        row.classList.toggle("picked", on);
        single(on ? block.groups[i] : null);
      });
    }
    body.append(row);
  });
  const head = make("tr", {}, ...block.head.map((name) => make("th", { scope: "col" }, name)));
  const parts = [make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), body))];
  if (block.filter) {
    const search = make("input", { type: "search", placeholder: "filter", "aria-label": "filter rows" });
    search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    parts.unshift(search);
  }
  if (block.folded) return make("details", { class: "panel" }, make("summary", {}, block.caption), ...parts);
  if (block.caption) parts.unshift(make("h3", {}, block.caption));
  return make("section", { class: "panel" }, ...parts);
}

/** Findings of one kind together: {check, messages: [{stage, message, step}], meaning, remedy}. */
function drawFinding(group, links) {
  const several = group.messages.length > 1;
  const name = make("strong", {}, group.check + (several ? ` × ${group.messages.length}` : ""));
  const line = (found, tag) => {
    const node = make(tag, {}, tag === "p" ? name : null, tag === "p" ? ` at ${found.stage}: ` : "", found.message);
    if (links) node.append(" ", make("a", { href: `#step-${found.step}` }, "show"));
    return node;
  };
  const parts = several ? [make("p", {}, name, ` at ${[...new Set(group.messages.map((m) => m.stage))].join(", ")}`),
    make("ul", {}, ...group.messages.map((found) => line(found, "li")))] : [line(group.messages[0], "p")];
  return make("div", { class: "finding" }, ...parts, make("p", {}, group.meaning + " ", make("em", {}, "Try: "), group.remedy));
}

function drawBlocks(blocks, place, { follow, extra } = {}) {
  let charts = null;
  for (const block of blocks) {
    if (block.type === "chart") {
      if (!charts) place.append(charts = make("div", { class: "charts" }));
      const chart = drawChart(block);
      charts.append(chart);
      chart.redraw();
      continue;
    }
    charts = null;
    if (block.type === "figure") place.append(drawFigure(block, extra ? extra(block) : []));
    else if (block.type === "table") place.append(drawTable(block, follow));
    else place.append(make("p", { class: "sentence" }, block.text));
  }
}
