"""A real browser that looks at a site: Debian's chromium, driven by playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.programs import require_programs

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PASSWORD = "for tests alone"
PATIENCE_MS = 30_000

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Tab:
    """A page of the browser, and what went wrong on it."""

    page: Page
    site: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Go to a page of the site."""
        self.page.goto(self.site + path)

    def log_in(self, username: str) -> None:
        """Log in by the form."""
        self.open("admin/")
        self.page.fill("#id_username", username)
        self.page.fill("#id_password", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_selector("#rm-live")

    def bar(self) -> float:
        """Return how far the first bar reaches, in percent."""
        style = self.page.locator(".rm-fill").first.get_attribute("style") or ""
        return float(style.removeprefix("width: ").rstrip("%;"))

    def watch(self) -> None:
        """Note errors of scripts and requests that leave the host."""
        self.page.on("console", lambda each: self.faults.append(each.text) if each.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda each: self._note_stranger(each.url))

    def _note_stranger(self, url: str) -> None:
        if not url.startswith((self.site, "data:")):
            self.faults.append(f"asked {url}")


@contextmanager
def browser() -> Iterator[Browser]:
    """Start the browser."""
    require_programs("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield launched
        launched.close()


@contextmanager
def tab(launched: Browser, site: str, *, width: int = 1280, scheme: str = "light") -> Iterator[Tab]:
    """Open a page with cookies of its own."""
    context = launched.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened = Tab(context.new_page(), site)
    opened.watch()
    yield opened
    context.close()
