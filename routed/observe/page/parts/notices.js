// What stands in the place of data: while it is read, where there is none, and where it could not be read.
import { h } from "./dom.js";
import { visible } from "./text.js";

export function loading(what) {
  return h("div", { class: "state loading" }, h("span", { class: "bar", "aria-hidden": "true" }), h("p", {}, `Reading ${what}`));
}

export function empty(title, hint = "") {
  return h("div", { class: "state" }, h("p", { class: "state-title" }, title), hint && h("p", {}, hint));
}

/** Why there is nothing, and what to do; `again` is offered as a button. */
export function failure(title, hint = "", again = null) {
  return h(
    "div",
    { class: "state failed", role: "alert" },
    h("p", { class: "state-title" }, visible(title)),
    hint && h("p", {}, visible(hint)),
    again && h("p", {}, h("button", { type: "button", on: { click: again } }, "Try again")),
  );
}

/** A line above data that could not be read anew. */
export function staleNote(error) {
  return h("p", { class: "note warn", role: "status" }, `This could not be read anew: ${visible(error.message)}. ${visible(error.hint ?? "")}`);
}
