// One peering, whole: its session, timers, what was agreed on, counters, and its history.
import { part } from "../api.js";
import { eventItem } from "../parts/event_line.js";
import { h, patch } from "../parts/dom.js";
import { card, code, facts, foreign, heading, longText, stateSign, time, watched } from "../parts/pieces.js";
import { link } from "../parts/places.js";
import { KIND_LABELS, kindOf } from "../parts/states.js";
import { clip, count, duration, FAMILIES, number } from "../parts/text.js";
import { timeline } from "../parts/timeline.js";

const KINDS = ["session-up", "session-down", "peer-removed", "peer-shut-down", "peer-brought-up", "peer-refreshed", "stale-routes", "bad-update"];
const MESSAGES = [["open", "OPEN"], ["update", "UPDATE"], ["keepalive", "KEEPALIVE"], ["notification", "NOTIFICATION"], ["route_refresh", "ROUTE-REFRESH"]];

export function peer({ name }) {
  const body = h("div", {});
  const element = h(
    "div",
    { class: "view" },
    h("p", { class: "crumb" }, h("a", { href: link("peers") }, "Peers")),
    heading(h("bdi", { class: "code" }, clip(name, 160))),
    body,
  );
  const watching = watched(body, "the peer", `peers/${part(name)}`, { every: 5, kinds: KINDS }, (read, content) => patch(content, sheet(read)));
  return { title: clip(name, 60), element, stop: watching.stop };
}

function sheet(peer) {
  return [
    h(
      "p",
      { class: "lead" },
      stateSign(peer),
      peer.established_for !== null ? h("span", {}, `for ${duration(peer.established_for)}`) : null,
      h("a", { href: link("explain", peer.name) }, "Explain"),
    ),
    peer.shut_down !== null && h("div", { class: "note" }, h("p", {}, "Shut down by an operator", peer.shut_down ? [": ", longText(peer.shut_down)] : ".")),
    peer.last_error && h("div", { class: "note warn" }, h("h2", { class: "note-title" }, "Last error"), h("p", {}, longText(peer.last_error))),
    h(
      "div",
      { class: "cards" },
      card("Peer", facts([
        ["Address", code(`${peer.address.includes(":") ? `[${peer.address}]` : peer.address}:${peer.port}`)],
        ["Local address", peer.local_address && code(peer.local_address)],
        ["AS", peer.remote_as === null ? "any" : String(peer.remote_as)],
        ["Local AS", String(peer.local_as)],
        ["Router ID", peer.router_id && code(peer.router_id)],
        ["Kind", KIND_LABELS[kindOf(peer)]],
        ["Node", peer.node && foreign(peer.node)],
        ["Record", peer.record && code(peer.record)],
        ["Connects", peer.passive ? "only the peer does" : "either side"],
        ["Next hop", foreign(peer.next_hop_mode)],
        ["Filters", peer.filters.length ? peer.filters.slice(0, 20).map((one) => h("span", { class: "line" }, code(one))) : null],
        ["At most", peer.max_prefixes === null ? null : count(peer.max_prefixes, "prefix", "prefixes")],
      ])),
      card("Session", facts([
        ["Up since", peer.since && time(peer.since)],
        ["Flaps", number(peer.flaps)],
        ["Hold time", peer.agreed ? `${peer.agreed.hold_time} s agreed, ${peer.configured_hold_time} s configured` : `${peer.configured_hold_time} s configured`],
        ["Hold timer", timer(peer.hold_timer)],
        ["Keepalive timer", timer(peer.keepalive_timer)],
        ["Its routes are kept for", peer.agreed?.restart_time != null ? `${peer.agreed.restart_time} s` : null],
        ["Ours are to be kept for", `${peer.restart_time} s`],
        ["TCP-MD5", peer.protection.tcp_md5 ? (peer.protection.old_password_in_use ? "on, the old password still in use" : "on") : "off"],
        ["TTL security", peer.protection.ttl_security_hops === null ? "off" : count(peer.protection.ttl_security_hops, "hop")],
        ["Segments dropped", peer.protection.segments_dropped ? number(peer.protection.segments_dropped) : null],
        ["Not yet taken", `${number(peer.unsent_octets)} octets`],
      ])),
      h("div", { class: "stack" }, routesCard(peer), messagesCard(peer)),
      capabilitiesCard(peer),
      h("div", { class: "wide" }, historyCard(peer)),
    ),
  ];
}

function historyCard(peer) {
  return card(
    "History",
    timeline(peer.history, peer),
    h("ol", { class: "events" }, peer.history.length ? [...peer.history].reverse().map((event) => eventItem(event, { whole: true, peer: false })) : h("li", { class: "dim" }, "Nothing has happened that is still kept.")),
  );
}

function timer(seconds) {
  return seconds === null ? null : `${seconds.toFixed(1)} s left`;
}

function routesCard(peer) {
  const families = Object.keys(FAMILIES).filter((family) => peer.families.includes(family) || family in peer.received || family in peer.advertised);
  const rows = [
    ["Received", peer.received, link("routes", "", { received_from: peer.name })],
    ["Rejected", peer.rejected, null],
    ["Advertised", peer.advertised, link("routes", "", { advertised_to: peer.name })],
    ["Peers in its export group", peer.export_groups, null],
  ];
  return card(
    "Routes",
    h(
      "table",
      { class: "plain" },
      h("thead", {}, h("tr", {}, h("td", {}), families.map((family) => h("th", { scope: "col" }, FAMILIES[family])))),
      h("tbody", {}, rows.filter(([, values]) => values !== null).map(([label, values, href]) => h("tr", {}, h("th", { scope: "row" }, href ? h("a", { href }, label) : label), families.map((family) => h("td", {}, number(values[family] ?? 0)))))),
    ),
    facts([
      ["Looped, not used", peer.ignored ? number(peer.ignored) : null],
      ["Because of", peer.ignored_reason && longText(peer.ignored_reason)],
      ["Bad UPDATEs", peer.bad_updates ? number(peer.bad_updates) : null],
    ]),
  );
}

function messagesCard(peer) {
  return card(
    "Messages",
    h(
      "table",
      { class: "plain" },
      h("thead", {}, h("tr", {}, h("td", {}), h("th", { scope: "col" }, "Received"), h("th", { scope: "col" }, "Sent"))),
      h("tbody", {}, MESSAGES.map(([field, label]) => h("tr", {}, h("th", { scope: "row" }, label), h("td", {}, number(peer.messages_received[field])), h("td", {}, number(peer.messages_sent[field]))))),
    ),
  );
}

function capabilitiesCard(peer) {
  const { agreed } = peer;
  const both = agreed && [
    ["Families", agreed.families.map((family) => FAMILIES[family] ?? family).join(", ")],
    ["ADD-PATH received", agreed.add_path_receive.map((family) => FAMILIES[family] ?? family).join(", ") || "no"],
    ["ADD-PATH sent", agreed.add_path_send.map((family) => FAMILIES[family] ?? family).join(", ") || "no"],
    ["Route refresh", agreed.enhanced_route_refresh ? "enhanced" : agreed.route_refresh ? "yes" : "no"],
    ["Graceful restart", agreed.long_lived_graceful_restart ? "yes, long-lived too" : agreed.graceful_restart ? "yes" : "no"],
    ["Extended messages", agreed.extended_messages ? "yes" : "no"],
    ["Four-octet AS", agreed.four_octet_as ? "yes" : "no"],
  ];
  return card(
    "Capabilities",
    both ? facts(both) : h("p", { class: "dim" }, "Nothing is agreed on until the session is up."),
    peer.capabilities.length > 0 && [h("h3", {}, "In the peer's OPEN"), h("ul", { class: "chips" }, peer.capabilities.slice(0, 60).map((one) => h("li", {}, foreign(one, 100))))],
  );
}
