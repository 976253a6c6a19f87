"""The page in a browser, and what must be true of each visit to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page

VIEWS: Final = (
    "overview",
    "peers",
    "peers/Mesh_10_240_0_3",
    "routes",
    "blocks",
    "rates",
    "events",
    "explain/10.66.4.0/24",
    "explain",
)
#: Counts main-thread work of more than 50 ms, and dialogs and scripts that must not be.
_WATCHER: Final = """
window.longTasks = [];
new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((one) => one.duration)))
  .observe({ type: "longtask", buffered: true });
"""


class Visit:
    """One page in a browser context of its own."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        width: int = 1280,
        height: int = 800,
        theme: Literal["light", "dark"] = "light",
        network_errors: bool = False,
        clock: bool = False,
        **options: Any,
    ) -> None:
        """`network_errors`: requests that fail are what the test is about; `clock`: the page's time is
        `page.clock`'s."""
        self.url = url
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._network_errors = network_errors
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            **options,
        )
        self._context.set_default_timeout(10_000)
        self._context.add_init_script(_WATCHER)
        self.page: Page = self._context.new_page()
        if clock:
            self.page.clock.install()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _dialog(self, dialog: Dialog) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if self._network_errors and "Failed to load resource" in message.text:
            return
        self.errors.append(f"console: {message.text}")

    def go(self, place: str) -> None:
        """Show a place, such as `peers?state=down`, and wait until its data are there, or the reason for
        none."""
        from playwright.sync_api import expect

        self.page.goto(f"{self.url}#/{place}")
        expect(self.page.locator("main h1")).to_have_count(1)
        expect(self.page.locator(".state.loading")).to_have_count(0)

    def find(self, selector: str) -> Locator:
        """Elements."""
        return self.page.locator(selector)

    def role(self, role: Any, name: str | None = None, **options: Any) -> Locator:
        """Elements by role and accessible name."""
        return self.page.get_by_role(role, name=name, **options)

    def run(self, script: str, value: Any = None) -> Any:
        """What a script in the page gives."""
        return self.page.evaluate(script, value)

    def module(self, name: str, expression: str, value: Any = None) -> Any:
        """What an expression gives, with the exports of a module of the page as `m`, and a value as `v`."""
        script = f"async (v) => {{ const m = await import('/page/{name}'); return {expression}; }}"
        return self.page.evaluate(script, value)

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def close(self) -> None:
        """No script failed, no policy was broken, and nothing but the node was asked for anything."""
        self._context.close()
        assert self.errors == []
        assert [one for one in self.requests if not one.startswith(self.url)] == []
