// The pools and their blocks: who owns what, how full, what is borrowed.
import { blockMap, blockText, RELATIONS, relation } from "../parts/block_map.js";
import { fill, h, patch, svg } from "../parts/dom.js";
import { empty } from "../parts/notices.js";
import { card, choice, code, facts, field, foreign, heading, lookSign, watched } from "../parts/pieces.js";
import { link, replaceQuery } from "../parts/places.js";
import { table } from "../parts/table.js";
import { clip, compareTexts, count, FAMILIES, number, percent, prefixSize, size } from "../parts/text.js";

const ENCAPSULATIONS = { none: "none", ipip: "IP-in-IP", "ipip-cross-subnet": "IP-in-IP across subnets", vxlan: "VXLAN", "vxlan-cross-subnet": "VXLAN across subnets" };
const MOST_BORROWED = 200;

const COLUMNS = [
  {
    id: "cidr", label: "Block", main: true,
    text: (block) => block.cidr,
    render: (block) => h("a", { href: link("explain", block.cidr) }, code(block.cidr)),
    compare: (a, b) => a.order - b.order,
  },
  {
    id: "owner", label: "Owner",
    text: (block) => `${block.owner} ${block.ours}`,
    render: (block) => (block.owner ? [foreign(block.owner, 80), block.ours && h("span", { class: "tag" }, "this node")] : h("span", { class: "dim" }, "nobody")),
    compare: (a, b) => compareTexts(a.owner ?? "", b.owner ?? "") || a.order - b.order,
  },
  {
    id: "use", label: "In use", numeric: true,
    text: (block) => (block.allocated === null ? "not known" : `${number(block.allocated)} of ${size(prefixSize(block.cidr))}`),
    compare: (a, b) => (a.allocated ?? -1) / prefixSize(a.cidr) - (b.allocated ?? -1) / prefixSize(b.cidr),
  },
  {
    id: "lent", label: "Borrowed by",
    text: (block) => block.lent.map((one) => `${one.node} (${one.addresses})`).join(", "),
    render: (block) => foreign(block.lent.map((one) => `${one.node} (${one.addresses})`).join(", "), 120),
    compare: (a, b) => b.lent.length - a.lent.length,
  },
  {
    id: "state", label: "State",
    text: (block) => `${block.state} ${block.advertised} ${block.problem}`,
    render: (block) => {
      if (block.problem) return [lookSign("connecting", "Problem"), h("span", { class: "dim" }, " ", foreign(block.problem, 120))];
      const more = block.ours ? (block.advertised ? ", advertised" : ", not advertised") : "";
      return foreign(`${block.state ?? "no affinity"}${more}`);
    },
    compare: (a, b) => compareTexts(a.problem ? "" : (a.state ?? "~"), b.problem ? "" : (b.state ?? "~")),
  },
];

export function blocks(place) {
  let query = place.query;
  let document_ = null;
  const maps = new Map(); // pool -> {map, section, summary}
  const readout = h("div", { class: "readout" }, h("p", { class: "dim" }, "Point at a block, or move to the map and use the arrow keys."));
  const filters = h("form", { class: "filters", on: { submit: (event) => event.preventDefault() } });
  const pools = h("div", { class: "pools" });
  const borrowed = h("div", { class: "cards pairs" });
  const list = table({ name: "blocks", label: "Blocks", columns: COLUMNS, sort: { id: "cidr", descending: false } });
  const body = h("div", {});
  const element = h("div", { class: "view" }, heading("Blocks"), body);

  const picked = (block) => {
    if (!block) return;
    fill(readout, h("p", {}, h("a", { href: link("explain", block.cidr) }, code(block.cidr)), " ", h("span", {}, h("bdi", {}, blockText(block)))));
  };

  const set = (change) => {
    query = { ...query, ...change };
    replaceQuery(query);
    draw();
  };

  function drawFilters() {
    const owners = new Map();
    for (const block of document_.blocks) if (block.owner) owners.set(block.owner, (owners.get(block.owner) ?? 0) + 1);
    const names = [...owners.keys()].sort(compareTexts).slice(0, 2000);
    fill(
      filters,
      field("Owner", choice([["", "All"], ...names.map((name) => [name, `${clip(name, 60)}${name === document_.node ? ", this node" : ""} (${owners.get(name)})`])], query.owner ?? "", (owner) => set({ owner }))),
      field("Pool", choice([["", "All"], ...document_.pools.map((pool) => [pool.name, clip(pool.name, 60)])], query.pool ?? "", (pool) => set({ pool }))),
      legend(),
    );
  }

  function draw() {
    const wanted = [...document_.pools, ...(document_.blocks.some((block) => block.pool === null) ? [null] : [])].filter((pool) => !query.pool || pool?.name === query.pool);
    for (const [name, { map, section }] of maps) {
      if (wanted.some((pool) => (pool?.name ?? null) === name)) continue;
      map.stop();
      section.remove();
      maps.delete(name);
    }
    for (const pool of wanted) drawPool(pool);
    for (const { map } of maps.values()) map.mark(query.owner || null);
    const shown = document_.blocks.filter((block) => (!query.owner || block.owner === query.owner) && (!query.pool || block.pool === query.pool));
    list.show(shown);
    patch(borrowed, borrowedCard("Borrowed by this node", document_.borrowed_in, "From", "owner"), borrowedCard("Borrowed from this node", document_.borrowed_out, "By", "node"));
  }

  function drawPool(pool) {
    const name = pool?.name ?? null;
    if (!maps.has(name)) {
      const map = blockMap(picked);
      const summary = h("div", {});
      const section = h("section", { class: "card pool" }, h("h2", {}, pool ? h("bdi", {}, clip(name, 80)) : "In no pool"), summary, map.element);
      maps.set(name, { map, section, summary });
      pools.append(section);
    }
    const { map, summary } = maps.get(name);
    const here = document_.blocks.filter((block) => block.pool === name);
    patch(summary, pool && poolSummary(pool));
    map.element.hidden = here.length === 0;
    map.show(here, `${pool ? clip(name, 80) : "No pool"}: ${count(here.length, "block")}, by address; the table below says the same`);
  }

  const watching = watched(body, "the blocks", "blocks", { every: 30, kinds: ["records-read"] }, (read, content) => {
    document_ = { ...read, blocks: read.blocks.map((block, order) => ({ ...block, order })) };
    if (read.pools.length === 0 && read.blocks.length === 0) {
      fill(content, empty("No pools and no blocks", "The records have no IPPool, or this process works without records."));
      return;
    }
    if (!pools.isConnected) fill(content, filters, readout, pools, borrowed, h("section", { class: "part" }, h("h2", {}, "All blocks"), list.element));
    if (!filters.contains(document.activeElement)) drawFilters();
    draw();
  });
  return {
    title: "Blocks",
    element,
    change(next) {
      query = next.query;
      if (!document_) return;
      drawFilters();
      draw();
    },
    stop() {
      watching.stop();
      list.stop();
      for (const { map } of maps.values()) map.stop();
    },
  };
}

function legend() {
  return h(
    "ul",
    { class: "legend", "aria-label": "What the cells mean" },
    Object.entries(RELATIONS).map(([kind, label]) =>
      h(
        "li",
        {},
        svg(
          "svg",
          { class: "block-map", viewBox: "-1 -1 20 20", width: 14, height: 14, "aria-hidden": "true" },
          svg(
            "g",
            { class: `cell ${kind === "lent" || kind === "pending" ? "other" : kind}${kind === "pending" ? " pending" : ""}` },
            svg("rect", { class: "room", width: 18, height: 18, rx: 3 }),
            kind !== "free" && svg("rect", { class: "used", y: 8, width: 18, height: 10, rx: 3 }),
            kind === "lent" && svg("path", { class: "corner", d: "M9 0H16a2 2 0 0 1 2 2V9z" }),
            kind === "problem" && svg("path", { class: "cross", d: "M5 5l8 8M13 5l-8 8" }),
            svg("rect", { class: "edge", width: 18, height: 18, rx: 3 }),
          ),
        ),
        label,
      ),
    ),
  );
}

function poolSummary(pool) {
  const whole = prefixSize(pool.cidr);
  const part = Math.min(1, pool.allocated / whole);
  return [
    facts(
      [
        ["Addresses", code(pool.cidr)],
        ["In use", `${number(pool.allocated)} of ${size(whole)} (${percent(pool.allocated, whole)})`],
        ["Blocks", number(pool.blocks)],
        ["Borrowed", number(pool.borrowed)],
        ["Encapsulation", ENCAPSULATIONS[pool.encapsulation] ?? foreign(pool.encapsulation, 40)],
        ["BGP", pool.bgp_export ? "exported" : lookSign("shut", "export disabled")],
        ["Allocation", pool.disabled ? lookSign("shut", "disabled") : null],
      ],
      "inline",
    ),
    svg(
      "svg",
      { class: "fullness", viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "room", width: 100, height: 1 }),
      svg("rect", { class: "used", width: Math.max(part > 0 ? 0.4 : 0, 100 * part), height: 1 }),
    ),
  ];
}

function borrowedCard(title, entries, other, field) {
  return card(
    title,
    entries.length === 0
      ? h("p", { class: "dim" }, "Nothing.")
      : h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": title }, h(
          "table",
          { class: "plain text" },
          h("thead", {}, h("tr", {}, ["Address", "Block", other, "Pod"].map((one) => h("th", { scope: "col" }, one)))),
          h(
            "tbody",
            {},
            entries.slice(0, MOST_BORROWED).map((one) =>
              h("tr", {}, h("td", {}, h("a", { href: link("explain", one.address) }, code(one.address))), h("td", {}, code(one.block)), h("td", {}, foreign(one[field] ?? "nobody", 60)), h("td", {}, foreign(one.pod ?? "\u2013", 60))),
            ),
          ),
        )),
    entries.length > MOST_BORROWED && h("p", { class: "dim" }, `${number(entries.length - MOST_BORROWED)} more; \`routed blocks\` shows all.`),
  );
}
