"""Takes the pictures of the documentation from a running platform.

    make demo
    make up                                  # in another terminal
    python docs/take_screenshots.py          # the ports of `make up` are the defaults

Needs Chromium with its driver (Debian: `apt-get install chromium chromium-driver`) and two packages
that the platform itself does not need; give them an environment of their own:

    python3 -m venv /tmp/pictures && /tmp/pictures/bin/pip install selenium pillow
    /tmp/pictures/bin/python docs/take_screenshots.py

Every picture is made twice as wide as a page of text and reduced to 128 colours, so that the
repository stays small. A page that does not show what it should within a minute is an error.
"""

import argparse
import io
import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1600, 1000
COLOURS = 128
MAX_BYTES = 300_000
PATIENCE_SECONDS = 60
SETTLE_SECONDS = 3
GROUPS = ("ingest", "features", "labels", "training", "evaluation", "promotion", "monitoring")
"""As in `assets.STAGES`."""


class Browser:
    """Headless Chromium on a fresh profile."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, address: str, *texts: str) -> None:
        """Go to a page and wait until it shows all these texts."""
        self._driver.get(address)
        for text in texts:
            self.wait(f"{text!r} on {address}", lambda text=text: text in self.text())
        time.sleep(SETTLE_SECONDS)

    def text(self) -> str:
        """What the page shows."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def click(self, text: str, *, last: bool = False) -> None:
        """Click on the element with exactly this text."""
        path = f'//*[normalize-space(text())="{text}"]'
        found: list[WebElement] = []

        def look() -> bool:
            found[:] = self._driver.find_elements(By.XPATH, path)
            return bool(found)

        self.wait(f"something to click with the text {text!r}", look)
        self._driver.execute_script(
            "arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()",
            found[-1 if last else 0],
        )
        time.sleep(SETTLE_SECONDS)

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Look until something is there.

        Raises:
            TimeoutError: it is not; the message has what the page shows instead.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                if done():
                    return
            except WebDriverException:
                pass  # the page was still being drawn
            time.sleep(0.5)
        raise TimeoutError(f"found no {what}; the page shows:\n{self.text()[:2000]}")

    def save(self, name: str) -> None:
        """Write what is visible to docs/images.

        Raises:
            ValueError: the picture is too large for the repository.
        """
        picture = Image.open(io.BytesIO(self._driver.get_screenshot_as_png())).convert("RGB")
        path = IMAGES / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"found {path.stat().st_size} bytes in {path}, expected {MAX_BYTES}")
        print(f"{path} {path.stat().st_size // 1000} kB")  # noqa: T201 -- for the person at the terminal


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium, and end it."""
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={WIDTH},{HEIGHT}",
        ):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
