"""What all tests share: a closed environment, and golden files.

Tests never see the developer's own `FRAUD_*` variables or home: partitions, windows and policies
are the defaults wherever a test does not say otherwise.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# A deadline per example measures how busy the machine is.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

KEPT = {
    "FRAUD_BENCHMARK_DATA",
    "FRAUD_KILLS",
    "FRAUD_REPLAYS",
    "FRAUD_SCHEMATHESIS_CASES",
    "FRAUD_SEED",
    "FRAUD_SWAPS",
}
"""Of the tests themselves: where data are, and how much is done in the nightly form."""

for name in [n for n in os.environ if n.startswith("FRAUD_") and n not in KEPT]:
    del os.environ[name]
os.environ |= {
    # A folder that nobody makes, so that no settings.json is found either.
    "FRAUD_HOME": str(Path(tempfile.gettempdir(), "fraud-platform-tests-have-no-home")),
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
os.environ.pop("DAGSTER_HOME", None)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="Rewrite the files in tests/golden from what the code says now; review the diff.",
    )


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a fixture of their module run in one worker: another would make it again."""
    for item in items:
        if not item.get_closest_marker("xdist_group") and _shares_with_its_module(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def _shares_with_its_module(item: pytest.Item) -> bool:
    """Whether the test takes a fixture of module scope that its own file defines."""
    found = getattr(item, "_fixtureinfo", None)  # a doctest of a text file has none
    made = [] if found is None else [each[-1] for each in found.name2fixturedefs.values()]
    return any(one.scope == "module" and one.baseid for one in made)


@pytest.fixture(autouse=True)
def no_shared_metrics() -> None:
    """Feast, once imported, makes every Prometheus client below this process share its files."""
    for name in [name for name in os.environ if name.upper().startswith("PROMETHEUS_MULTIPROC")]:
        del os.environ[name]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Compares a JSON value with a file in tests/golden, or rewrites the file."""

    def compare(name: str, found: object) -> None:
        path = GOLDEN / name
        text = json.dumps(found, indent=1, sort_keys=True) + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
        expected = json.loads(path.read_text("utf-8")) if path.exists() else None
        assert json.loads(text) == expected, (
            f"{name} is no longer what the code says; if the change is meant, run pytest with "
            "--update-golden and review the diff"
        )

    return compare
