// Whether what is shown is live: a sign in the header, and a bar across the page where it is not.
import { announce } from "./announce.js";
import { fill, h } from "./dom.js";
import { stream } from "../stream.js";
import { clock } from "./text.js";

const WORDS = { connecting: "Connecting", live: "Live", lost: "Connection lost", paused: "Paused" };

export function connectionSign(sign) {
  const bar = h(
    "section",
    { class: "lost-bar", "aria-label": "Connection", hidden: true },
    h("p", {}),
    h("button", { type: "button", on: { click: () => stream.retry() } }, "Try now"),
  );
  document.querySelector("header.top").after(bar);
  let wasLost = false;
  const show = (state) => {
    sign.dataset.state = state;
    fill(sign, h("span", { class: "dot", "aria-hidden": "true" }), h("span", {}, WORDS[state]));
    bar.hidden = state !== "lost";
    if (state === "lost") {
      bar.querySelector("p").textContent = `The connection to routed was lost at ${clock(stream.lostAt)}. What is shown may be old; it is tried again.`;
      announce("connection", "Connection to routed lost");
    } else if (state === "live" && wasLost) {
      announce("connection", "Connected to routed again");
    }
    wasLost = state === "lost";
  };
  stream.onState(show);
  show(stream.state);
}
