// Events as they come, the latest first; filters are part of the link, and it can be held to be read.
import { fill, h, oncePerFrame } from "../parts/dom.js";
import { eventText, kindSign, kindText } from "../parts/event_line.js";
import { empty } from "../parts/notices.js";
import { choice, code, field, foreign, heading, time, typed } from "../parts/pieces.js";
import { link, replaceQuery } from "../parts/places.js";
import { shownOf, table } from "../parts/table.js";
import { KINDS, stream } from "../stream.js";

const COLUMNS = [
  { id: "time", label: "Time", text: (event) => event.time, render: (event) => time(event.time) },
  { id: "kind", label: "Kind", text: (event) => event.kind, render: (event) => kindSign(event.kind) },
  { id: "peer", label: "Peer", main: true, text: (event) => event.peer ?? "", render: (event) => event.peer && h("a", { href: link("peers", event.peer) }, code(event.peer, 60)) },
  { id: "text", label: "What happened", text: eventText, render: (event) => foreign(eventText(event), 300) },
];

export function events(place) {
  let query = place.query;
  let held = null; // the events at which it was held
  const counted = h("p", { class: "count" });
  const nothing = h("div", {});
  const list = table({ name: "events", label: "Events, the latest first", columns: COLUMNS });
  const hold = h("button", { type: "button", "aria-pressed": "false", on: { click: () => toggle() } }, "Hold");
  const filters = h("form", { class: "filters", on: { submit: (event) => event.preventDefault() } });
  const element = h("div", { class: "view" }, heading("Events", hold), filters, counted, list.element, nothing);

  const toggle = () => {
    held = held ? null : stream.events;
    hold.setAttribute("aria-pressed", String(held !== null));
    draw();
  };
  const set = (change) => {
    query = { ...query, ...change };
    replaceQuery(query);
    draw();
  };
  const drawFilters = () =>
    fill(
      filters,
      field("Kind", choice([["", "All"], ...KINDS.filter((kind) => kind !== "missed").map((kind) => [kind, kindText(kind)])], query.kind ?? "", (kind) => set({ kind }))),
      field("Peer", typed(query.peer ?? "", "Name", (peer) => set({ peer }))),
      field("Text", typed(query.text ?? "", "hold timer", (text) => set({ text })), "grow"),
    );
  const draw = () => {
    const all = held ?? stream.events;
    const found = all.filter((event) => matches(event, query)).reverse();
    const since = held ? stream.events.filter((event) => event.number > (held.at(-1)?.number ?? 0)).length : 0;
    counted.textContent = `${shownOf(found.length, all.length)} events${held ? `; held, ${since} new since` : ""}`;
    list.show(found);
    list.element.hidden = found.length === 0;
    fill(nothing, found.length === 0 && (all.length === 0 ? empty("Nothing has happened yet", "Events appear here as they come.") : empty("No event matches", "The filters leave none of those that are kept.")));
  };
  const soon = oncePerFrame(draw);
  const unlisten = stream.listen((fresh) => {
    if (fresh === null) held = null;
    soon();
  });
  drawFilters();
  draw();
  return {
    title: "Events",
    element,
    change(next) {
      query = next.query;
      drawFilters();
      draw();
    },
    stop() {
      unlisten();
      list.stop();
    },
  };
}

export function matches(event, { kind = "", peer = "", text = "" }) {
  if (kind && event.kind !== kind) return false;
  if (peer && !(event.peer ?? "").toLowerCase().includes(peer.toLowerCase())) return false;
  return !text || event.text.toLowerCase().includes(text.toLowerCase());
}
