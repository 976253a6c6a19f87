// Where each peer of the graph is: around the node in the middle, in one sector for each kind, as many rings
// deep as are needed. Pure functions of numbers.
import { KIND_ORDER, kindOf, lookOf, LOOKS } from "./states.js";
import { compareTexts } from "./text.js";

const GAP = 0.14; // between sectors, radians
const LEAST = 0.5; // radians of a sector
const WIDEST = 58; // pixels between peers
const CALLOUT_HEIGHT = 22;
const CALLOUT_WIDTH = 190;

/** Peers by kind: [{kind, peers}], in the order of kinds; within a kind those that are not up come first. */
export function groups(peers) {
  const byKind = new Map();
  for (const peer of peers) {
    const kind = kindOf(peer);
    if (!byKind.has(kind)) byKind.set(kind, []);
    byKind.get(kind).push(peer);
  }
  return KIND_ORDER.filter((kind) => byKind.has(kind)).map((kind) => ({
    kind,
    peers: byKind.get(kind).sort((a, b) => compareTexts(a.name, b.name)),
  }));
}

/**
 * The places for a drawing of this size: {x, y, inner, outer, sectors, callouts}.
 *   sectors   [{kind, from, to, count, spacing, places: [{peer, look, x, y}]}], angles in radians, clockwise
 *             from the top; `spacing` is how far its peers are apart
 *   callouts  peers whose name is written beside the drawing: [{place, x, y, side}]; those that are not up
 *             first, and all where there is room
 */
export function layout(peers, width, height) {
  const beside = width >= 620;
  const outer = Math.min(height / 2 - 34, (width - (beside ? 2 * CALLOUT_WIDTH : 44)) / 2);
  const inner = Math.max(34, Math.min(70, outer * 0.36));
  const centre = { x: width / 2, y: height / 2 };
  const found = groups(peers);
  const angles = spans(found.map((group) => group.peers.length));
  // What fits on a single ring is drawn on one that leaves the middle some air.
  const ring = outer * 0.84;
  let angle = -angles[0] / 2 || 0;
  const sectors = found.map((group, at) => {
    const gap = found.length > 1 ? GAP : 0.002; // an arc of a full turn would be none
    const from = angle + gap / 2;
    const to = angle + angles[at] - gap / 2;
    angle += angles[at];
    const count = group.peers.length;
    const single = capacity(ring, angles[at], WIDEST / 2) >= count;
    const spacing = single ? Math.min(WIDEST, ((to - from) * ring) / count) : fit(count, angles[at], inner, outer);
    return { kind: group.kind, from, to, count, spacing, places: arcs(group.peers, from, to, single ? ring : inner + spacing / 2, spacing, centre) };
  });
  return { ...centre, inner, outer, sectors, callouts: beside ? callouts(sectors, centre, outer, width, height) : [] };
}

// Angles of sectors by their counts: in proportion, none below LEAST, together a full turn.
function spans(counts) {
  const total = counts.reduce((sum, one) => sum + one, 0);
  const free = 2 * Math.PI - LEAST * counts.length;
  return counts.map((one) => LEAST + (free * one) / total);
}

function capacity(radius, angle, spacing) {
  return Math.max(1, Math.floor(((angle - GAP) * radius) / spacing) + (angle > 6 ? 0 : 1));
}

// The widest spacing at which so many peers have a place in a sector.
function fit(count, angle, inner, outer) {
  for (let spacing = WIDEST; spacing > 2; spacing *= 0.96) {
    let left = count;
    for (let radius = inner + spacing / 2; radius <= outer && left > 0; radius += spacing) left -= capacity(radius, angle, spacing);
    if (left <= 0) return spacing;
  }
  return 2;
}

// Rings from `start` outwards, each with its share of the peers, evenly apart.
function arcs(peers, from, to, start, spacing, centre) {
  const span = to - from;
  const rings = [];
  let room = 0;
  for (let radius = start; room < peers.length; radius += spacing) {
    room += capacity(radius, span + GAP, spacing);
    rings.push({ radius, room });
  }
  const places = [];
  for (const ring of rings) {
    const first = places.length;
    const count = Math.round((peers.length * ring.room) / room) - first;
    for (let at = 0; at < count; at++) {
      const peer = peers[first + at];
      const angle = from + (span * (at + 0.5)) / count;
      places.push({ peer, look: lookOf(peer), spacing, x: centre.x + ring.radius * Math.sin(angle), y: centre.y - ring.radius * Math.cos(angle) });
    }
  }
  return places;
}

// Names in a column at each side, as many as there is height for, each as near its peer as the others allow.
function callouts(sectors, centre, outer, width, height) {
  const room = Math.floor((height - 16) / CALLOUT_HEIGHT);
  const all = sectors.flatMap((sector) => sector.places);
  const wanted = all.length <= 2 * room ? all : all.filter((place) => place.look !== "up");
  const found = [];
  for (const side of [-1, 1]) {
    const here = wanted.filter((place) => (place.x >= centre.x ? 1 : -1) === side);
    here.sort((a, b) => LOOKS[a.look].rank - LOOKS[b.look].rank);
    const named = here.slice(0, room).sort((a, b) => a.y - b.y);
    const ys = spread(named.map((place) => place.y), 8 + CALLOUT_HEIGHT / 2, height - 8 - CALLOUT_HEIGHT / 2);
    named.forEach((place, at) => {
      found.push({ place, side, y: ys[at], x: centre.x + side * (outer + 36), left: side < 0 ? 0 : centre.x + outer + 44, width: width / 2 - outer - 44 });
    });
  }
  return found;
}

// Moves heights apart, in order, to be CALLOUT_HEIGHT from each other and within the bounds.
function spread(heights, top, bottom) {
  const moved = [...heights];
  for (let at = 0, least = top; at < moved.length; at++, least += CALLOUT_HEIGHT) {
    moved[at] = least = Math.max(moved[at], least);
  }
  for (let at = moved.length - 1, most = bottom; at >= 0; at--, most -= CALLOUT_HEIGHT) {
    moved[at] = most = Math.min(moved[at], most);
  }
  return moved;
}
