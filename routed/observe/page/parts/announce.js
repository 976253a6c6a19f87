// What a screen reader hears of changes: few and short sentences, gathered.
import { write } from "./dom.js";

const PAUSE = 4000;
let waiting = [];
let timer = 0;
let last = -PAUSE;

/** Say something soon. Things that are said within a few seconds become one announcement, and of the same
 *  `topic` only the latest. */
export function announce(topic, text) {
  waiting = waiting.filter((one) => one.topic !== topic);
  waiting.push({ topic, text });
  if (!timer) timer = setTimeout(say, Math.max(100, PAUSE - (performance.now() - last)));
}

function say() {
  timer = 0;
  last = performance.now();
  const texts = waiting.map((one) => one.text);
  waiting = [];
  write(document.getElementById("announcer"), texts.slice(0, 3).join(". "));
}
