// How an event looks in a list.
import { h } from "./dom.js";
import { link } from "./places.js";
import { code, foreign, longText, time } from "./pieces.js";
import { glyph } from "./states.js";

// By kind: a look, and what it is called. Kinds that are not here are shown as they are.
const KINDS = {
  "started": ["up", "Started"],
  "stopping": ["shut", "Stopping"],
  "converged": ["up", "Converged"],
  "draining": ["shut", "Draining"],
  "drain-ended": ["up", "Drain ended"],
  "peer-added": ["stale", "Peer added"],
  "peer-removed": ["shut", "Peer removed"],
  "session-up": ["up", "Session up"],
  "session-down": ["down", "Session down"],
  "peer-shut-down": ["shut", "Shut down"],
  "peer-brought-up": ["up", "Brought up"],
  "peer-refreshed": ["stale", "Refreshed"],
  "stale-routes": ["stale", "Stale routes"],
  "bad-update": ["down", "Bad UPDATE"],
  "routes": ["quiet", "Routes"],
  "datastore-lost": ["down", "Datastore lost"],
  "datastore-back": ["up", "Datastore back"],
  "records-read": ["quiet", "Records read"],
  "problem": ["connecting", "Problem"],
  "problem-solved": ["up", "Problem solved"],
  "kernel-error": ["down", "Kernel error"],
  "missed": ["connecting", "Missed"],
};

export function kindText(kind) {
  return KINDS[kind]?.[1] ?? String(kind);
}

export function kindSign(kind) {
  const look = KINDS[kind]?.[0] ?? "quiet";
  return h("span", { class: `sign look-${look}` }, look === "quiet" ? h("span", { class: "glyph dash", "aria-hidden": "true" }) : glyph(look), foreign(kindText(kind), 40));
}

/** An event as an item of a list. `whole` shows its text without shortening. */
export function eventItem(event, { whole = false, peer = true } = {}) {
  return h(
    "li",
    { class: "event" },
    time(event.time),
    kindSign(event.kind),
    h(
      "span",
      { class: "event-text" },
      peer && event.peer && [h("a", { href: link("peers", event.peer) }, code(event.peer, 60)), " "],
      whole ? longText(event.text) : foreign(event.text, 200),
    ),
  );
}
