// Runs before the first paint, so that a kept theme does not flash. The button is made in parts/theme_button.js.
(() => {
  "use strict";
  try {
    const kept = localStorage.getItem("routed.theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch {
    // Storage is forbidden: the system's theme is used.
  }
})();
