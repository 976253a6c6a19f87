// The theme: the system's, light or dark; kept in this browser.
import { fill, h, svg } from "./dom.js";

const THEMES = {
  system: { next: "light", label: "System", path: "M3 4.5h14v9.5h-14zM7 17h6" },
  light: { next: "dark", label: "Light", path: "M10 6.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7zM10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6 16 16M4 16l1.4-1.4M14.6 5.4 16 4" },
  dark: { next: "system", label: "Dark", path: "M15.5 12.5a6.5 6.5 0 0 1-8-8a6.5 6.5 0 1 0 8 8z" },
};

export function themeButton(button) {
  let theme = document.documentElement.dataset.theme ?? "system";
  const show = () => {
    const { label, path } = THEMES[theme];
    fill(
      button,
      svg("svg", { viewBox: "0 0 20 20", width: 18, height: 18, "aria-hidden": "true" }, svg("path", { d: path, class: "line" })),
      h("span", { class: "wide-only" }, label),
    );
    button.setAttribute("aria-label", `Theme: ${label}. Change to ${THEMES[THEMES[theme].next].label.toLowerCase()}`);
    button.title = `Theme: ${label}`;
  };
  button.addEventListener("click", () => {
    theme = THEMES[theme].next;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      if (theme === "system") localStorage.removeItem("routed.theme");
      else localStorage.setItem("routed.theme", theme);
    } catch {
      // Storage is forbidden: the theme lasts as long as the page.
    }
    show();
  });
  show();
}
