const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLORS = data.colors.layers;
const VERDICTS = data.colors.verdicts;
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node && typeof value !== "string") node[key] = value; else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function button(text, title, action) {
  const node = make("button", { type: "button", title, "aria-label": title }, text);
  node.addEventListener("click", action);
  return node;
}

/** At most four digits, as Python's %.4g. */
function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function tip(event, text) {
  const box = $("tip");
  box.textContent = text;
  box.hidden = false;
  const x = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8);
  const below = event.clientY + 18;
  const y = below + box.offsetHeight > innerHeight ? event.clientY - box.offsetHeight - 12 : below;
  box.style.left = Math.max(4, x) + "px";
  box.style.top = Math.max(4, y) + "px";
}
const noTip = () => { $("tip").hidden = true; };

/** A row or a link that a click and the Enter key choose. */
function choosable(node, action) {
  node.tabIndex = 0;
  node.addEventListener("click", action);
  node.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); action(event); } });
  return node;
}

/** Light or dark: as the system says, until the button chooses. */
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
let themeChosen = false;
function setTheme(name) { document.documentElement.dataset.theme = name; }
function flipTheme() {
  themeChosen = true;
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
}
setTheme(darkSystem.matches ? "dark" : "light");
darkSystem.addEventListener("change", () => { if (!themeChosen) setTheme(darkSystem.matches ? "dark" : "light"); });
if ($("theme")) $("theme").addEventListener("click", flipTheme);
if ($("title")) $("title").textContent = data.title;
if ($("subtitle")) { $("subtitle").textContent = data.subtitle; $("subtitle").title = data.subtitle; }

/** The address says what is shown, so that it can be sent; a page inside a notebook has none. */
const inNotebook = location.protocol === "about:";
function setHash(hash) {
  if (!inNotebook && location.hash !== hash) history.replaceState(null, "", hash);
}

/** Call `handler` with the address now, and whenever a link within the page is followed. */
function onHash(handler) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!inNotebook || !link) return;
    event.preventDefault();  // it would lead to the notebook's own address
    handler(link.getAttribute("href"));
  });
  addEventListener("hashchange", () => handler(location.hash));
  handler(inNotebook ? "" : location.hash);
}

/** Keys of a page: {key: action}; not while a field is typed into. */
function onKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input:not([type=checkbox])") || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = actions[event.key];
    if (action) { action(); event.preventDefault(); }
  });
}
