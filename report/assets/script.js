// What the page can do besides being read: sort and filter tables, filter solutions, choose the colours.
// Everything here is an addition; without it the page says the same.
"use strict";

const THEMES = ["auto", "light", "dark"];

function stored() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // a browser may refuse storage to a page opened from disk
  }
}

function store(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // the choice then lasts as long as the page is open
  }
}

function show(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

let theme = THEMES.includes(stored()) ? stored() : "auto";
show(theme); // before the page is painted

function setUpTheme() {
  const button = document.querySelector(".theme");
  const label = () => { button.textContent = `Colours: ${theme}`; };
  button.hidden = false;
  label();
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    show(theme);
    store(theme);
    label();
  });
}

// tables

const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function keyOf(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent.trim();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compared(a, b, sign) {
  const aMissing = a === null || a === "", bMissing = b === null || b === "";
  if (aMissing || bMissing) return aMissing - bMissing; // last, whichever way
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * words.compare(a, b);
}

function sort(table, head, rows) {
  const order = { none: "ascending", ascending: "descending", descending: "none" };
  const next = order[head.getAttribute("aria-sort") || "none"];
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  const body = table.tBodies[0];
  if (next === "none") return body.append(...rows);
  head.setAttribute("aria-sort", next);
  const sign = next === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [keyOf(row, head.cellIndex), row]);
  keyed.sort((a, b) => compared(a[0], b[0], sign));
  body.append(...keyed.map(([, row]) => row));
}

function setUpSorting(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 2) return;
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, head, rows));
  }
}

function setUpRowFilter(figure) {
  const field = figure.querySelector("[data-filter=rows]");
  if (!field) return;
  const rows = [...figure.querySelector("table").tBodies[0].rows];
  const count = figure.querySelector("output");
  field.closest(".controls").hidden = false;
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = wanted ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
  });
}

// A box that scrolls can be reached by keyboard; one that does not need not be.
function setUpScrolling() {
  const boxes = document.querySelectorAll(".scroll, .card, pre");
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const scrolls = target.scrollWidth > target.clientWidth + 1 || target.scrollHeight > target.clientHeight + 1;
      if (scrolls) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  boxes.forEach((box) => observer.observe(box));
}

// solutions

function setUpChanges(figure) {
  const items = [...figure.querySelectorAll(".change")];
  const controls = figure.querySelector(".controls");
  const fields = [...controls.querySelectorAll("[data-filter]")];
  const texts = new Map();
  const textOf = (item) => {
    if (!texts.has(item)) texts.set(item, item.textContent.toLowerCase());
    return texts.get(item);
  };
  const fits = (item, field) => {
    if (field.value.trim() === "") return true;
    if (field.dataset.filter === "text") return textOf(item).includes(field.value.trim().toLowerCase());
    return item.dataset[field.dataset.filter] === field.value;
  };
  const filter = () => {
    let shown = 0;
    for (const item of items) {
      item.hidden = !fields.every((field) => fits(item, field));
      shown += !item.hidden;
    }
    const all = shown === items.length;
    controls.querySelector("output").textContent = all ? `${shown} solutions` : `${shown} of ${items.length} solutions`;
    figure.querySelector(".empty").hidden = shown > 0;
  };
  controls.hidden = false;
  fields.forEach((field) => field.addEventListener("input", filter));
  for (const button of controls.querySelectorAll("[data-action]")) {
    button.addEventListener("click", () => {
      for (const item of items) if (!item.hidden) item.open = button.dataset.action === "open";
    });
  }
  filter(); // a reloaded page keeps what was typed
}

// contents

function setUpContents() {
  const contents = document.querySelector("nav details");
  const wide = matchMedia("(min-width: 70rem)");
  const fold = () => { contents.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
}

// Paper cannot be unfolded: what explains the page is printed, solutions only where the reader opened them.
function setUpPrinting() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".fold:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
  });
}

addEventListener("DOMContentLoaded", () => {
  setUpTheme();
  document.querySelectorAll("table.data").forEach(setUpSorting);
  document.querySelectorAll("figure.table").forEach(setUpRowFilter);
  document.querySelectorAll("figure.changes").forEach(setUpChanges);
  setUpScrolling();
  setUpContents();
  setUpPrinting();
});
