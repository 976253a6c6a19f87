// Small things that several views are made of.
import { fill, h } from "./dom.js";
import { failure, loading, staleNote } from "./notices.js";
import { glyph, LOOKS, lookOf, stateText } from "./states.js";
import { clip, clock, wholeTime } from "./text.js";
import { watch } from "../watch.js";

/** The heading of a view; it is where the focus goes when the view is opened. */
export function heading(text, ...beside) {
  return h("div", { class: "view-head" }, h("h1", { tabindex: -1 }, text), ...beside);
}

/** A text of a peer or a record: isolated, so that its direction touches nothing else. */
export function foreign(text, most = 120) {
  return h("bdi", {}, clip(text, most));
}

/** A name, address or prefix. */
export function code(text, most = 120) {
  return h("bdi", { class: "code" }, clip(text, most));
}

/** A long text of a peer or record, wrapped where it must be. */
export function longText(text, most = 2000) {
  return h("bdi", { class: "long" }, clip(text, most));
}

export function time(text) {
  return h("time", { datetime: text, title: wholeTime(text) }, clock(text));
}

/** A peer's state: its shape and its word. */
export function stateSign(peer) {
  const look = lookOf(peer);
  return h("span", { class: `sign look-${look}` }, glyph(look), stateText(peer));
}

export function lookSign(look, text = LOOKS[look].label) {
  return h("span", { class: `sign look-${look}` }, glyph(look), text);
}

/** A yes or no with a shape and a word. */
export function yesNo(good, yes, no) {
  return lookSign(good ? "up" : "down", good ? yes : no);
}

/** Terms and what they are; entries [term, value]; a value of null leaves the term out. */
export function facts(entries, kind = "") {
  return h(
    "dl",
    { class: `facts ${kind}` },
    entries.filter(([, value]) => value !== null && value !== undefined).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))),
  );
}

export function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), ...content);
}

let fields = 0;

/** A labelled field of a filter line. */
export function field(label, control, kind = "") {
  control.id = `field-${++fields}`;
  return h("div", { class: `field ${kind}` }, h("label", { for: control.id }, label), control);
}

/** A choice; `options` are [value, text]. */
export function choice(options, chosen, changed) {
  const select = h("select", { on: { change: () => changed(select.value) } }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return select;
}

/** A text field whose changes are told when typing pauses. */
export function typed(value, placeholder, changed) {
  let timer = 0;
  const tell = () => {
    clearTimeout(timer);
    timer = 0;
    changed(input.value.trim());
  };
  const input = h("input", {
    type: "text", value, placeholder, spellcheck: "false", autocomplete: "off", autocapitalize: "none", maxlength: 300,
    on: {
      input: () => {
        clearTimeout(timer);
        timer = setTimeout(tell, 250);
      },
      change: tell,
    },
  });
  return input;
}

/** Watch a document for a part of a view: `content` says that it is read, then what `shown(document)` draws,
 *  or why it could not be read. `note` is where it is said that what is shown is old. Gives {stop, again}. */
export function watched(element, what, path, options, shown) {
  const content = h("div", { class: "content" });
  const note = h("div", { class: "notes" });
  fill(element, loading(what));
  let stopWatching = () => {};
  let there = false;
  let said = "";
  const start = () => {
    stopWatching();
    if (said) fill(element, loading(what));
    said = "";
    stopWatching = watch(
      path,
      options,
      (document) => {
        if (!there) fill(element, note, content);
        there = true;
        fill(note);
        shown(document, content);
      },
      (error) => {
        if (there) fill(note, staleNote(error));
        else if (said !== error.message) fill(element, failure(error.message, error.hint, start));
        said = error.message;
      },
    );
  };
  start();
  return { stop: () => stopWatching() };
}
