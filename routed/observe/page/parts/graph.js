// The live graph of a node's peers. Its DOM stays small: peers that are up, in a large graph, are one path for
// each sector; those that are not, and all in a small graph, are links.
import { fill, h, oncePerFrame, svg } from "./dom.js";
import { layout } from "./graph_layout.js";
import { link } from "./places.js";
import { KIND_LABELS, LOOKS, lookOf, shapePath, stateText } from "./states.js";
import { clip, count, number } from "./text.js";

const SMALL = 80; // peers up to which each is a link
const FEW = 16; // and the same in one sector of a large graph
const MOST_LINKS = 120;
const REACH = 14; // pixels around the pointer in which a peer is found

/** The graph: {element, show(peers, status), stop}. */
export function graph() {
  const picture = svg("svg", { class: "graph", role: "group", "aria-label": "Peers around this node" });
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const element = h("div", { class: "graph-frame" }, picture, tip);
  let peers = [];
  let status = null;
  let before = new Map(); // name -> look
  let places = [];
  let current = "";
  let drawnFor = "";

  const draw = oncePerFrame(() => {
    const width = Math.round(element.clientWidth);
    if (!width || !status) return;
    const height = width >= 620 ? Math.round(Math.min(480, Math.max(360, width * 0.46))) : Math.round(Math.min(width, 420));
    const key = `${width} ${status.node} ${peers.map((peer) => `${peer.name}\n${lookOf(peer)}`).join("\n")}`;
    if (key === drawnFor) return;
    drawnFor = key;
    const focused = picture.contains(document.activeElement);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("width", width);
    picture.setAttribute("height", height);
    picture.setAttribute("aria-label", `${count(peers.length, "peer")} around ${clip(status.node, 60)}`);
    const places_ = layout(peers, width, height);
    places = places_.sectors.flatMap((sector) => sector.places);
    fill(picture, content(places_));
    before = new Map(peers.map((peer) => [peer.name, lookOf(peer)]));
    rove(current, focused);
  });

  function content(drawing) {
    const few = drawing.sectors.filter((sector) => places.length <= SMALL || sector.count <= FEW).flatMap((sector) => sector.places);
    const alone = new Set([...few, ...places.filter((place) => place.look !== "up")].slice(0, MOST_LINKS));
    const crowd = places.filter((place) => !alone.has(place));
    return [
      drawing.sectors.map((sector) => sectorShape(drawing, sector)),
      few.map((place) => svg("line", { class: `edge look-${place.look}`, x1: drawing.x, y1: drawing.y, x2: place.x, y2: place.y })),
      Object.keys(LOOKS).map((look) => {
        const here = crowd.filter((place) => place.look === look);
        return here.length > 0 && svg("path", { class: `crowd look-${look}`, d: here.map((place) => dot(place, 6 * sizeOf(place))).join("") });
      }),
      drawing.callouts.map(leader),
      [...alone].map((place) => peerLink(place, Math.max(sizeOf(place), 0.75))),
      drawing.callouts.map(calloutText),
      hub(drawing),
    ];
  }

  function hub({ x, y, inner }) {
    const radius = Math.min(inner - 6, 38);
    return svg(
      "g",
      { class: "hub", transform: `translate(${x} ${y})` },
      svg("circle", { r: radius }),
      svg("text", { y: -3, class: "hub-as" }, `AS ${status.local_as}`),
      svg("text", { y: 12, class: "hub-role" }, status.role === "reflector" ? "reflector" : "this node"),
    );
  }

  function sectorShape(drawing, sector) {
    const radius = drawing.outer + 10;
    const middle = (sector.from + sector.to) / 2;
    const below = Math.cos(middle) < -0.2;
    const id = `arc-${sector.kind}`;
    const words = `${KIND_LABELS[sector.kind]} ${number(sector.count)}`;
    const fits = words.length * 6.6 < (sector.to - sector.from) * radius;
    return svg(
      "a",
      { class: "sector", href: link("peers", "", { kind: sector.kind }), "data-key": `kind ${sector.kind}`, tabindex: -1, "aria-label": `${words}: show as a table` },
      svg("path", { class: "sector-area", d: ringPart(drawing, sector, drawing.inner, drawing.outer + 4) }),
      svg("path", { class: "sector-arc", d: arc(drawing, sector.from, sector.to, drawing.outer + 4) }),
      svg("path", { id, class: "guide", d: below ? arc(drawing, sector.to, sector.from, radius + 11, true) : arc(drawing, sector.from, sector.to, radius) }),
      svg("text", { class: "sector-label" }, svg("textPath", { href: `#${id}`, startOffset: "50%" }, fits ? words : number(sector.count))),
    );
  }

  function peerLink(place, size) {
    const { peer, look } = place;
    const changed = before.size > 0 && before.get(peer.name) !== look;
    return svg(
      "a",
      {
        class: `peer look-${look}${changed ? " changed" : ""}`,
        href: link("peers", peer.name),
        "data-key": `peer ${peer.name}`,
        tabindex: -1,
        transform: `translate(${place.x.toFixed(1)} ${place.y.toFixed(1)})`,
        "aria-label": `${clip(peer.name, 80)}: ${stateText(peer)}`,
      },
      svg("circle", { class: "halo", r: 6 * size + 6 }),
      svg("path", { d: shapePath(look), "fill-rule": "evenodd", transform: `scale(${size.toFixed(2)})` }),
    );
  }

  function leader({ place, side, x: end, y }) {
    const bend = end - side * 14;
    return svg("path", { class: "leader", d: `M${place.x.toFixed(1)} ${place.y.toFixed(1)}L${bend} ${y}H${end}` });
  }

  function calloutText({ place, side, x, y, width }) {
    const most = Math.max(6, Math.floor(width / 7.2));
    const name = place.peer.node ?? place.peer.name;
    return svg(
      "text",
      { class: `callout look-${place.look}`, x: x + side * 5, y: y + 4, "text-anchor": side < 0 ? "end" : "start", "aria-hidden": "true" },
      clip(name, most),
    );
  }

  // One tab stop; arrow keys go around.
  const stops = () => [...picture.querySelectorAll("a")];
  function rove(key, focus) {
    const all = stops();
    const found = all.find((one) => one.dataset.key === key) ?? all[0];
    for (const one of all) one.setAttribute("tabindex", one === found ? "0" : "-1");
    current = found?.dataset.key ?? "";
    if (focus) found?.focus();
  }
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = stops();
    const at = all.findIndex((one) => one.dataset.key === current);
    const next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : step && (at + step + all.length) % all.length;
    if (next === undefined || all.length === 0) return;
    event.preventDefault();
    rove(all[next].dataset.key, true);
  });
  picture.addEventListener("focusin", (event) => {
    const anchor = event.target.closest("a");
    if (!anchor) return;
    rove(anchor.dataset.key, false);
    const place = places.find((one) => `peer ${one.peer.name}` === anchor.dataset.key);
    if (place) showTip(place);
    else tip.hidden = true;
  });
  picture.addEventListener("focusout", () => (tip.hidden = true));

  function nearest(event) {
    const box = picture.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = REACH;
    for (const place of places) {
      const distance = Math.hypot(place.x - x, place.y - y);
      if (distance < least) [best, least] = [place, distance];
    }
    return best;
  }
  function showTip(place) {
    fill(tip, h("strong", {}, h("bdi", { class: "code" }, clip(place.peer.name, 60))), h("span", {}, stateText(place.peer)), h("bdi", { class: "code dim" }, place.peer.address));
    tip.hidden = false;
    const room = element.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(0, Math.min(room, place.x + 12))}px`;
    tip.style.top = `${Math.max(0, place.y + 14)}px`;
  }
  picture.addEventListener("pointermove", (event) => {
    const place = nearest(event);
    if (place) showTip(place);
    else tip.hidden = true;
    picture.classList.toggle("over-peer", place !== null);
  });
  picture.addEventListener("pointerleave", () => (tip.hidden = true));
  picture.addEventListener("click", (event) => {
    const place = event.detail > 0 ? nearest(event) : null; // a key on a link is no click near a peer
    if (!place) return;
    event.preventDefault();
    location.hash = link("peers", place.peer.name);
  });

  const sizes = new ResizeObserver(draw);
  sizes.observe(element);
  return {
    element,
    show(nextPeers, nextStatus) {
      peers = nextPeers;
      status = nextStatus;
      draw();
    },
    stop: () => sizes.disconnect(),
  };
}

// How large a peer is drawn, as a part of a shape's natural size.
function sizeOf({ spacing }) {
  return Math.max(0.34, Math.min(1.25, spacing / 26));
}

// A dot of the crowd, as a part of a path: the shape of its look, about `size` wide.
function dot({ x, y, look }, size) {
  const r = size * 0.9;
  const to = (value) => value.toFixed(2);
  const [left, top] = [to(x), to(y)];
  if (look === "up" || look === "stale") return `M${to(x - r)} ${top}a${to(r)} ${to(r)} 0 1 0 ${to(2 * r)} 0a${to(r)} ${to(r)} 0 1 0 ${to(-2 * r)} 0z`;
  if (look === "shut") return `M${left} ${to(y - r)}l${to(r)} ${to(r)}l${to(-r)} ${to(r)}l${to(-r)} ${to(-r)}z`;
  if (look === "connecting") return `M${left} ${to(y - r)}l${to(r)} ${to(1.8 * r)}h${to(-2 * r)}z`;
  return `M${to(x - r)} ${to(y - r)}h${to(2 * r)}v${to(2 * r)}h${to(-2 * r)}z`;
}

function at({ x, y }, angle, radius) {
  return `${(x + radius * Math.sin(angle)).toFixed(1)} ${(y - radius * Math.cos(angle)).toFixed(1)}`;
}

function arc(centre, from, to, radius, back = false) {
  const large = Math.abs(to - from) > Math.PI ? 1 : 0;
  return `M${at(centre, from, radius)}A${radius} ${radius} 0 ${large} ${back ? 0 : 1} ${at(centre, to, radius)}`;
}

function ringPart(centre, { from, to }, inner, outer) {
  const large = to - from > Math.PI ? 1 : 0;
  return `M${at(centre, from, outer)}A${outer} ${outer} 0 ${large} 1 ${at(centre, to, outer)}L${at(centre, to, inner)}A${inner} ${inner} 0 ${large} 0 ${at(centre, from, inner)}z`;
}
