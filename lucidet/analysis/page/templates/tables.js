/** Sections of a page, and tables whose columns sort. */

const percent = (v) => v === null || v === undefined ? "–" : v.toFixed(1);
const share = (v) => v === null || v === undefined ? "–" : v.toFixed(3);

function section(title, ...parts) {
  const id = plain(title), head = make("h2", { id }, title);
  $("nav").append(make("a", { href: `#${id}` }, title));
  $("content").append(head, ...parts);
}

/** A table whose columns sort: columns are {title, value(row), text(value), cell(row), tone(row), bar}. */
function sortedTable(columns, rows, caption = "") {
  let by = -1, up = true;
  const body = make("tbody");
  const fill = () => {
    const order = rows.map((row, i) => [row, i]);
    if (by >= 0) {
      const value = columns[by].value;
      order.sort(([a], [b]) => {
        const x = value(a), y = value(b);
        if (x === y) return 0;
        if (x === null || x === undefined) return 1;
        if (y === null || y === undefined) return -1;
        return (x < y ? -1 : 1) * (up ? 1 : -1);
      });
    }
    body.replaceChildren(...order.map(([row]) => make("tr", {}, ...columns.map((c) => {
      const value = c.value(row), cell = make("td", { class: (c.text ? "number " : "") + (c.tone ? c.tone(row) : "") });
      if (c.bar && value !== null && value !== undefined) { const bar = make("span", { class: "share-bar" }); bar.style.setProperty("--share", `${value}%`); cell.append(bar); }
      cell.append(c.cell ? c.cell(row) : c.text ? c.text(value) : String(value));
      return cell;
    }))));
  };
  const head = columns.map((c, i) => {
    const cell = make("th", { scope: "col", class: "sorts" + (c.text ? " number" : ""), title: c.hint || "sort" }, c.title);
    choosable(cell, () => {
      up = by === i ? !up : !c.text;
      by = i;
      head.forEach((other) => other.removeAttribute("aria-sort"));
      cell.setAttribute("aria-sort", up ? "ascending" : "descending");
      fill();
    });
    return cell;
  });
  fill();
  const table = make("div", { class: "scroll" }, make("table", { class: "numbers" }, make("thead", {}, make("tr", {}, ...head)), body));
  const parts = [table];
  if (rows.length > 15) {
    const search = make("input", { type: "search", placeholder: "filter", "aria-label": "filter rows" });
    search.addEventListener("input", () => { for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(search.value.toLowerCase()); });
    parts.unshift(search);
  }
  return make("section", { class: "panel" }, caption ? make("h3", {}, caption) : null, ...parts);
}

const count = (v) => v.toLocaleString("en");
