// How an event looks in a list.
import { h } from "./dom.js";
import { link } from "./places.js";
import { code, foreign, longText, time } from "./pieces.js";
import { glyph } from "./states.js";
import { number } from "./text.js";

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
  return h("span", { class: `sign look-${look}` }, glyph(look), foreign(kindText(kind), 40));
}

/** What happened in one line: with the first prefixes, where it is about routes. */
export function eventText({ kind, text, fields }) {
  if (kind !== "routes" || !(fields?.changes > 1)) return text;
  const parts = ["announced", "withdrawn"].filter((what) => fields[what]?.length).map((what) => `${what} ${few(fields[what])}`);
  return parts.length ? `${text}: ${parts.join("; ")}` : text;
}

function few(prefixes) {
  const shown = prefixes.slice(0, 4).join(", ");
  return prefixes.length > 4 ? `${shown} and ${number(prefixes.length - 4)} more` : shown;
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
      whole ? longText(eventText(event)) : foreign(eventText(event), 200),
    ),
  );
}
