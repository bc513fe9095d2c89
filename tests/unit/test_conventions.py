"""House rules that no linter knows; every failure says what to do."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LATE_PACKAGE = "feature_repo"
"""Imports Feast at its top on purpose: it is itself imported by the one function that needs it."""
PACKAGES = ("fraud_platform", "assets", "sensors", "serving", "feature_repo")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

LONGEST_ASSET = 10
"""Statements of an asset's body; more is arithmetic that belongs to the domain."""
TALLEST_ASSET = 25
"""Lines of an asset's body with its metadata; more does not fit into one look."""
LONGEST_MODULE = 450
"""Lines of a module; the adapters of the log and of the registry come close."""
SECONDS_TO_IMPORT = {
    *("dagster_mlflow", "evidently", "feast", "lightgbm", "matplotlib", "mlflow", "optuna"),
    *("pandas", "pandera", "sklearn", "xgboost"),
}
"""Libraries that every process would pay for with seconds if a module imported them at its top."""
CHECKING = {"raises", "warns", "golden", "fail"}
"""Calls that can fail a test without the word assert."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def called(node: ast.AST) -> str:
    """The last word of what a call or a decorator names."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def functions(module: ast.Module) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in ast.walk(module) if isinstance(node, kinds)}


def asset_bodies() -> dict[str, list[ast.stmt]]:
    """The statements of every asset without its docstring."""
    return {
        f"{name_of(path)}: {name}": function.body[1:]
        for path in sorted((ROOT / "assets").glob("*.py"))
        for name, function in functions(tree(path)).items()
        if "asset" in map(called, function.decorator_list)
    }


def statements(body: list[ast.stmt]) -> int:
    return sum(isinstance(node, ast.stmt) for part in body for node in ast.walk(part))


def lines(body: list[ast.stmt]) -> int:
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def imported_at_top(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_an_asset_reads_calls_the_domain_and_returns():
    bodies = asset_bodies()
    assert len(bodies) >= 15, "the assets were not found: did the decorator change its name?"
    sizes = {name: (statements(body), lines(body)) for name, body in bodies.items()}
    bounds = (LONGEST_ASSET, TALLEST_ASSET)
    long = {n: s for n, s in sizes.items() if s[0] > bounds[0] or s[1] > bounds[1]}
    assert not long, (
        f"at most {LONGEST_ASSET} statements on {TALLEST_ASSET} lines; move arithmetic to "
        f"fraud_platform and text to a function below the asset: {long}"
    )


def test_a_module_fits_into_one_head():
    long = {name_of(p): len(p.read_text("utf-8").splitlines()) for p in MODULES}
    long = {name: lines for name, lines in long.items() if lines > LONGEST_MODULE}
    assert not long, f"split at {LONGEST_MODULE} lines, by what changes together: {long}"


def test_no_module_is_a_drawer_for_everything():
    drawers = {"utils", "util", "helpers", "helper", "common", "misc"}
    found = [name_of(path) for path in [*MODULES, *TESTS] if path.stem in drawers]
    assert not found, f"name the module after what it does: {found}"


def test_no_slow_library_is_imported_at_the_top_of_a_module():
    found = {
        name_of(path): slow
        for path in MODULES
        if not name_of(path).startswith(LATE_PACKAGE)
        and (slow := {n.split(".")[0] for n in imported_at_top(tree(path))} & SECONDS_TO_IMPORT)
    }
    assert not found, f"import it inside the function that needs it: {found}"


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_every_test_can_fail(path: Path):
    defined = functions(tree(path))
    checking = set(CHECKING)
    grew = True
    while grew:  # a test may leave the assertion to a function of its module
        able = {name for name, function in defined.items() if can_fail(function, checking)}
        grew = not able <= checking
        checking |= able
    idle = [name for name in defined if name.startswith("test_") and name not in checking]
    assert not idle, f"say what must be true, or remove the test: {idle}"


def can_fail(function: ast.AST, checking: set[str]) -> bool:
    return any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and called(node) in checking)
        for node in ast.walk(function)
    )


def test_what_tests_start_apart_does_not_outlive_them():
    calls = {
        f"{name_of(path)}:{node.lineno}": {keyword.arg for keyword in node.keywords}
        for path in TESTS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "APART.Process"
    }
    assert calls
    found = [place for place, told in calls.items() if "daemon" not in told]
    assert not found, f"pass daemon=True, else the runner waits for what hangs: {found}"


def test_no_folder_of_tests_hides_a_package():
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir()]
    hiding = [name_of(path) for path in folders if path.name in PACKAGES]
    assert not hiding, f"rename: pytest could import the folder instead of the package: {hiding}"


def test_no_two_test_modules_share_a_name():
    seen = [path.name for path in TESTS]
    twice = sorted({name for name in seen if seen.count(name) > 1})
    assert not twice, f"give each test module a name of its own: {twice}"
