// A line over time, with a cursor for pointer and keyboard that reads values out.
import { fill, h, oncePerFrame, set, svg, write } from "./dom.js";
import { clock } from "./text.js";

const HEIGHT = 132;
const MARGIN = { left: 52, right: 10, top: 10, bottom: 22 };

/** A chart: {element, show(points), stop}, points {time: milliseconds, value: number or null}, oldest first.
 *  `format` makes a value text; `unit` stands behind it; `whole` says that there are no
 *  values between whole numbers. */
export function chart({ title, unit = "", format, whole = false }) {
  const picture = svg("svg", { class: "chart", tabindex: 0, role: "slider", "aria-label": title, "aria-orientation": "horizontal" });
  const value = h("span", { class: "chart-value" }, "\u2013");
  const when = h("span", { class: "chart-when dim" });
  const heading = h("h2", { class: "chart-title" }, title);
  const element = h("section", { class: "chart-card" }, h("div", { class: "chart-head" }, heading, h("p", {}, value, " ", h("span", { class: "dim" }, unit), when)), picture);
  let points = [];
  let chosen = null; // index; null: the latest
  let place = null;

  const words = (point) => (point.value === null ? "none" : `${format(point.value)}${unit ? ` ${unit}` : ""}`);

  const draw = oncePerFrame(() => {
    const width = Math.round(picture.parentElement?.clientWidth ?? 0) - 32;
    if (width <= 0) return;
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    picture.setAttribute("width", width);
    picture.setAttribute("height", HEIGHT);
    const known = points.filter((point) => point.value !== null);
    if (known.length === 0) {
      fill(picture);
      set(picture, "aria-valuenow", 0);
      set(picture, "aria-valuetext", "no samples yet");
      return;
    }
    place = scales(points, known, width, whole);
    fill(picture, grid(place, width), lines(points, place), svg("g", { class: "cursor" }));
    point();
  });

  function grid({ ticks, y, times, x }, width) {
    return [
      ticks.map((tick) => [
        svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }),
        svg("text", { class: "axis", x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, format(tick)),
      ]),
      times.map((time, index) =>
        svg("text", { class: "axis", x: x(time), y: HEIGHT - 4, "text-anchor": index === 0 ? "start" : index === times.length - 1 ? "end" : "middle" }, clock(time)),
      ),
    ];
  }

  function point() {
    const index = Math.max(0, Math.min(points.length - 1, chosen ?? points.length - 1));
    const here = points[index];
    if (!here || !place) return;
    write(value, here.value === null ? "\u2013" : format(here.value));
    write(when, chosen === null ? "" : ` at ${clock(here.time)}`);
    set(picture, "aria-valuemin", 0);
    set(picture, "aria-valuemax", points.length - 1);
    set(picture, "aria-valuenow", index);
    set(picture, "aria-valuetext", `${words(here)} at ${clock(here.time)}`);
    const cursor = picture.querySelector(".cursor");
    fill(
      cursor,
      chosen !== null && svg("line", { x1: place.x(here.time), x2: place.x(here.time), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      here.value !== null && svg("circle", { cx: place.x(here.time), cy: place.y(here.value), r: 3.5 }),
    );
  }

  picture.addEventListener("pointermove", (event) => {
    if (!place || points.length === 0) return;
    const time = place.time(event.clientX - picture.getBoundingClientRect().left);
    chosen = points.reduce((best, one, index) => (Math.abs(one.time - time) < Math.abs(points[best].time - time) ? index : best), 0);
    point();
  });
  const leave = () => {
    chosen = null;
    point();
  };
  picture.addEventListener("pointerleave", leave);
  picture.addEventListener("blur", leave);
  picture.addEventListener("keydown", (event) => {
    const last = points.length - 1;
    const from = chosen ?? last;
    const next = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1, Home: 0, End: last, PageUp: from + 10, PageDown: from - 10 }[event.key];
    if (event.key === "Escape") leave();
    if (next === undefined) return;
    event.preventDefault();
    chosen = Math.max(0, Math.min(last, next));
    point();
  });
  const sizes = new ResizeObserver(draw);
  sizes.observe(element);
  return {
    element,
    show(shown) {
      points = shown;
      draw();
    },
    stop: () => sizes.disconnect(),
  };
}

function scales(points, known, width, whole) {
  const [first, last] = [points[0].time, points.at(-1).time];
  const ticks = niceTicks(Math.max(...known.map((one) => one.value)), whole);
  const [low, high] = [ticks[0], ticks.at(-1)];
  const [left, right] = [MARGIN.left, width - MARGIN.right];
  const [top, bottom] = [MARGIN.top, HEIGHT - MARGIN.bottom];
  const span = Math.max(1, last - first);
  const x = (time) => left + ((right - left) * (time - first)) / span;
  const y = (value) => bottom - ((bottom - top) * (value - low)) / (high - low);
  const time = (at) => first + (span * (at - left)) / (right - left);
  const many = width > 520 ? 4 : 2;
  const times = Array.from({ length: many }, (_, index) => first + (span * index) / (many - 1));
  return { x, y, time, ticks, times, bottom };
}

/** Two to five round numbers from zero on that hold all values up to `high`; whole ones, if asked for. */
export function niceTicks(high, whole = false) {
  const rough = (high > 0 ? high : 1) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const step = whole ? Math.max(1, Math.ceil(nice)) : nice;
  const steps = Math.max(1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: steps + 1 }, (_, index) => Number((index * step).toPrecision(10)));
}

// A line is broken where a value is missing.
function lines(points, { x, y, bottom }) {
  const runs = [];
  let run = [];
  for (const one of points) {
    if (one.value !== null) run.push(one);
    else if (run.length) {
      runs.push(run);
      run = [];
    }
  }
  if (run.length) runs.push(run);
  return runs.map((part) => {
    const line = part.map((one, index) => `${index ? "L" : "M"}${x(one.time).toFixed(1)} ${y(one.value).toFixed(1)}`).join("");
    const area = `${line}L${x(part.at(-1).time).toFixed(1)} ${bottom}L${x(part[0].time).toFixed(1)} ${bottom}z`;
    return [svg("path", { class: "area", d: area }), svg("path", { class: "line", d: line })];
  });
}

/** From samples with counters to values a second: null where the counter was set back or time stood still. */
export function perSecond(samples, field) {
  return samples.slice(1).map((sample, index) => {
    const before = samples[index];
    const seconds = (Date.parse(sample.time) - Date.parse(before.time)) / 1000;
    const more = sample[field] - before[field];
    return { time: Date.parse(sample.time), value: seconds > 0 && more >= 0 ? more / seconds : null };
  });
}
