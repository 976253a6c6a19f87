// Routes, with the filters of the status API. Portions are read as the table is scrolled to them.
import { get } from "../api.js";
import { fill, h } from "../parts/dom.js";
import { empty, failure, loading } from "../parts/notices.js";
import { choice, code, field, foreign, heading, lookSign, typed } from "../parts/pieces.js";
import { link, replaceQuery } from "../parts/places.js";
import { table } from "../parts/table.js";
import { FAMILIES, number } from "../parts/text.js";

const FIRST_PORTION = 500;
const PORTION = 2000;
const SCOPES = [["best", "Best paths"], ["all", "All paths"], ["kernel", "In the kernel"], ["rejected", "Kept out"]];
const SOURCES = { static: "static", direct: "direct", kernel: "kernel", allocated: "IPAM" };

const COLUMNS = [
  {
    id: "prefix", label: "Prefix", main: true,
    text: (route) => route.prefix,
    render: (route) => h("a", { href: link("explain", route.prefix) }, code(route.prefix)),
  },
  {
    id: "place", label: "Place",
    text: (route) => standing(route)[1],
    render: (route) => lookSign(...standing(route)),
  },
  {
    id: "source", label: "From",
    text: (route) => `${route.source} ${route.source_kind}`,
    render: (route) => (route.peer_address ? h("a", { href: link("peers", route.source), tabindex: -1 }, code(route.source, 60)) : foreign(SOURCES[route.source_kind] ?? route.source)),
  },
  {
    id: "hop", label: "Next hop",
    text: (route) => `${route.next_hop ?? "this node"} ${route.interface ?? ""} ${route.reachable}`,
    render: (route) => [
      route.next_hop === null ? h("span", { class: "dim" }, "this node") : code(route.next_hop),
      route.interface && h("span", { class: "dim" }, " ", code(route.interface, 20)),
      !route.reachable && h("span", { class: "bad" }, " unreachable"),
    ],
  },
  { id: "path", label: "AS path", text: (route) => route.as_path, render: (route) => code(route.as_path, 80) },
  { id: "pref", label: "Local pref.", numeric: true, text: (route) => route.local_pref ?? "" },
  { id: "med", label: "MED", numeric: true, text: (route) => route.med ?? "" },
  { id: "kernel", label: "Kernel", text: (route) => route.kernel ?? "", render: (route) => route.kernel && foreign(route.kernel, 100) },
];

export function standing(route) {
  if (route.stale) return ["stale", route.best ? "Best, stale" : "Stale"];
  if (route.best) return ["up", "Best"];
  if (route.multipath) return ["up", "Multipath"];
  if (route.ineligible) return ["down", "Not eligible"];
  return ["shut", "Not best"];
}

export function routes(place) {
  let query = place.query;
  let read = [];
  let total = 0;
  let next = null;
  let busy = false;
  let ending = new AbortController();
  const counted = h("p", { class: "count", role: "status" });
  const body = h("div", {});
  const filters = h("form", { class: "filters", on: { submit: (event) => event.preventDefault() } });
  const list = table({ name: "routes", label: "Routes", columns: COLUMNS, need: (index) => index >= read.length && portion() });
  const element = h("div", { class: "view" }, heading("Routes", h("button", { type: "button", on: { click: () => begin() } }, "Read anew")), filters, counted, body);

  const set = (change) => {
    query = { ...query, ...change };
    replaceQuery(query);
    begin();
  };
  const drawFilters = () =>
    fill(
      filters,
      field("Prefix or address", typed(query.prefix ?? "", "10.0.0.0/24, fd00::5", (prefix) => set({ prefix })), "grow"),
      field("Show", choice(SCOPES, scopeOf(query), (scope) => set({ scope }))),
      field("Family", choice([["", "Both"], ...Object.entries(FAMILIES)], query.family ?? "", (family) => set({ family }))),
      field("Received from", typed(query.received_from ?? "", "Peer", (received_from) => set({ received_from }))),
      field("Advertised to", typed(query.advertised_to ?? "", "Peer", (advertised_to) => set({ advertised_to }))),
    );

  function begin() {
    ending.abort();
    ending = new AbortController();
    [read, total, next, busy] = [[], 0, null, false];
    counted.textContent = "";
    fill(body, loading("routes"));
    portion();
  }

  async function portion() {
    if (busy || (read.length > 0 && next === null)) return;
    busy = true;
    const { signal } = ending;
    const { prefix, family, received_from, advertised_to } = query;
    try {
      const answer = await get("routes", { prefix, family, received_from, advertised_to, scope: scopeOf(query), after: next, limit: next === null ? FIRST_PORTION : PORTION }, signal);
      read = read.concat(answer.routes);
      next = answer.next;
      total = next === null ? read.length : Math.max(answer.total, read.length + 1);
      busy = false;
      draw(answer.total < 0 && next !== null);
    } catch (error) {
      if (signal.aborted) return;
      busy = false;
      if (read.length === 0) fill(body, failure(error.message, error.hint, begin));
      else fill(body, failure(`After ${number(read.length)} routes: ${error.message}`, error.hint, portion), list.element);
    }
  }

  function draw(uncounted) {
    counted.textContent = read.length === 0 ? "" : `${uncounted ? `${number(read.length)} and more` : number(total)} ${total === 1 ? "route" : "routes"}${total > list.most() ? `, of which the first ${number(list.most())} can be scrolled to: narrow the filters to see others` : ""}`;
    if (read.length === 0) {
      fill(body, empty("No routes", filtered(query) ? "None matches these filters." : "Nothing is originated here, and no peer has sent any."));
      return;
    }
    if (body.firstChild !== list.element || body.children.length > 1) fill(body, list.element);
    list.show(read, total);
  }

  drawFilters();
  begin();
  return {
    title: "Routes",
    element,
    change(to) {
      query = to.query;
      drawFilters();
      begin();
    },
    stop() {
      ending.abort();
      list.stop();
    },
  };
}

// What a peer sent or is told is shown whole, unless something else is asked for.
function scopeOf({ scope, received_from, advertised_to }) {
  return scope || (received_from || advertised_to ? "all" : "best");
}

function filtered(query) {
  return ["prefix", "family", "received_from", "advertised_to", "scope"].some((name) => query[name]);
}
