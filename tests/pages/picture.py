"""Takes the picture of the page that the README shows: `python -m tests.pages.picture ADDRESS FILE`."""

from __future__ import annotations

import sys

from playwright.sync_api import sync_playwright

from tests.pages.conftest import CHROMIUM

WIDTH, HEIGHT = 1_120, 1_180


def take(address: str, path: str) -> None:
    """Waits for the chart of the page at `address`, and writes what a window shows to `path`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(address)
        page.locator("#chart .main-svg").first.wait_for()
        page.locator("#domains tbody tr").first.wait_for()
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    take(*sys.argv[1:3])
