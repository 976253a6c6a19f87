// Documents that are kept fresh while somebody looks: read anew at intervals and when an event says so; never
// while the page is hidden, and never so often that answering would be the server's main work.
import { get } from "./api.js";
import { stream } from "./stream.js";

const AFTER_EVENT = 400;
const REST = 5; // times as long as the answer took

const latest = new Map();

/** Keep a document fresh. `every`: seconds; `kinds`: kinds of events after which it is read anew; `query` for
 *  the path. `shown(document)` is called with each answer, at once where an earlier one is there;
 *  `failed(error)` with each failure. Returns how to stop. */
export function watch(path, { every, kinds = [], query = {} }, shown, failed) {
  const key = `${path}?${new URLSearchParams(query)}`;
  const ending = new AbortController();
  let timer = 0;
  let due = Infinity;
  let busy = false;
  let again = false;
  let earliest = 0;

  const schedule = (wait) => {
    const now = performance.now();
    const at = Math.max(now + wait, earliest);
    if (timer && at >= due) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(read, at - now);
  };
  const read = async () => {
    timer = 0;
    due = Infinity;
    if (document.hidden || ending.signal.aborted) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    const began = performance.now();
    try {
      const answer = await get(path, query, ending.signal);
      latest.set(key, answer);
      if (!ending.signal.aborted) shown(answer);
    } catch (error) {
      if (!ending.signal.aborted) failed(error);
    }
    busy = false;
    earliest = performance.now() + REST * Math.max(0, performance.now() - began);
    if (!ending.signal.aborted) schedule(again ? 0 : every * 1000);
    again = false;
  };

  const unlisten = stream.listen((events) => {
    if (events === null || events.some((event) => kinds.includes(event.kind) || event.kind === "missed")) schedule(AFTER_EVENT);
  });
  const unstate = stream.onState((state, before) => state === "live" && before === "lost" && schedule(0));
  const seen = () => !document.hidden && schedule(0);
  document.addEventListener("visibilitychange", seen);

  if (latest.has(key)) shown(latest.get(key));
  schedule(0);
  return () => {
    ending.abort();
    clearTimeout(timer);
    unlisten();
    unstate();
    document.removeEventListener("visibilitychange", seen);
  };
}

/** The latest answer that was read for a path, or undefined. */
export function known(path) {
  return latest.get(`${path}?`);
}
