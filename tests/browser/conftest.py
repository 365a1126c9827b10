"""The real app with the bundled index, and a real browser that may talk to it alone."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
# Chromium's own background services would look up Google's hosts; they are not the page's requests.
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(address: str, process: subprocess.Popen | None = None) -> None:
    for _ in range(600):
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the app ended with status {process.returncode}")
        try:
            if urllib.request.urlopen(address, timeout=2).status == 200:
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(f"{address} did not open within a minute")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The real app, started as a user starts it, offline."""
    port = free_port()
    app = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--offline"], cwd=ROOT)
    try:
        wait_until_open(f"http://127.0.0.1:{port}/", app)
        yield f"http://127.0.0.1:{port}/"
    finally:
        app.kill()
        app.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        message = "No Chromium: install Debian's package chromium (sudo apt install chromium) to run the browser tests."
        if os.environ.get("MAJLIS_BROWSER_REQUIRED"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield found
        found.close()


@pytest.fixture
def open_page(browser, address) -> Iterator:
    """open_page(locale, dark=False, width=1280) -> a page; afterwards no request may have gone anywhere but to the app, and no script may have failed."""
    contexts: list[BrowserContext] = []
    asked: list[str] = []
    problems: list[str] = []

    def open_one(locale: str = "en-GB", dark: bool = False, width: int = 1280, to: str = address) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 860}, locale=locale, color_scheme="dark" if dark else "light")
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(to)
        page.wait_for_selector("#question textarea")
        # the interface has taken the browser's language when the attribute is set
        page.wait_for_function(f"document.documentElement.lang === '{locale[:2]}'")
        return page

    yield open_one
    foreign = [url for url in asked if not url.startswith(("http://127.0.0.1", "data:", "blob:"))]
    for context in contexts:
        context.close()
    assert foreign == []
    assert problems == []


def ask(page: Page, question: str) -> None:
    """Type, send, and wait for the time line that ends an answer."""
    before = page.locator(".m-question").count()
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")
    page.wait_for_function(f"document.querySelectorAll('.m-question').length > {before}")
    page.locator(".m-answer >> nth=-1").locator(".m-time, :scope.m-failed").first.wait_for()
