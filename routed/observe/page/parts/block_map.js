// The blocks of one pool as a grid of cells, in the order of addresses: filled as far as they are used, marked
// by whose they are. One tab stop; arrow keys go from cell to cell.
import { fill, h, oncePerFrame, svg } from "./dom.js";
import { clip, number, prefixSize, size } from "./text.js";

const MOST = 4096; // cells of a pool; the table below has all
const CELL = 18;
const GAP = 3;
let maps = 0;

/** What a cell shows: `ours`, `other`, `free` (an affinity nobody holds), `problem`. */
export function relation(block) {
  if (block.problem) return "problem";
  if (block.ours) return "ours";
  return block.owner ? "other" : "free";
}

export const RELATIONS = {
  ours: "This node's",
  other: "Another node's",
  free: "Nobody's",
  problem: "With a problem",
  lent: "Borrowed from by another node",
  pending: "Affinity not confirmed",
};

export function blockText(block) {
  const capacity = prefixSize(block.cidr);
  const use = block.allocated === null ? "use not known" : `${number(block.allocated)} of ${size(capacity)} addresses in use`;
  const lent = block.lent.length ? `; borrowed from: ${block.lent.slice(0, 3).map((one) => `${clip(one.node, 40)} (${one.addresses})`).join(", ")}${block.lent.length > 3 ? ", \u2026" : ""}` : "";
  const state = block.state && block.state !== "confirmed" ? `; affinity ${block.state}` : "";
  return `${block.owner ? clip(block.owner, 60) : "no owner"}; ${use}${lent}${state}${block.problem ? `; ${clip(block.problem, 200)}` : ""}`;
}

/** The map: {element, show(blocks, label), mark(owner), stop}. `picked(block)` is called with the block under the
 *  pointer or the cursor, or null. */
export function blockMap(picked) {
  const id = `map-${++maps}`;
  const picture = svg("svg", { class: "block-map", role: "listbox", tabindex: 0, "aria-label": "Blocks" });
  const rest = h("p", { class: "dim" });
  const element = h("div", { class: "block-map-frame" }, picture, rest);
  let blocks = [];
  let across = 1;
  let cursor = -1;
  let owner = null;

  const draw = oncePerFrame(() => {
    const width = element.clientWidth;
    if (!width) return;
    across = Math.max(1, Math.floor((width + GAP) / (CELL + GAP)));
    const down = Math.ceil(blocks.length / across);
    const high = Math.max(1, down) * (CELL + GAP) + 1;
    picture.setAttribute("viewBox", `-1 -1 ${across * (CELL + GAP) + 1} ${high}`);
    picture.setAttribute("width", across * (CELL + GAP) + 1);
    picture.setAttribute("height", high);
    fill(picture, blocks.map(cell));
    show(cursor);
  });

  function cell(block, index) {
    const [x, y] = [(index % across) * (CELL + GAP), Math.floor(index / across) * (CELL + GAP)];
    const used = block.allocated === null ? 0 : Math.min(1, block.allocated / prefixSize(block.cidr));
    const filled = used > 0 ? Math.max(2, Math.round(used * CELL)) : 0;
    const marked = owner !== null && block.owner === owner;
    const pending = block.state !== null && block.state !== "confirmed";
    return svg(
      "g",
      {
        class: `cell ${relation(block)}${pending ? " pending" : ""}${owner === null ? "" : marked ? " marked" : " muted"}`,
        transform: `translate(${x} ${y})`,
        role: "option",
        id: `${id}-${index}`,
        "aria-selected": "false",
        "aria-label": `${block.cidr}: ${blockText(block)}`,
      },
      svg("rect", { class: "room", width: CELL, height: CELL, rx: 3 }),
      filled > 0 && svg("rect", { class: "used", y: CELL - filled, width: CELL, height: filled, rx: Math.min(3, filled / 2) }),
      block.lent.length > 0 && svg("path", { class: "corner", d: `M${CELL - 9} 0H${CELL - 2}a2 2 0 0 1 2 2V9z` }),
      block.problem && svg("path", { class: "cross", d: "M5 5l8 8M13 5l-8 8" }),
      svg("rect", { class: "edge", width: CELL, height: CELL, rx: 3 }),
    );
  }

  function show(index) {
    picture.querySelector(".cell.cursor")?.classList.remove("cursor");
    picture.querySelector('[aria-selected="true"]')?.setAttribute("aria-selected", "false");
    const here = picture.children[index];
    if (!here || !blocks[index]) {
      picture.removeAttribute("aria-activedescendant");
      return;
    }
    here.classList.add("cursor");
    here.setAttribute("aria-selected", "true");
    picture.setAttribute("aria-activedescendant", here.id);
  }

  function pick(index) {
    cursor = index;
    show(index);
    picked(blocks[index] ?? null);
  }

  picture.addEventListener("focus", () => pick(Math.max(0, cursor)));
  picture.addEventListener("keydown", (event) => {
    const last = blocks.length - 1;
    const next = { ArrowRight: cursor + 1, ArrowLeft: cursor - 1, ArrowDown: cursor + across, ArrowUp: cursor - across, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (next < 0 || next > last) return;
    pick(next);
    picture.children[next]?.scrollIntoView({ block: "nearest" });
  });
  const under = (event) => {
    const box = picture.getBoundingClientRect();
    const [column, line] = [Math.floor((event.clientX - box.left) / (CELL + GAP)), Math.floor((event.clientY - box.top) / (CELL + GAP))];
    const index = line * across + column;
    return column < across && index < blocks.length ? index : -1;
  };
  picture.addEventListener("pointermove", (event) => {
    const index = under(event);
    if (index >= 0 && index !== cursor) pick(index);
  });

  const sizes = new ResizeObserver(draw);
  sizes.observe(element);
  return {
    element,
    show(all, label) {
      blocks = all.slice(0, MOST);
      picture.setAttribute("aria-label", label);
      rest.textContent = all.length > MOST ? `${number(all.length - MOST)} more blocks are in the table below.` : "";
      rest.hidden = all.length <= MOST;
      draw();
    },
    /** Have the blocks of one owner stand out; null: of none. */
    mark(name) {
      owner = name;
      draw();
    },
    stop: () => sizes.disconnect(),
  };
}
