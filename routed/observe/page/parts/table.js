// A table of any length whose DOM holds the rows in sight and a few more. It is as high as all its rows, in the
// page's own scrolling, and keeps its semantics: roles, row numbers, sort buttons.
import { fill, h, oncePerFrame, set, write } from "./dom.js";
import { clip, number } from "./text.js";

const BEYOND = 8; // rows that are ready above and below what is in sight
const HIGHEST = 12_000_000; // pixels; browsers cannot place anything much further down
let tables = 0;

/**
 * A table.
 *   name     its class, by which the style sheet lays out the columns
 *   label    what it is, for a screen reader
 *   columns  [{id, label, text(row), render(row)?, compare(a, b)?, numeric?, main?}]; `text` is what it says,
 *            `render` how that looks; `main` has the row's link; `compare` lets it be sorted
 *   sort     {id, descending}: the order at the start; null keeps the order of the rows
 *   need     called with the index of a row that is in sight and not there yet
 * Gives {element, show(rows, total), stop}. Rows that are not there yet are undefined.
 */
export function table({ name, label, columns, sort = null, need = () => {} }) {
  const hint = `table-hint-${++tables}`;
  const heads = new Map();
  const body = h("tbody", { role: "rowgroup" });
  const frame = h("table", { class: `rows rows-${name}`, role: "table", "aria-label": label, "aria-describedby": hint });
  const select = h("select", { id: `${hint}-sort`, on: { change: () => sortBy(select.value, false) } });
  const sortable = columns.filter((column) => column.compare);
  let given = [];
  let rows = [];
  let total = 0;
  let drawn = new Map(); // index -> {line, row, cells}
  let height = 40;
  let current = 0;
  let wanted = -1; // the row that is to have the focus when it is there

  const head = h(
    "tr",
    { role: "row", "aria-rowindex": 1 },
    columns.map((column) => {
      const cell = h("th", { role: "columnheader", scope: "col", class: kind(column) });
      if (column.compare) {
        const button = h("button", { type: "button", class: "sort", on: { click: () => sortBy(column.id) } }, column.label);
        cell.append(button);
      } else {
        cell.textContent = column.label;
      }
      heads.set(column.id, cell);
      return cell;
    }),
  );
  fill(frame, h("thead", { role: "rowgroup" }, head), body);
  const element = h(
    "div",
    { class: "table" },
    sortable.length > 0 && h("div", { class: "narrow-sort" }, h("label", { for: `${hint}-sort` }, "Sort by"), select),
    h("p", { class: "visually-hidden", id: hint }, "Arrow keys move between rows."),
    frame,
  );
  for (const column of sortable) select.append(h("option", { value: column.id }, column.label));

  function kind(column) {
    return `c-${column.id}${column.numeric ? " numeric" : ""}`;
  }

  function sortBy(id, toggle = true) {
    sort = { id, descending: toggle && sort?.id === id ? !sort.descending : false };
    order();
    draw();
  }

  function order() {
    const column = columns.find((one) => one.id === sort?.id);
    rows = given;
    if (column) {
      const sign = sort.descending ? -1 : 1;
      rows = [...given].sort((a, b) => sign * column.compare(a, b));
      select.value = sort.id;
    }
    for (const [id, cell] of heads) set(cell, "aria-sort", id === sort?.id ? (sort.descending ? "descending" : "ascending") : null);
  }

  function draw() {
    height = parseFloat(getComputedStyle(frame).getPropertyValue("--row-height")) || 40;
    const most = Math.min(total, Math.floor(HIGHEST / height));
    body.style.height = `${most * height}px`;
    set(frame, "aria-rowcount", total + 1);
    const top = body.getBoundingClientRect().top;
    const first = Math.max(0, Math.min(most, Math.floor(-top / height)) - BEYOND);
    const last = Math.min(most, Math.ceil((innerHeight - top) / height) + BEYOND);
    const focused = document.activeElement?.closest?.("tr");
    for (const [index, place] of drawn) {
      if ((index < first || index >= last) && (place.line !== focused || index >= most)) {
        place.line.remove();
        drawn.delete(index);
      }
    }
    current = Math.min(current, Math.max(0, most - 1));
    for (let index = first; index < last; index++) drawRow(index);
    // Where the current row is out of sight, the first that is in sight is the one to tab to.
    const stop = drawn.has(current) ? current : Math.min(first + BEYOND, most - 1);
    for (const [index, place] of drawn) place.link?.setAttribute("tabindex", index === stop ? "0" : "-1");
    if (wanted >= 0) focusWanted();
    for (let index = first; index < last; index++) {
      if (rows[index] === undefined) {
        need(index);
        break;
      }
    }
  }

  function drawRow(index) {
    const row = rows[index];
    let place = drawn.get(index);
    if (!place) {
      const line = h("tr", { role: "row", "aria-rowindex": index + 2 });
      line.style.transform = `translateY(${index * height}px)`;
      place = { line, cells: [], texts: [], link: null };
      for (const column of columns) {
        const cell = h("td", { role: "cell", class: kind(column) });
        place.cells.push(cell);
        line.append(cell);
      }
      drawn.set(index, place);
      const after = drawn.get(index + 1);
      if (after) after.line.before(line);
      else body.append(line);
    }
    place.line.style.transform = `translateY(${index * height}px)`;
    place.line.classList.toggle("waiting", row === undefined);
    place.line.classList.toggle("odd", index % 2 === 1);
    columns.forEach((column, at) => {
      const text = row === undefined ? "" : String(column.text(row));
      if (place.texts[at] === text) return;
      place.texts[at] = text;
      const cell = place.cells[at];
      if (row === undefined || !column.render) write(cell, clip(text, 300));
      else fill(cell, column.render(row));
      if (column.main) place.link = cell.querySelector("a");
    });
  }

  function onKey(event) {
    const page = Math.max(1, Math.floor(innerHeight / height) - 3);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    const line = event.target.closest("tr");
    const from = [...drawn].find(([, place]) => place.line === line)?.[0];
    if (from === undefined) return;
    event.preventDefault();
    const most = Math.min(total, Math.floor(HIGHEST / height));
    current = Math.max(0, Math.min(most - 1, from + step));
    const top = body.getBoundingClientRect().top + current * height;
    const covered = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--covered")) || 0;
    if (top < covered + height || top > innerHeight - 2 * height) scrollBy({ top: top - innerHeight / 2, behavior: "instant" });
    draw();
    wanted = current;
    focusWanted();
  }

  function focusWanted() {
    const found = drawn.get(wanted)?.link;
    if (!found) return;
    wanted = -1;
    found.focus({ preventScroll: true });
  }

  const soon = oncePerFrame(() => element.isConnected && draw());
  body.addEventListener("keydown", onKey);
  body.addEventListener("focusin", (event) => {
    const found = [...drawn].find(([, place]) => place.line.contains(event.target));
    if (found) current = found[0];
  });
  // Who goes elsewhere meanwhile stays there.
  body.addEventListener("focusout", (event) => {
    if (event.relatedTarget) wanted = -1;
  });
  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);

  return {
    element,
    /** Show these rows; `all` of them in the end, where more are to come. */
    show(shown, all = shown.length) {
      given = shown;
      total = Math.max(all, shown.length);
      order();
      if (element.isConnected) draw();
      else soon();
    },
    /** How many rows there may be before the last ones can no longer be reached. */
    most: () => Math.floor(HIGHEST / height),
    stop() {
      removeEventListener("scroll", soon);
      removeEventListener("resize", soon);
    },
  };
}

/** "1,204 of 20,000" */
export function shownOf(part, whole) {
  return part === whole ? number(whole) : `${number(part)} of ${number(whole)}`;
}
