// How session states look and what they are called: each has a colour, a shape and a word of its own.
import { svg } from "./dom.js";
import { clip } from "./text.js";

/** What an operator has to tell apart. `rank`: the worst first. */
export const LOOKS = {
  down: { label: "Down", shape: "square", rank: 0 },
  connecting: { label: "Connecting", shape: "triangle", rank: 1 },
  stale: { label: "Stale", shape: "ring", rank: 2 },
  shut: { label: "Shut down", shape: "diamond", rank: 3 },
  up: { label: "Established", shape: "circle", rank: 4 },
};

const STATE_WORDS = {
  idle: "Idle", connect: "Connect", active: "Active",
  opensent: "OpenSent", openconfirm: "OpenConfirm", established: "Established",
};
const STATE_LOOKS = { established: "up", opensent: "connecting", openconfirm: "connecting", connect: "connecting" };

/** The look of a peer (a PeerSummary). */
export function lookOf(peer) {
  if (peer.shut_down !== null && peer.shut_down !== undefined) return "shut";
  if (peer.state === "established") return "up";
  if (peer.stale) return "stale";
  return STATE_LOOKS[peer.state] ?? "down";
}

/** The state in the RFC's words, and what else there is to it. */
export function stateText(peer) {
  const word = STATE_WORDS[peer.state] ?? clip(peer.state, 40);
  if (lookOf(peer) === "shut") return `Shut down (${word})`;
  return peer.stale ? `${word}, stale routes kept` : word;
}

const PATHS = {
  circle: "M0-6a6 6 0 1 0 0 12a6 6 0 1 0 0-12z",
  square: "M-5-5h10v10h-10z",
  triangle: "M0-6.2 6.2 5h-12.4z",
  diamond: "M0-6.8 6.8 0 0 6.8-6.8 0z",
  dash: "M-6-1h12v2h-12z",
  ring: "M0-6a6 6 0 1 0 0 12a6 6 0 1 0 0-12zM0-3a3 3 0 1 1 0 6a3 3 0 1 1 0-6z",
};

/** The path of a look's shape around 0,0; about 12 wide. `quiet` is the look of what is neither good nor bad. */
export function shapePath(look) {
  return PATHS[LOOKS[look]?.shape ?? "dash"];
}

/** The shape as a picture beside a word; it says nothing to a screen reader, the word does. */
export function glyph(look) {
  return svg(
    "svg",
    { class: `glyph look-${look}`, viewBox: "-8 -8 16 16", width: 12, height: 12, "aria-hidden": "true" },
    svg("path", { d: shapePath(look), "fill-rule": "evenodd" }),
  );
}

const KINDS = [
  ["reflector", "Route reflectors"],
  ["client", "Reflector clients"],
  ["mesh", "iBGP"],
  ["ebgp", "eBGP"],
  ["dynamic", "From address ranges"],
  ["unknown", "Kind not known yet"],
];
export const KIND_LABELS = Object.fromEntries(KINDS);
export const KIND_ORDER = KINDS.map(([kind]) => kind);

/** The group of the graph that a peer belongs to. */
export function kindOf(peer) {
  if (peer.route_reflector_client) return "client";
  if (peer.kind === "ebgp") return "ebgp";
  if (peer.kind === "ibgp") return "mesh";
  return peer.dynamic ? "dynamic" : "unknown";
}
