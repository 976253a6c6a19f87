// The search field: what is typed is explained; peers that match are offered on the way.
import { get } from "../api.js";
import { fill, h } from "./dom.js";
import { link } from "./places.js";
import { glyph, lookOf } from "./states.js";
import { clip } from "./text.js";
import { known } from "../watch.js";

const OFFERED = 8;

export function searchField(form) {
  const input = form.querySelector("input");
  const list = form.querySelector("ul");
  let names = [];
  let chosen = -1;

  const close = () => {
    list.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const go = (target) => {
    if (!target) return;
    close();
    input.value = "";
    input.blur();
    location.hash = link("explain", target);
  };
  const choose = (index) => {
    chosen = index;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === index)));
    if (index >= 0) input.setAttribute("aria-activedescendant", `search-option-${index}`);
    else input.removeAttribute("aria-activedescendant");
  };
  const offer = (peers) => {
    const wanted = input.value.trim().toLowerCase();
    const found = wanted
      ? peers.filter((peer) => `${peer.name} ${peer.address} ${peer.node ?? ""}`.toLowerCase().includes(wanted)).slice(0, OFFERED)
      : [];
    names = found.map((peer) => peer.name);
    fill(
      list,
      found.map((peer, at) =>
        h(
          "li",
          { role: "option", id: `search-option-${at}`, "aria-selected": "false", on: { pointerdown: (event) => (event.preventDefault(), go(peer.name)) } },
          glyph(lookOf(peer)),
          h("bdi", { class: "code" }, clip(peer.name, 80)),
          h("bdi", { class: "dim code" }, peer.address),
        ),
      ),
    );
    list.hidden = found.length === 0;
    input.setAttribute("aria-expanded", String(found.length > 0));
    choose(-1);
  };
  let read = null;
  const peers = () => {
    const there = known("peers");
    if (there) return Promise.resolve(there.peers);
    read ??= get("peers").then((document) => document.peers, () => ((read = null), []));
    return read;
  };

  input.addEventListener("input", () => peers().then(offer));
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const last = names.length - 1;
    if (event.key === "Escape") {
      if (list.hidden) input.value = "";
      close();
    } else if (event.key === "ArrowDown" && !list.hidden) {
      choose(chosen >= last ? -1 : chosen + 1);
    } else if (event.key === "ArrowUp" && !list.hidden) {
      choose(chosen < 0 ? last : chosen - 1);
    } else {
      return;
    }
    event.preventDefault();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(chosen >= 0 ? names[chosen] : input.value.trim());
  });
  addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
}
