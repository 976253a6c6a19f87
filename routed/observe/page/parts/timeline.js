// When a session was up, as a strip over the time that its kept events span.
import { h, svg } from "./dom.js";
import { clock, duration } from "./text.js";

/** Spans from the history: [{from, to, up}], milliseconds. Before the first event nothing is known. */
export function spans(history, nowUp, now) {
  const marks = history
    .filter((event) => event.kind === "session-up" || event.kind === "session-down")
    .map((event) => ({ time: Date.parse(event.time), up: event.kind === "session-up" }));
  return marks.map((mark, at) => ({ from: mark.time, to: marks[at + 1]?.time ?? now, up: marks[at + 1] ? mark.up : nowUp }));
}

export function timeline(history, peer, now = Date.now()) {
  const found = spans(history, peer.state === "established", now);
  if (found.length === 0) return null;
  const first = found[0].from;
  const whole = Math.max(1, now - first);
  const up = found.reduce((sum, one) => sum + (one.up ? one.to - one.from : 0), 0);
  const words = `Up ${duration(up / 1000)} of the ${duration(whole / 1000)} since ${clock(first)}`;
  return h(
    "figure",
    { class: "timeline" },
    svg(
      "svg",
      { viewBox: "0 0 1000 16", preserveAspectRatio: "none", role: "img", "aria-label": words },
      found.map((one) => {
        const x = (1000 * (one.from - first)) / whole;
        const width = Math.max(1.5, (1000 * (one.to - one.from)) / whole);
        // Up is high, down is low: it reads without colour.
        return svg("rect", { class: one.up ? "was-up" : "was-down", x, width, y: one.up ? 0 : 10, height: one.up ? 16 : 6 });
      }),
    ),
    h("figcaption", { class: "dim" }, words),
  );
}
