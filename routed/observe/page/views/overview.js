// The node at a glance: is it well, its peers as a graph, and what stands behind it.
import { graph } from "../parts/graph.js";
import { eventItem } from "../parts/event_line.js";
import { fill, h, oncePerFrame, patch, write } from "../parts/dom.js";
import { empty } from "../parts/notices.js";
import { card, code, facts, foreign, heading, longText, lookSign, stateSign, time, watched, yesNo } from "../parts/pieces.js";
import { link } from "../parts/places.js";
import { LOOKS, lookOf } from "../parts/states.js";
import { age, byFamily, clip, compareTexts, count, duration, FAMILIES, number, sum } from "../parts/text.js";
import { stream } from "../stream.js";
import { watch } from "../watch.js";

const SESSION_KINDS = ["session-up", "session-down", "peer-added", "peer-removed", "peer-shut-down", "peer-brought-up", "stale-routes"];
const STATUS_KINDS = [...SESSION_KINDS, "converged", "draining", "drain-ended", "stopping", "datastore-lost", "datastore-back", "records-read", "problem", "problem-solved", "kernel-error"];
const CARDS = { node: nodeCard, routes: routesCard, datastore: datastoreCard, kernel: kernelCard, problems: problemsCard };
const NAMED = 5;
const LATEST = 8;

export function overview() {
  const picture = graph();
  const verdict = h("p", { class: "verdict" });
  const attention = h("div", {});
  const body = h("div", {});
  const latest = h("ol", { class: "events" });
  const name = h("bdi", {}, "This node");
  const element = h("div", { class: "view overview" }, heading(name), body);
  const places = Object.fromEntries(Object.keys(CARDS).map((name) => [name, h("div", {})]));
  let status = null;
  let peers = null;
  let drawnTo = 0;

  const draw = () => {
    if (!status) return;
    patch(verdict, verdictText(status, peers));
    patch(attention, attentionList(peers));
    if (peers) picture.show(peers, status);
  };
  const drawEvents = () => {
    if (stream.events.length === 0) {
      fill(latest, h("li", { class: "dim" }, "Nothing has happened yet."));
      drawnTo = 0;
      return;
    }
    if (!drawnTo) fill(latest);
    for (const event of stream.events.slice(-LATEST)) if (event.number > drawnTo) latest.prepend(eventItem(event));
    drawnTo = stream.last;
    while (latest.children.length > LATEST) latest.lastChild.remove();
  };

  const stopStatus = watched(body, "the node's status", "status", { every: 5, kinds: STATUS_KINDS }, (read, content) => {
    status = read;
    write(name, clip(read.node, 80));
    if (!content.firstChild) {
      fill(
        content,
        verdict,
        attention,
        h(
          "section",
          { class: "card graph-card", "aria-label": "Peers" },
          h("div", { class: "card-head" }, h("h2", {}, "Peers"), h("a", { href: link("peers") }, "Show as a table")),
          picture.element,
          legend(),
        ),
        h(
          "div",
          { class: "cards" },
          places.node, places.routes, h("div", { class: "stack" }, places.datastore, places.kernel), places.problems,
          h("div", { class: "wide" }, card("Latest events", latest, h("p", { class: "more" }, h("a", { href: link("events") }, "All events")))),
        ),
      );
      drawEvents();
    }
    for (const [name, made] of Object.entries(CARDS)) patch(places[name], made(read));
    draw();
  });
  const stopPeers = watch("peers", { every: 30, kinds: SESSION_KINDS }, (read) => ((peers = read.peers), draw()), () => {});
  const drawSoon = oncePerFrame(drawEvents);
  const unlisten = stream.listen((events) => {
    if (events === null) drawnTo = 0;
    drawSoon();
  });
  return {
    title: "Overview",
    element,
    stop() {
      stopStatus.stop();
      stopPeers();
      unlisten();
      picture.stop();
    },
  };
}

/** One sentence that says whether all is well. */
export function verdictText(status, peers) {
  const down = status.peers - (status.peers_by_state.established ?? 0);
  const shut = peers ? peers.filter((peer) => lookOf(peer) === "shut").length : 0;
  const missing = down - shut;
  const sessions =
    status.peers === 0
      ? "No peers are configured."
      : missing > 0
        ? `${number(missing)} of ${count(status.peers, "session")} ${missing === 1 ? "is" : "are"} not up.`
        : shut
          ? `All wanted sessions are up; ${count(shut, "peer is", "peers are")} shut down.`
          : `${status.peers === 1 ? "The session is" : `All ${number(status.peers)} sessions are`} up.`;
  return [
    h("span", { class: missing > 0 ? "bad" : "" }, sessions),
    status.draining ? h("span", { class: "bad" }, " The node is draining.") : "",
    status.datastore?.lost_since ? h("span", { class: "bad" }, " The datastore is lost.") : "",
    !status.converged ? h("span", {}, " Not converged yet.") : "",
  ];
}

function attentionList(peers) {
  const wanting = (peers ?? []).filter((peer) => !["up", "shut"].includes(lookOf(peer)));
  if (wanting.length === 0) return null;
  wanting.sort((a, b) => LOOKS[lookOf(a)].rank - LOOKS[lookOf(b)].rank || compareTexts(a.name, b.name));
  return h(
    "ul",
    { class: "attention", "aria-label": "Sessions that are not up" },
    wanting.slice(0, NAMED).map((peer) =>
      h("li", {}, stateSign(peer), h("a", { href: link("peers", peer.name) }, code(peer.name, 60)), peer.node && foreign(peer.node, 60), peer.last_error && h("span", { class: "dim cut" }, foreign(peer.last_error, 160))),
    ),
    wanting.length > NAMED && h("li", {}, h("a", { href: link("peers", "", { state: "not-up" }) }, `${number(wanting.length - NAMED)} more`)),
  );
}

function legend() {
  return h("ul", { class: "legend", "aria-label": "What the shapes mean" }, Object.keys(LOOKS).map((look) => h("li", {}, lookSign(look))));
}

function nodeCard(status) {
  return card(
    "Node",
    facts([
      ["Router ID", code(status.router_id)],
      ["AS", String(status.local_as)],
      ["Cluster ID", status.cluster_id && code(status.cluster_id)],
      ["Role", status.role === "reflector" ? "Route reflector" : "Node"],
      ["Ready", yesNo(status.ready, "Yes", "No")],
      ["Converged", status.converged ? lookSign("up", "Yes") : lookSign("connecting", "Not yet")],
      ["Draining", status.draining ? lookSign("shut", "Yes") : "No"],
      ["Running for", h("span", { title: status.started_at }, duration(status.uptime))],
      ["Listens on", status.listening.length ? status.listening.map((one) => h("span", { class: "line" }, code(one))) : "nothing"],
      ["Version", foreign(status.version, 40)],
    ]),
  );
}

function routesCard(status) {
  const rows = [
    ["Prefixes", status.routes, { scope: "best" }],
    ["Paths", status.paths, { scope: "all" }],
    ...(status.kernel ? [["In the kernel", status.kernel.installed, { scope: "kernel" }], ["Kept out of it", status.kernel.kept_out, { scope: "rejected" }]] : []),
  ];
  const families = Object.keys(FAMILIES);
  return card(
    "Routes",
    h(
      "table",
      { class: "plain" },
      h("thead", {}, h("tr", {}, h("td", {}), families.map((family) => h("th", { scope: "col" }, FAMILIES[family])))),
      h("tbody", {}, rows.map(([label, values, query]) => h("tr", {}, h("th", { scope: "row" }, h("a", { href: link("routes", "", query) }, label)), families.map((family) => h("td", {}, number(values[family] ?? 0)))))),
    ),
    facts([
      ["Originated here", number(status.originated)],
      ["Blocks held", h("a", { href: link("blocks") }, number(status.blocks))],
      ["UPDATEs received", number(status.updates_received)],
      ["UPDATEs sent", number(status.updates_sent)],
    ]),
  );
}

function datastoreCard({ datastore }) {
  if (!datastore) return card("Datastore", h("p", { class: "dim" }, "It works without records."));
  return card(
    "Datastore",
    facts([
      ["State", datastoreState(datastore)],
      ["Lost since", datastore.lost_since && time(datastore.lost_since)],
      ["Why", datastore.lost_reason && longText(datastore.lost_reason)],
      ["Records last came", datastore.changed_at ? [time(datastore.changed_at), h("span", { class: "dim" }, `, ${duration(age(datastore.changed_at))} ago`)] : "not yet"],
      ["Lost", datastore.losses === 0 ? "never" : count(datastore.losses, "time")],
    ]),
  );
}

function datastoreState(datastore) {
  if (datastore.lost_since) return lookSign("down", "Lost");
  return yesNo(datastore.synced, "In sync", "Reading the first snapshot");
}

function kernelCard({ kernel }) {
  if (!kernel) return card("Kernel", h("p", { class: "dim" }, "No routes are programmed, by design."));
  if (kernel.error) return card("Kernel", lookSign("down", "No routes are programmed"), h("p", {}, longText(kernel.error)));
  return card(
    "Kernel",
    facts([
      ["State", kernel.failed ? lookSign("connecting", "Some routes refused") : lookSign("up", "Programmed")],
      ["Installed", byFamily(kernel.installed)],
      ["Refused, tried again", number(kernel.failed)],
      ["Kept out", sum(kernel.kept_out) ? h("a", { href: link("routes", "", { scope: "rejected" }) }, byFamily(kernel.kept_out)) : "0"],
    ]),
  );
}

function problemsCard(status) {
  const incidents = flat(status.incidents);
  return card(
    "Problems",
    status.problems.length
      ? h("ul", { class: "problems" }, status.problems.slice(0, 20).map((problem) => h("li", {}, longText(problem, 600))))
      : empty("None", "The records are as they should be."),
    status.problems.length > 20 && h("p", { class: "dim" }, `${number(status.problems.length - 20)} more; \`routed show intent\` shows all.`),
    incidents.length > 0 && [h("h3", {}, "What peers did wrong"), facts(incidents.map(([name, value]) => [foreign(name, 80), typeof value === "number" ? number(value) : foreign(value, 200)]))],
  );
}

// Counters by name, those in groups with the group's name before theirs; what is nought is left out.
function flat(counters, group = "") {
  return Object.entries(counters).flatMap(([key, value]) => {
    const name = `${group}${key.replaceAll("_", " ")}`;
    if (value !== null && typeof value === "object") return flat(value, `${name}: `);
    return value ? [[name, value]] : [];
  });
}
