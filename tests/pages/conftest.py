"""A real Chromium, and a scorer without a broker whose page it looks at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from streaming.scorer.schema import DomainFacets, ScoreRequest
from tests.pages.feed import tell
from tests.streaming.scorer.scoring_parts import FakeBackend, make_backbone, packed, record, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
_PATIENCE_MS = 120_000
"""A busy machine takes long over a page with a chart."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Of this folder alone: while it is open its loop runs, and no other test could run one."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, in a container, there is no sandbox to be had.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def backend() -> FakeBackend:
    """A scorer that has taken some kernels, of a group that drifts."""
    backend = FakeBackend()
    backend.active.clock = time.time
    backbone = make_backbone()
    for version in (3, 4):
        backend.active.take([record(packed(backbone, version, time=time.time() - 60 + version))])
    tell(backend.told, time.time())
    backend.page.asked(ScoreRequest("196", ["a", "b", "c", "d", "e"], DomainFacets("home", "unknown", "day")))
    return backend


@pytest.fixture
def address(backend: FakeBackend) -> Iterator[str]:
    """Where it is served."""
    with serving(backend=backend) as port:
        yield f"http://127.0.0.1:{port}"


@dataclass
class Visit:
    """One open page, and what it did that it should not."""

    page: Page
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    """Requests to others than the scorer."""
    asked: list[str] = field(default_factory=list)
    """Paths that were asked for."""

    def look_again(self) -> None:
        """Asks the scorer now instead of in some seconds."""
        with self.page.expect_response("**/v1/history?*"):
            self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def text(self, selector: str) -> str:
        """The text of an element."""
        return self.page.locator(selector).inner_text()

    def waits_for(self, selector: str, text: str) -> None:
        """Returns once the element contains `text`."""
        self.page.wait_for_function(
            "([where, what]) => document.querySelector(where).textContent.includes(what)", arg=[selector, text]
        )


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens an address and watches what the page does."""
    contexts = []

    def open_(address: str, path: str = "/", *, ready: str | None = ".js-plotly-plot", **options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1_280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        opened = Visit(page)
        page.on("pageerror", lambda error: opened.errors.append(str(error)))

        def asked(request: Any) -> None:
            parts = urlsplit(request.url)
            if parts.scheme != "data":
                opened.asked.append(parts.path)
            if not request.url.startswith((address, "data:")):
                opened.outside.append(request.url)

        page.on("request", asked)
        page.goto(address + path)
        if ready is not None:
            page.wait_for_selector(ready)
        return opened

    yield open_
    for context in contexts:
        context.close()
