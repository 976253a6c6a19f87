// Why something is, or is not: the chain of gates, and the one that stopped it.
import { get } from "../api.js";
import { fill, h } from "../parts/dom.js";
import { empty, failure, loading } from "../parts/notices.js";
import { card, code, facts, foreign, heading, longText, lookSign } from "../parts/pieces.js";
import { link } from "../parts/places.js";
import { clip, count, number } from "../parts/text.js";
import { standing } from "./routes.js";

const OUTCOMES = { pass: ["up", "Passed"], stop: ["down", "Stopped here"], info: ["stale", "Noted"] };
const PATHS = 50;

export function explain({ name }) {
  const body = h("div", { class: "explained" });
  const again = h("button", { type: "button", on: { click: () => read() } }, "Explain anew");
  const element = h("div", { class: "view" }, heading(h("span", {}, "Explain ", name ? h("bdi", { class: "code" }, clip(name, 120)) : ""), name ? again : null), body);
  let ending = new AbortController();

  async function read() {
    ending.abort();
    ending = new AbortController();
    const { signal } = ending;
    fill(body, loading("the explanation"));
    try {
      const explanation = await get("explain", { target: name }, signal);
      fill(body, chain(explanation));
      if (explanation.kind !== "peer") {
        const routes = await get("routes", { prefix: prefixOf(explanation), limit: PATHS }, signal);
        body.append(paths(routes));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (body.querySelector(".chain")) body.append(failure("The paths could not be read", error.message));
      else fill(body, failure(error.message, error.hint, read));
    }
  }
  if (name) read();
  else fill(body, empty("Nothing is asked for", "Type a prefix, an address or a peer's name into the field at the top; the key / leads there."));
  return { title: `Explain ${clip(name, 40)}`, element, stop: () => ending.abort() };
}

// The prefix that the explanation came to, where it is about an address.
function prefixOf(explanation) {
  return explanation.kind === "prefix" ? explanation.target : (explanation.steps.findLast((step) => step.prefix)?.prefix ?? explanation.target);
}

function chain(explanation) {
  return [
    h("p", { class: "verdict" }, lookSign(explanation.ok ? "up" : "down", ""), h("span", { class: explanation.ok ? "" : "bad" }, longText(explanation.verdict))),
    explanation.kind === "peer" && h("p", {}, h("a", { href: link("peers", explanation.target) }, "The peering")),
    h(
      "ol",
      { class: "chain", "aria-label": `${count(explanation.steps.length, "gate")}, in order` },
      explanation.steps.map((step) => stepItem(step, same(step, explanation.stopped_by))),
    ),
  ];
}

function same(step, other) {
  return other !== null && step.outcome === "stop" && step.gate === other.gate && step.text === other.text;
}

function stepItem(step, first) {
  const [look, word] = OUTCOMES[step.outcome] ?? OUTCOMES.info;
  return h(
    "li",
    { class: `step step-${step.outcome in OUTCOMES ? step.outcome : "info"}${first ? " first-stop" : ""}` },
    h("div", { class: "step-head" }, h("h2", { class: "step-gate" }, h("bdi", {}, clip(step.gate, 40))), lookSign(look, step.outcome === "stop" && !first ? "Stopped" : word)),
    h("p", {}, longText(step.text)),
    facts(
      [
        ["Record", step.record && code(step.record, 160)],
        ["Field", step.field && code(step.field, 160)],
        ["Peer", step.peer && h("a", { href: link("peers", step.peer) }, code(step.peer, 80))],
        ["Prefix", step.prefix && h("a", { href: link("explain", step.prefix) }, code(step.prefix))],
      ],
      "inline",
    ),
  );
}

function paths({ routes, total }) {
  if (routes.length === 0) return card("Paths", h("p", { class: "dim" }, "There is no path."));
  return card(
    "Paths",
    total > routes.length && h("p", { class: "dim" }, `The first ${routes.length} of ${number(total)}.`),
    h("ul", { class: "paths" }, routes.map(pathItem)),
  );
}

function pathItem(route) {
  return h(
    "li",
    { class: "path" },
    h("div", { class: "step-head" }, h("h3", {}, code(route.prefix), h("span", { class: "dim" }, " from "), route.peer_address ? h("a", { href: link("peers", route.source) }, code(route.source, 80)) : code(route.source, 80)), lookSign(...standing(route))),
    facts([
      ["Not eligible", route.ineligible && longText(route.ineligible)],
      ["Not best", route.not_best && longText(route.not_best)],
      ["Next hop", [route.next_hop === null ? "this node" : code(route.next_hop), route.interface && [" via ", code(route.interface)]]],
      ["Reachable", route.reachable ? null : [lookSign("down", "No"), route.unreachable_reason && [" ", longText(route.unreachable_reason)]]],
      ["IGP cost", route.igp_cost],
      ["AS path", route.as_path ? code(route.as_path, 400) : "empty"],
      ["Origin", foreign(route.origin, 40)],
      ["Local preference", route.local_pref],
      ["MED", route.med],
      ["Communities", route.communities.length ? chips(route.communities) : null],
      ["Large communities", route.large_communities.length ? chips(route.large_communities) : null],
      ["Originator ID", route.originator_id && code(route.originator_id)],
      ["Cluster list", route.cluster_list.length ? code(route.cluster_list.join(" "), 400) : null],
      ["Path identifier", route.path_id],
      ["Kernel", route.kernel && longText(route.kernel)],
      ["Record", route.origin_record && code(route.origin_record, 160)],
      ["Originated because", route.origin_reason && longText(route.origin_reason)],
    ]),
  );
}

function chips(texts) {
  return h("ul", { class: "chips" }, texts.slice(0, 40).map((one) => h("li", {}, code(one, 60))), texts.length > 40 && h("li", {}, `${number(texts.length - 40)} more`));
}
