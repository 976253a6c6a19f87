// Events as they come: one EventSource for the page, taken up again when it breaks, and nothing lost in between
// that the server still keeps.
import { get, STREAM } from "./api.js";

const KEPT = 2048;
const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15_000;
// A page that is hidden for so long hears nothing: a browser keeps few connections to a server, for all its tabs.
const HIDDEN_FOR = 20_000;
const KINDS = [
  "started", "stopping", "converged", "draining", "drain-ended", "peer-added", "peer-removed", "session-up",
  "session-down", "peer-shut-down", "peer-brought-up", "peer-refreshed", "stale-routes", "bad-update", "routes",
  "datastore-lost", "datastore-back", "records-read", "problem", "problem-solved", "kernel-error", "missed",
];
export { KINDS };

class Stream {
  events = [];
  /** `connecting`, `live`, `lost`, or `paused` while the page is hidden. */
  state = "connecting";
  /** When the connection was lost, milliseconds since 1970. */
  lostAt = 0;
  #listeners = new Set();
  #stateListeners = new Set();
  #source = null;
  #wait = FIRST_WAIT;
  #timer = 0;
  #hidden = 0;
  #started = "";
  /** Events that came before those that were kept have been read; null: they have. */
  #early = null;

  /** Call `heard` with each list of new events, oldest first; with null when the server began anew and all
   *  earlier events are void. Returns how to stop. */
  listen(heard) {
    this.#listeners.add(heard);
    return () => this.#listeners.delete(heard);
  }

  /** Call `changed` with each new state, and the one before. Returns how to stop. */
  onState(changed) {
    this.#stateListeners.add(changed);
    return () => this.#stateListeners.delete(changed);
  }

  get last() {
    return this.events.at(-1)?.number ?? 0;
  }

  start() {
    clearTimeout(this.#timer);
    this.#source?.close();
    const source = new EventSource(STREAM);
    this.#source = source;
    const take = (message) => this.#take(message.data);
    source.addEventListener("message", take);
    for (const kind of KINDS) source.addEventListener(kind, take);
    source.addEventListener("open", () => this.#opened(source));
    source.addEventListener("error", () => this.#broke(source));
  }

  /** Hear events from now on, while the page is seen. */
  follow() {
    this.start();
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#hidden);
      if (document.hidden) this.#hidden = setTimeout(() => this.#pause(), HIDDEN_FOR);
      else if (this.state === "paused") this.retry();
    });
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.#become("paused");
  }

  /** Try again at once. */
  retry() {
    this.#wait = FIRST_WAIT;
    this.start();
  }

  // What happened before the stream was open, or while it was not.
  async #opened(source) {
    this.#wait = FIRST_WAIT;
    this.#early = [];
    try {
      const { started_at: started } = await get("status");
      const anew = this.#started !== "" && started !== this.#started;
      const kept = await get("events", { after: anew ? 0 : this.last });
      if (source !== this.#source) return;
      this.#started = started;
      if (anew) {
        this.events = [];
        this.#tell(null);
      }
      this.#add(kept.events);
    } catch {
      // The stream is there all the same: the events from now on are heard.
    }
    if (source !== this.#source) return;
    const early = this.#early ?? [];
    this.#early = null;
    this.#add(early);
    this.#become("live");
  }

  #broke(source) {
    if (source !== this.#source) return;
    source.close();
    this.#become("lost");
    this.#timer = setTimeout(() => this.start(), this.#wait);
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT);
  }

  #take(text) {
    let event;
    try {
      event = JSON.parse(text);
    } catch {
      return;
    }
    if (event.number === 0) this.#tell([event]); // "missed": it has no place among the numbers
    else if (this.#early) this.#early.push(event);
    else this.#add([event]);
  }

  // In the order of numbers, each once: the answer to `get` and the stream overlap.
  #add(events) {
    const fresh = events.filter((event) => event.number > this.last);
    if (fresh.length === 0) return;
    this.events = [...this.events, ...fresh].slice(-KEPT);
    this.#tell(fresh);
  }

  #tell(events) {
    for (const heard of this.#listeners) heard(events);
  }

  #become(state) {
    if (state === this.state) return;
    if (state === "lost") this.lostAt = Date.now();
    const before = this.state;
    this.state = state;
    for (const changed of this.#stateListeners) changed(state, before);
  }
}

export const stream = new Stream();
