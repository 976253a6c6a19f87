"""The page in a browser, and what must be true of each visit to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, Request

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


class Pages:
    """Pages of a browser: one that visits use in turn, since a new one takes its time; and others, for what
    has to be said before a page is made."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._shared: Page | None = None

    def take(self, **options: Any) -> Page:
        """A blank page. One with `options` of a browser context is closed by `give_back`."""
        if options or self._shared is None:
            context = self._browser.new_context(**options)
            context.set_default_timeout(60_000)
            context.add_init_script(_WATCHER)
            page = context.new_page()
            if options:
                return page
            self._shared = page
        return self._shared

    def give_back(self, page: Page) -> None:
        """The page is no longer needed."""
        if page is self._shared:
            page.goto("about:blank")
        else:
            page.context.close()


class Visit:
    """A page that looks at one node."""

    def __init__(
        self,
        pages: Pages,
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
        self._pages = pages
        # A clock is for good: such a page is not shared.
        self.page = pages.take(**options, **({"viewport": None} if clock else {}))
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme=theme)
        if clock:
            self.page.clock.install()
        self._listeners: dict[Any, Any] = {
            "console": self._console,
            "pageerror": self._page_error,
            "dialog": self._dialog,
            "request": self._request,
        }
        for event, listener in self._listeners.items():
            self.page.on(event, listener)

    def _page_error(self, error: object) -> None:
        self.errors.append(f"page error: {error}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

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
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        self._pages.give_back(self.page)
        assert self.errors == []
        assert [one for one in self.requests if not one.startswith(self.url)] == []
