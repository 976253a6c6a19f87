// Counters over time.
import { chart, perSecond } from "../parts/chart.js";
import { fill, h } from "../parts/dom.js";
import { empty } from "../parts/notices.js";
import { heading, watched } from "../parts/pieces.js";
import { clock, duration, number, rate } from "../parts/text.js";

const gauge = (field) => (samples) => samples.map((sample) => ({ time: Date.parse(sample.time), value: sample[field] }));
const CHARTS = [
  { title: "Established sessions", field: "established", points: gauge("established"), format: number, whole: true },
  { title: "Prefixes", field: "routes", points: gauge("routes"), format: number, whole: true },
  { title: "UPDATEs received", field: "updates_received", unit: "per second", points: (samples) => perSecond(samples, "updates_received"), format: rate },
  { title: "UPDATEs sent", field: "updates_sent", unit: "per second", points: (samples) => perSecond(samples, "updates_sent"), format: rate },
  { title: "Changes of routes", field: "route_changes", unit: "per second", points: (samples) => perSecond(samples, "route_changes"), format: rate },
];
const IN_TABLE = 60;

export function rates() {
  const charts = CHARTS.map((one) => ({ ...one, drawn: chart(one) }));
  const grid = h("div", { class: "charts" }, charts.map((one) => one.drawn.element));
  const span = h("p", { class: "count" });
  const rows = h("tbody", {});
  const details = h(
    "details",
    {},
    h("summary", {}, "The latest samples as a table"),
    h("table", { class: "plain" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), CHARTS.map((one) => h("th", { scope: "col" }, one.title)))), rows),
  );
  const body = h("div", {});
  const element = h("div", { class: "view" }, heading("Rates"), body);
  let samples = [];
  const drawRows = () => {
    if (!details.open) return;
    const latest = samples.slice(-IN_TABLE).reverse();
    fill(rows, latest.map((sample) => h("tr", {}, h("th", { scope: "row" }, clock(sample.time)), CHARTS.map(({ field }) => h("td", {}, number(sample[field]))))));
  };
  details.addEventListener("toggle", drawRows);
  const watching = watched(body, "the rates", "rates", { every: 5 }, (read, content) => {
    samples = read.samples;
    if (samples.length < 2) {
      if (!grid.isConnected) fill(content, empty("Not enough samples yet", `One is taken every ${duration(read.interval)} while somebody looks; two make a line.`));
      return;
    }
    if (!grid.isConnected) fill(content, span, grid, details);
    span.textContent = `${duration((Date.parse(samples.at(-1).time) - Date.parse(samples[0].time)) / 1000)}, a sample every ${duration(read.interval)}`;
    for (const { drawn, points } of charts) drawn.show(points(samples));
    drawRows();
  });
  return {
    title: "Rates",
    element,
    stop() {
      watching.stop();
      for (const { drawn } of charts) drawn.stop();
    },
  };
}
