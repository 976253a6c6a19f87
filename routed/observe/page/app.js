// The page: which view is shown, and what is around it.
import { announce } from "./parts/announce.js";
import { connectionSign } from "./parts/connection.js";
import { failure } from "./parts/notices.js";
import { parse } from "./parts/places.js";
import { searchField } from "./parts/search.js";
import { clip, count } from "./parts/text.js";
import { themeButton } from "./parts/theme_button.js";
import { stream } from "./stream.js";
import { watch } from "./watch.js";
import { blocks } from "./views/blocks.js";
import { events } from "./views/events.js";
import { explain } from "./views/explain.js";
import { overview } from "./views/overview.js";
import { peer } from "./views/peer.js";
import { peers } from "./views/peers.js";
import { rates } from "./views/rates.js";
import { routes } from "./views/routes.js";

// A view is made for a place, {name, query}, and gives {title, element, stop, change}; `change(place)` is
// optional: the same view, for another query.
const VIEWS = { overview, peers: (place) => (place.name ? peer : peers)(place), routes, blocks, rates, events, explain };

const main = document.getElementById("main");
let shown = null;
let shownKey = "";

function show() {
  const place = parse(location.hash);
  const key = `${place.view}/${place.name}`;
  if (shown && key === shownKey && shown.change) {
    shown.change(place);
    return;
  }
  const first = shown === null;
  shown?.stop();
  shownKey = key;
  const make = VIEWS[place.view];
  shown = make
    ? make(place)
    : { title: "Not found", element: failure("There is no such view", "The link may be of another version."), stop() {} };
  main.replaceChildren(shown.element);
  document.title = `${shown.title} \u00b7 ${nodeName()} \u00b7 routed`;
  for (const anchor of document.querySelectorAll("#nav a")) {
    const current = anchor.getAttribute("href") === `#/${place.view}`;
    if (current) anchor.setAttribute("aria-current", place.name ? "true" : "page");
    else anchor.removeAttribute("aria-current");
  }
  if (!first) {
    scrollTo(0, 0);
    main.querySelector("h1")?.focus({ preventScroll: true });
  }
}

let node = "";
function nodeName() {
  return node || "node";
}

function hearSessions(events) {
  if (events === null) {
    announce("process", "routed was started anew");
    return;
  }
  for (const [kind, what] of [["session-down", "down"], ["session-up", "up"]]) {
    const names = [...new Set(events.filter((event) => event.kind === kind && event.peer).map((event) => event.peer))];
    if (names.length === 1) announce(kind, `Session with ${clip(names[0], 60)} ${what}`);
    else if (names.length > 1) announce(kind, `${count(names.length, "session")} ${what}`);
  }
}

// A hash is a place here, so the link to the content is followed by hand.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
themeButton(document.getElementById("theme-button"));
connectionSign(document.getElementById("connection"));
searchField(document.getElementById("search"));
addEventListener("hashchange", show);
show();
// What was before the page was opened is no news.
const unwait = stream.onState((state) => {
  if (state !== "live") return;
  unwait();
  stream.listen(hearSessions);
});
stream.follow();
watch(
  "status",
  { every: 60 },
  (status) => {
    node = clip(status.node, 80);
    document.getElementById("node-name").textContent = node;
    document.title = `${shown.title} \u00b7 ${node} \u00b7 routed`;
  },
  () => {},
);
