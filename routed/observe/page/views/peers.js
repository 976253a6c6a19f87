// All peerings as a table, with filters that are part of the link.
import { fill, h } from "../parts/dom.js";
import { empty } from "../parts/notices.js";
import { choice, code, field, foreign, heading, stateSign, typed, watched } from "../parts/pieces.js";
import { link, replaceQuery } from "../parts/places.js";
import { KIND_LABELS, KIND_ORDER, kindOf, LOOKS, lookOf, stateText } from "../parts/states.js";
import { shownOf, table } from "../parts/table.js";
import { compareTexts, count, duration, eachFamily, sum } from "../parts/text.js";

const KINDS = ["session-up", "session-down", "peer-added", "peer-removed", "peer-shut-down", "peer-brought-up", "stale-routes"];

const COLUMNS = [
  {
    id: "name", label: "Peer", main: true,
    text: (peer) => `${peer.name}\n${peer.address}\n${peer.node}`,
    render: (peer) => [h("a", { href: link("peers", peer.name) }, code(peer.name, 80)), h("span", { class: "dim second" }, peer.node && [foreign(peer.node, 60), " "], code(peer.address))],
    compare: (a, b) => compareTexts(a.name, b.name),
  },
  {
    id: "state", label: "State",
    text: (peer) => `${stateText(peer)} ${lookOf(peer)}`,
    render: stateSign,
    compare: (a, b) => LOOKS[lookOf(a)].rank - LOOKS[lookOf(b)].rank || compareTexts(a.name, b.name),
  },
  {
    id: "since", label: "Up for", numeric: true,
    text: (peer) => duration(peer.established_for),
    compare: (a, b) => (a.established_for ?? -1) - (b.established_for ?? -1),
  },
  {
    id: "as", label: "AS", numeric: true,
    text: (peer) => peer.remote_as ?? "any",
    compare: (a, b) => (a.remote_as ?? 0) - (b.remote_as ?? 0),
  },
  { id: "kind", label: "Kind", text: (peer) => KIND_LABELS[kindOf(peer)], compare: (a, b) => compareTexts(kindOf(a), kindOf(b)) },
  { id: "received", label: "Received", numeric: true, text: (peer) => eachFamily(peer.received), compare: (a, b) => sum(a.received) - sum(b.received) },
  { id: "advertised", label: "Advertised", numeric: true, text: (peer) => eachFamily(peer.advertised), compare: (a, b) => sum(a.advertised) - sum(b.advertised) },
  { id: "flaps", label: "Flaps", numeric: true, text: (peer) => peer.flaps, compare: (a, b) => a.flaps - b.flaps },
  { id: "error", label: "Last error", text: (peer) => peer.last_error ?? "", render: (peer) => peer.last_error && foreign(peer.last_error, 160) },
];

const STATES = [["", "All"], ["not-up", "Not up"], ...Object.entries(LOOKS).map(([look, { label }]) => [look, label])];

export function peers(place) {
  let query = place.query;
  let all = [];
  const shownCount = h("p", { class: "count", role: "status" });
  const nothing = h("div", {});
  const list = table({ name: "peers", label: "Peers", columns: COLUMNS, sort: { id: "state", descending: false } });
  const filters = h("form", { class: "filters", on: { submit: (event) => event.preventDefault() } });
  const body = h("div", {});
  const element = h("div", { class: "view" }, heading("Peers"), body);

  const set = (change) => {
    query = { ...query, ...change };
    replaceQuery(query);
    draw();
  };
  const drawFilters = () =>
    fill(
      filters,
      field("Name, address or AS", typed(query.text ?? "", "node-12, 10.0.0.5, 64512", (text) => set({ text })), "grow"),
      field("State", choice(STATES, query.state ?? "", (state) => set({ state }))),
      field("Kind", choice([["", "All"], ...KIND_ORDER.map((kind) => [kind, KIND_LABELS[kind]])], query.kind ?? "", (kind) => set({ kind }))),
    );
  const draw = () => {
    const found = all.filter((peer) => matches(peer, query));
    shownCount.textContent = `${shownOf(found.length, all.length)} ${all.length === 1 ? "peer" : "peers"}`;
    list.show(found);
    list.element.hidden = found.length === 0;
    fill(nothing, found.length > 0 ? null : all.length === 0 ? empty("No peers", "None are configured, and none has connected from an address range.") : empty("No peer matches", `${count(all.length, "peer does", "peers do")} not match these filters.`));
  };
  drawFilters();
  const watching = watched(body, "the peers", "peers", { every: 15, kinds: KINDS }, (read, content) => {
    if (!content.firstChild) fill(content, filters, shownCount, list.element, nothing);
    all = read.peers;
    draw();
  });
  return {
    title: "Peers",
    element,
    change(next) {
      query = next.query;
      drawFilters();
      draw();
    },
    stop() {
      watching.stop();
      list.stop();
    },
  };
}

export function matches(peer, { text = "", state = "", kind = "" }) {
  const look = lookOf(peer);
  if (state === "not-up" ? look === "up" : state && look !== state) return false;
  if (kind && kindOf(peer) !== kind) return false;
  return !text || `${peer.name} ${peer.address} ${peer.node ?? ""} ${peer.remote_as ?? ""} ${peer.router_id ?? ""}`.toLowerCase().includes(text.toLowerCase());
}
