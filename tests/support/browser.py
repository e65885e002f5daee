# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people see of a page: in Chromium, without a display."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

WIDTHS = (1280, 390)
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


class Browser:
    """Chromium with one of ``pages``, each of which writes itself to a path."""

    def __init__(self, driver: webdriver.Chrome, directory: Path, pages: Mapping[str, Callable[[str], None]]) -> None:
        self.driver, self.directory, self.pages = driver, directory, pages

    def show(self, name: str, width: int = 1280) -> None:
        """Show a page at a width in CSS pixels."""
        path = self.directory / f"{name}.html"
        if not path.exists():
            self.pages[name](str(path))
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(path.as_uri())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        return self.driver.execute_script(f"return {script}")

    def log(self, kind: str) -> list[str]:
        """What a log of the browser got since it was read last."""
        return [entry["message"] for entry in self.driver.get_log(kind)]  # type: ignore[no-untyped-call]

    def texts(self, selector: str) -> list[str]:
        """The visible texts of some elements."""
        return [element.text for element in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def shapes(self, selector: str) -> list[dict[str, float]]:
        """Where some shapes are, without their strokes: x and width in pixels."""
        place = "e => { const m = e.getScreenCTM(), b = e.getBBox(); return {x: m.e + b.x, width: b.width} }"
        found: list[dict[str, float]] = self.run(f"[...document.querySelectorAll({selector!r})].map({place})")
        return found

    def boxes(self, selector: str) -> list[dict[str, float]]:
        """Where some elements are: x and width in pixels."""
        found: list[dict[str, float]] = self.run(
            f"[...document.querySelectorAll({selector!r})].map(e => e.getBoundingClientRect().toJSON())"
        )
        return found

    def scheme(self, scheme: str) -> None:
        """Prefer a colour scheme from here on: light or dark; empty for none."""
        features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def low_contrasts(self) -> tuple[int, list[list[str]]]:
        """How many pairs of a text's colour and of what is behind it there are, and those below 4.5 to 1.

        WCAG 2.2, 1.4.3: https://www.w3.org/TR/WCAG22/
        """
        pairs = {tuple(pair) for pair in self.run(_TEXTS_AND_WHAT_IS_BEHIND)}
        return len(pairs), [list(pair) for pair in pairs if contrast(*pair) < 4.5]


@contextlib.contextmanager
def chromium(directory: Path, pages: Mapping[str, Callable[[str], None]]) -> Iterator[Browser]:
    """Chromium without a display, as long as the block lasts."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield Browser(driver, directory, pages)
    finally:
        driver.quit()


def writers(
    documents: Mapping[str, Callable[[], dict[str, Any]]], write: Callable[[dict[str, Any], str], None]
) -> dict[str, Callable[[str], None]]:
    """The pages of some documents, by name."""

    def page(document: Callable[[], dict[str, Any]]) -> Callable[[str], None]:
        return lambda path: write(document(), path)

    return {name: page(document) for name, document in documents.items()}


def assert_shows_alone(browser: Browser, name: str, width: int, folded: str) -> None:
    """Show a page: it has no errors, asks for no other file, and is not wider than the window with all unfolded."""
    browser.log("performance")  # What was before does not count.
    browser.show(name, width)
    assert browser.log("browser") == []
    log = "".join(browser.log("performance"))
    assert '"url":"file:///' in log
    for scheme in ("http:", "https:", "ws:", "wss:"):
        assert f'"url":"{scheme}//' not in log
    browser.run(f"document.querySelectorAll({folded!r}).forEach(d => d.open = true)")
    assert browser.run("document.documentElement.scrollWidth") == width


# Numbers on a bar lie on the part before them; other text on the nearest background above it.
_TEXTS_AND_WHAT_IS_BEHIND = """(() => {
  const behind = e => {
    for (let at = e; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!color.startsWith('rgba(0, 0, 0, 0')) return color;
    }
  };
  const part = e => { let at = e; while (!at.matches('.segment')) at = at.previousElementSibling; return at; };
  const numbers = [...document.querySelectorAll('.bar .count')]
    .map(e => [getComputedStyle(e).fill, getComputedStyle(part(e)).fill]);
  const texts = [...document.querySelectorAll('h1, h2, p, dt, dd, th, td, summary, .tag, li, footer')]
    .filter(e => e.checkVisibility()).map(e => [getComputedStyle(e).color, behind(e)]);
  const labels = [...document.querySelectorAll('svg text:not(.count)')]
    .filter(e => e.checkVisibility()).map(e => [getComputedStyle(e).fill, behind(e)]);
  return [...numbers, ...texts, ...labels];
})()"""


def contrast(first: str, second: str) -> float:
    """The contrast of two colours, given as CSS's rgb(), by WCAG's formula: from 1 to 21."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    parts = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
