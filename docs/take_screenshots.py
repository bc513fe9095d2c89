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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

IMAGES = Path(__file__).parent / "images"
WIDTH = 1600
COLOURS = 128
MAX_BYTES = 300_000
PATIENCE_SECONDS = 60
SETTLE_SECONDS = 3
GROUPS = (
    "ingest",
    "features",
    "labels",
    "training",
    "evaluation",
    "promotion",
    "backtest",
    "monitoring",
    "healing",
    "benchmark",
    "audit",
)
"""As in `assets.STAGES`."""
METRICS = ("average_precision", "auc_roc", "recall", "alert_rate")
"""What the list of trainings shows."""


class Browser:
    """Headless Chromium on a fresh profile."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, address: str, *texts: str, height: int = 1000) -> None:
        """Go to a page in a window of this height, and wait until it shows all these texts."""
        size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self._driver.get("about:blank")  # else a page that differs after # only is not read again
        self._driver.get(address)
        for text in texts:
            self.wait(f"{text!r} on {address}", lambda text=text: text in self.text())
        time.sleep(SETTLE_SECONDS)

    def text(self) -> str:
        """What the page shows."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def link(self, part: str) -> str:
        """The address of the first link that holds a text."""
        return str(
            self._driver.find_element(By.CSS_SELECTOR, f'a[href*="{part}"]').get_property("href")
        )

    def row_of_link(self, part: str) -> tuple[str, list[str]]:
        """The address of the first link in a table that holds a text, and the words of its row."""
        link = self._driver.find_element(By.CSS_SELECTOR, f'th a[href*="{part}"]')
        row = link.find_element(By.XPATH, "./ancestor::tr")
        return str(link.get_property("href")), row.text.split()

    def remember(self, key: str, value: str) -> None:
        """Keep a choice of the person who looks, as the page itself would."""
        self._driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", key, value)

    def find(self, text: str, *, within: str = "") -> WebElement | None:
        """The first element with exactly this text, in the table row with another text if given."""
        row = f'//tr[.//*[normalize-space(text())="{within}"]]' if within else ""
        found = self._driver.find_elements(By.XPATH, f'{row}//*[normalize-space(text())="{text}"]')
        return found[0] if found else None

    def click(self, element: WebElement) -> None:
        """Click, and let the page settle."""
        self._driver.execute_script("arguments[0].click()", element)
        time.sleep(SETTLE_SECONDS)

    def press(self, label: str) -> None:
        """Click on the symbol with this label."""
        self.click(self._driver.find_element(By.XPATH, f'//button[.//*[@aria-label="{label}"]]'))

    def point_at(self, element: WebElement) -> None:
        """Hold the pointer over an element until its explanation shows."""
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'nearest'})", element)
        ActionChains(self._driver).move_to_element(element).perform()
        time.sleep(SETTLE_SECONDS)

    def hide(self, beginning: str) -> None:
        """Make the innermost elements whose text begins so invisible."""
        begins = f'starts-with(normalize-space(.), "{beginning}")'
        found = f"//*[{begins}][not(*[{begins}])]"
        for element in self._driver.find_elements(By.XPATH, found):
            self._driver.execute_script("arguments[0].style.visibility = 'hidden'", element)

    def scroll_to(self, element: WebElement) -> None:
        """Bring an element to the upper edge of what is visible."""
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", element)
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
        ):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()


@dataclass(frozen=True)
class Tick:
    """One look of a sensor that started nothing."""

    at: datetime
    reason: str


class Dagster:
    """Dagster's UI at one address."""

    def __init__(self, address: str, page: Browser) -> None:
        self._address = address
        self._page = page

    def enter(self) -> None:
        """Open the UI as one who was here before: a narrow side bar, no newsletter."""
        self._page.open(f"{self._address}/overview", "Timeline")
        self._page.remember("dagster-nav-collapsed", "true")
        if (skip := self._page.find("Skip")) is not None:
            self._page.click(skip)

    def graph(self) -> None:
        """Open the asset graph with all groups expanded."""
        expanded = ",".join(f"global@global:{group}" for group in GROUPS)
        address = f"{self._address}/asset-groups?expanded={expanded}"
        self._page.open(address, "Global asset lineage", "raw_transactions", height=1300)
        self._page.press("panel_show_right")  # the list of assets; all of them are in the picture
        self._page.press("zoom_out")

    def asset(self, name: str, *texts: str, view: str = "overview", height: int = 1000) -> None:
        """Open an asset's page."""
        self._page.open(f"{self._address}/assets/{name}?view={view}", *texts, height=height)
        self._page.hide("/")  # paths of the machine that the picture is taken on

    def shown(self, name: str, label: str, *texts: str, height: int = 1000) -> None:
        """Open an asset's page and a text of its newest metadata, by the label of its row."""
        self.asset(name, label, height=height)
        button = self._page.find("[Show Markdown]", within=label)
        if button is None:
            raise LookupError(f"found no text in the row {label} of {name}")
        self._page.click(button)
        for text in texts:
            self._page.wait(f"{text!r} in {label}", lambda text=text: text in self._page.text())
        if texts and (top := self._page.find(texts[0])) is not None:
            self._page.scroll_to(top)

    def skipped_tick(self, sensor: str) -> None:
        """Open a sensor's page and point at its most telling look that started nothing."""
        tick = self._most_telling(sensor)
        address = f"{self._address}/locations/{self._location()}/sensors/{sensor}"
        self._page.open(address, "All ticks", height=1500)
        shown = f"{tick.at:%b} {tick.at.day}, {tick.at:%I:%M:%S %p}".replace(", 0", ", ")
        while (result := self._page.find("0 runs requested", within=shown)) is None:
            older = self._page.find("Older")
            if older is None:
                raise LookupError(f"found no row of {shown} on the page of {sensor}")
            self._page.click(older)
        self._page.point_at(result)
        self._page.wait(f"reason {tick.reason!r}", lambda: tick.reason in self._page.text())

    def _most_telling(self, sensor: str) -> Tick:
        """The newest skipped tick that diagnosed something; one whose remedy waits is preferred."""
        repository, location = self._location().split("@")
        answer = self._ask(
            """query ($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
            ... on Sensor { sensorState { ticks(limit: 500, statuses: [SKIPPED]) {
            timestamp skipReason } } } } }""",
            sensor={
                "repositoryName": repository,
                "repositoryLocationName": location,
                "sensorName": sensor,
            },
        )
        ticks = [
            Tick(datetime.fromtimestamp(tick["timestamp"]).astimezone(), tick["skipReason"])
            for tick in answer["sensorOrError"]["sensorState"]["ticks"]
            if "; breached: " in (tick["skipReason"] or "")
        ]
        waiting = [tick for tick in ticks if " waits: " in tick.reason]
        return [*waiting, *ticks][0]

    def _location(self) -> str:
        answer = self._ask(
            "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name }"
            " } } } }"
        )
        (node,) = answer["repositoriesOrError"]["nodes"]
        return f"{node['name']}@{node['location']['name']}"

    def _ask(self, query: str, **variables: object) -> dict[str, Any]:
        answer = ask(f"{self._address}/graphql", {"query": query, "variables": variables})
        data: dict[str, Any] = answer["data"]
        return data


class Mlflow:
    """MLflow's UI at one address."""

    def __init__(self, address: str, page: Browser) -> None:
        self._address = address
        self._page = page

    def runs(self) -> None:
        """Open the trainings, each with its two models and their metrics."""
        experiment = self._ask("experiments/search", max_results=10)["experiments"][0]
        number, address = experiment["experiment_id"], f"{self._address}/#/experiments"
        trainings = self._ask("runs/search", experiment_ids=[number])["runs"]
        parents = [t["info"]["run_id"] for t in trainings if t["info"]["run_name"] == "retrain"]
        self._page.open(self._address, "MLflow")
        self._page.remember("mlflow.assistant.panelOpen_v1", "false")
        shown = {
            "selectedColumns": [f"metrics.`{name}`" for name in METRICS],
            "runsExpanded": dict.fromkeys(parents, True),
        }
        key = f'MLflowLocalStorage-1.1-ExperimentPage-["{number}"]-ReactComponentState'
        self._page.remember(key, json.dumps(shown))
        self._page.open(
            f"{address}/{number}/runs?workflowType=machine_learning", *METRICS, height=560
        )

    def evaluation(self) -> None:
        """Open the page of the newest model's evaluation."""
        experiment = self._ask("experiments/search", max_results=10)["experiments"][0]
        trainings = self._ask("runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
        judged = [
            training["info"]["run_id"]
            for training in trainings
            if any(m["key"] == "average_precision" for m in training["data"].get("metrics", []))
        ]
        number, page = experiment["experiment_id"], f"{judged[0]}/artifacts/evaluation.html"
        address = f"{self._address}/#/experiments/{number}/runs/{page}"
        self._page.open(address, "evaluation.html", height=1800)
        self._page.hide("Path:")  # of the machine that the picture is taken on

    def _ask(self, call: str, **arguments: object) -> dict[str, Any]:
        return ask(f"{self._address}/api/2.0/mlflow/{call}", arguments)


def ask(address: str, arguments: dict[str, object]) -> dict[str, Any]:
    """Post JSON to a server of ours and read its JSON."""
    request = urllib.request.Request(  # noqa: S310 -- our own server
        address, json.dumps(arguments).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 -- our own server
        found: dict[str, Any] = json.load(answer)
    return found


def of_the_scorer(scorer_url: str, page: Browser) -> None:
    """Take the pictures of its pages: the routes, and a declined payment as an auditor sees it.

    From there Dagster is opened by a link of the page: it must show that day of that asset.
    """
    page.open(f"{scorer_url}/schema", "/v1/decisions", height=1300)
    page.save("scorer_docs")
    page.open(f"{scorer_url}/audit?outcome=decline", "decisions")
    page.open(page.link("/audit/decisions/"), "Replayed just now: equal", height=1500)
    page.save("audit_decision")
    address, (_, day, _, digest, *_) = page.row_of_link("/assets/raw_transactions")
    page.open(address, day, digest, "Latest materialization", height=650)
    page.hide("/")  # paths of the machine that the picture is taken on
    page.save("audit_asset")


def take(dagster_url: str, scorer_url: str, mlflow_url: str) -> None:
    """Take all pictures."""
    with browser() as page:
        dagster = Dagster(dagster_url, page)
        dagster.enter()
        dagster.skipped_tick("heal")
        page.save("sensors")
        dagster.graph()
        page.save("asset_graph")
        dagster.asset("champion", "fraud/verdict", height=850)
        page.save("asset_page")
        dagster.asset("champion", "Latest execution", view="checks", height=700)
        page.save("asset_checks")
        dagster.asset("health_report", "fraud/cause", height=1300)
        page.save("health_report")
        dagster.shown("model_comparison", "fraud/comparison", "Headline numbers", height=1500)
        page.save("model_comparison")
        dagster.shown("label_delays", "fraud/plot", height=1000)
        page.save("label_delays")
        of_the_scorer(scorer_url, page)
        mlflow = Mlflow(mlflow_url, page)
        mlflow.runs()
        page.save("mlflow")
        mlflow.evaluation()
        page.save("evaluation")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Take the pictures of the documentation.")
    arguments.add_argument("--dagster", default="http://127.0.0.1:3000")
    arguments.add_argument("--scorer", default="http://127.0.0.1:8080")
    arguments.add_argument("--mlflow", default="http://127.0.0.1:5000")
    given = arguments.parse_args()
    take(given.dagster, given.scorer, given.mlflow)
