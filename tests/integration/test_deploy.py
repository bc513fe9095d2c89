"""The examples in deploy/ against the code: commands, settings, paths, metrics, links.

No supervisor and no container program runs here; deploy/README.md says what that leaves untested.
"""

import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from fraud_platform import processes
from fraud_platform.adapters.audit_log import audit_log_of
from fraud_platform.adapters.mirror_status import MirrorStatus, status_path, write_status
from fraud_platform.cli import main
from fraud_platform.settings import Settings, settings_table
from serving.app import build_scorer, wall_clock
from serving.process_metrics import watched_process
from tests.integration.test_docs import (
    CHECKERS,
    ROOT,
    SERVERS,
    anchors,
    commands_of,
)

DEPLOY = ROOT / "deploy"
PAGE = DEPLOY / "README.md"
CODE = "/opt/fraud-platform"
PROGRAMS = f"{CODE}/.venv/bin/"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SYSUSERS = DEPLOY / "systemd" / "fraud-platform.conf"
COMPOSE = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"] == "fraud-platform"}
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))["groups"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "scorer.json").read_text("utf-8"))

FOREIGN_VARIABLES = {
    *("DAGSTER_HOME", "DO_NOT_TRACK", "HOME", "MLFLOW_DISABLE_TELEMETRY", "OMP_NUM_THREADS"),
    *("OMP_WAIT_POLICY", "PATH", "PYTHONUNBUFFERED", "UV_LINK_MODE", "UV_PYTHON_DOWNLOADS"),
}
"""Variables of other programs that the examples set."""
SETTINGS = set(re.findall(r"`(FRAUD_\w+)`", settings_table()))
NEWER_KEYS = ("RestartSteps", "RestartMaxDelaySec")
"""What systemd knows from 254 on; an older one says so and goes on."""


def read_unit(path: Path) -> dict[str, list[str]]:
    """Values of a unit by key, in order; keys do not repeat over sections here."""
    found: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def variables(text: str) -> set[str]:
    """Names that a file of variables sets, those in comments too."""
    return set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))


def check_command(words: list[str]) -> None:
    """The program is one of ours and takes these arguments."""
    name, *arguments = (words[0].removeprefix(PROGRAMS), *words[1:])
    if name == "python":
        compile(arguments[1], "<command>", "exec")
    elif arguments == ["mirror"]:
        mirror = main.commands["mirror"]
        assert isinstance(mirror, click.Group)
        assert mirror.invoke_without_command
    else:
        CHECKERS[name](arguments)


def known(names: set[str]) -> None:
    unknown = names - SETTINGS - FOREIGN_VARIABLES
    assert not unknown, f"neither settings nor known variables of others: {sorted(unknown)}"


# --- systemd ---------------------------------------------------------------------------------


def test_every_program_of_the_page_about_servers_has_a_unit():
    assert [path.stem for path in UNITS] == [
        *("fraud-dagster-daemon", "fraud-dagster-webserver", "fraud-mirror", "fraud-mlflow"),
        "fraud-scorer",
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_runs_a_command_that_exists_and_that_the_page_about_servers_has(path):
    unit = read_unit(path)
    (command,) = unit["ExecStart"]
    words = shlex.split(command)
    assert words[0].startswith(PROGRAMS)
    check_command(words)
    for before in unit.get("ExecStartPre", []):
        check_command(shlex.split(before))
    assert command.removeprefix(PROGRAMS) in SERVERS, "the page and the unit must say the same"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_sets_only_variables_that_somebody_reads(path):
    unit = read_unit(path)
    known({line.partition("=")[0] for line in unit.get("Environment", [])})
    assert unit["EnvironmentFile"][0] == "/etc/fraud-platform/environment"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_restricted_bounded_and_comes_back(path):
    unit = {key: values[-1] for key, values in read_unit(path).items()}
    expected = {
        "User": "fraud",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "KillSignal": "SIGTERM",
        "OOMPolicy": "continue",
    }
    assert {key: unit[key] for key in expected} == expected
    assert {"MemoryMax", "LimitNOFILE", "TimeoutStopSec", "StateDirectory"} <= set(unit)


def test_the_scorer_is_reloaded_by_the_signal_it_listens_to_and_awaited_until_it_is_ready():
    unit = read_unit(DEPLOY / "systemd" / "fraud-scorer.service")
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert (unit["Type"], unit["NotifyAccess"]) == (["notify"], ["main"])
    # Longer than the requests under way (10 s) and then the programs beside it (10 s) may take.
    assert int(unit["TimeoutStopSec"][0]) > 20


def test_the_units_share_an_environment_of_settings_on_one_home():
    text = (DEPLOY / "systemd" / "environment").read_text("utf-8")
    known(variables(text))
    told = dict(line.split("=", 1) for line in text.splitlines() if line and line[0] != "#")
    assert f"export FRAUD_HOME={told['FRAUD_HOME']} " in SERVERS
    settings = Settings(home=told["FRAUD_HOME"], first_day=told["FRAUD_FIRST_DAY"])
    assert str(settings.dagster_dir) == told["DAGSTER_HOME"]
    states = {read_unit(path)["StateDirectory"][0] for path in UNITS}
    assert f"/var/lib/{min(states)}" == told["FRAUD_HOME"]
    (user,) = re.findall(r"^u (\w+) - .* (\S+)$", SYSUSERS.read_text("utf-8"), re.MULTILINE)
    assert user == ("fraud", told["FRAUD_HOME"])


def test_systemd_itself_finds_nothing_wrong_in_the_units(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here (Debian: package systemd)")
    for path in UNITS:  # it looks whether the programs are there: ours are in this environment
        text = path.read_text("utf-8").replace(PROGRAMS, f"{Path(sys.executable).parent}/")
        (tmp_path / path.name).write_text(text.replace(CODE, str(ROOT)))
    done = subprocess.run(
        [program, "verify", "--man=no", *sorted(tmp_path.glob("*.service"))],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if line.startswith(str(tmp_path))]
    found = [line for line in ours if not any(key in line for key in NEWER_KEYS)]
    assert (done.returncode, found) == (0, [])


# --- containers ------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Containerfile, each on one line without its comments."""
    text = (DEPLOY / "container" / "Containerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in whole.splitlines()]


def test_the_image_is_built_in_stages_and_ends_as_nobody_special():
    found = instructions()
    first, last = (place for place, (name, _) in enumerate(found) if name == "FROM")
    final = found[last:]
    order = ["FROM", "RUN", "COPY", "ENV", "VOLUME", "USER", "HEALTHCHECK", "CMD"]
    places = [[name for name, _ in final].index(name) for name in order]
    assert places == sorted(places)
    user = dict(final)["USER"]
    assert f"--uid {user} " in " ".join(text for name, text in final if name == "RUN")
    assert not any(name == "RUN" for name, _ in final[places[5] :])
    assert "/opt/boot" not in dict(final)["COPY"], "what installs is not shipped"
    assert dict(found[first:last])["WORKDIR"] == dict(final)["WORKDIR"] == CODE


def test_the_image_copies_what_is_there_and_installs_before_the_code_changes():
    first = list(itertools.takewhile(lambda step: step[1] != "python:3.12-slim", instructions()))
    copied = [word for name, text in first if name == "COPY" for word in text.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    packages = re.search(r"^packages = (\[.*\])", (ROOT / "pyproject.toml").read_text(), re.M)
    assert packages is not None
    assert set(json.loads(packages[1])) <= set(copied)
    steps = [f"{name} {text}" for name, text in first]
    lock = next(n for n, step in enumerate(steps) if "uv pip sync" in step)
    assert lock < steps.index("COPY fraud_platform fraud_platform")


def test_the_image_is_set_up_by_the_steps_of_the_makefile():
    """The same uv, the same environment, the same lock by hashes, the same installation."""
    make = (ROOT / "Makefile").read_text("utf-8")
    version = re.search(r"^UV_VERSION := (\S+)", make, re.MULTILINE)
    assert version is not None
    made = make.replace("$(UV_VERSION)", version[1]).replace("$(BIN)", ".venv/bin")
    made = made.replace("$(VENV)", ".venv").replace("$(PYTHON)", "python")
    made = made.replace(".venv-boot", "BOOT")
    built = "\n".join(text for name, text in instructions() if name == "RUN")
    built = built.replace("/opt/boot", "BOOT")
    step = re.compile(r"BOOT/bin/(?:uv (?:venv|pip sync|pip install)|pip install)[^&|;}\n]*")
    recipe = made[made.index("$(VENV)/.ready:".replace("$(VENV)", ".venv")) : made.index("\ndemo:")]
    assert [s.strip() for s in step.findall(built)] == [s.strip() for s in step.findall(recipe)]
    assert len(step.findall(built)) == 4


def test_variables_of_the_image_and_of_the_containers_are_read_by_somebody():
    set_in = [text for name, text in instructions() if name == "ENV"]
    image = dict(word.split("=", 1) for text in set_in for word in text.split())
    known(set(image))
    assert str(Settings(home=image["FRAUD_HOME"]).dagster_dir) == image["DAGSTER_HOME"]
    assert [text for name, text in instructions() if name == "VOLUME"] == [image["FRAUD_HOME"]]
    for service in OURS.values():
        known(set(service.get("environment", {})))
        assert service["env_file"] == "secrets.env"
        assert service["volumes"] == [f"home:{image['FRAUD_HOME']}"]
    known(variables((DEPLOY / "container" / "secrets.env.example").read_text("utf-8")))


def test_containers_run_commands_that_exist():
    assert set(SERVICES) - set(OURS) == {"postgres", "prometheus"}
    for service in OURS.values():
        check_command(service["command"])
    (default,) = [text for name, text in instructions() if name == "CMD"]
    assert json.loads(default) == OURS["scorer"]["command"]
    snippet = " ".join(OURS["dagster-home"]["command"][2].split())
    assert snippet in " ".join(SERVERS.split())


def test_containers_are_reached_from_this_machine_only():
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert set(published) == {"scorer", "dagster-webserver", "mlflow", "prometheus"}
    for ports in published.values():
        assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)
    assert not any(s.get("network_mode") or s.get("privileged") for s in SERVICES.values())


def test_containers_are_one_scorer_and_one_daemon_without_rights_and_with_an_end():
    for name, service in OURS.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True
        assert service["restart"] == ("no" if name == "dagster-home" else "unless-stopped")
        assert "deploy" not in service, "nothing here may run twice"
    grace = int(OURS["scorer"]["stop_grace_period"].removesuffix("s"))
    assert grace > 20
    for service in SERVICES.values():
        used = [v.partition(":")[0] for v in service.get("volumes", [])]
        assert all(v in COMPOSE["volumes"] or v[0] == "." for v in used)
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_files_that_compose_needs_are_there_or_made_by_the_commands_of_the_page():
    folder = DEPLOY / "container"
    mounted = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])]
    needed = {v for v in mounted if v[0] == "."} | {
        *(s["env_file"] for s in OURS.values()),
        *(secret["file"] for secret in COMPOSE["secrets"].values()),
    }
    secret = set((folder / ".gitignore").read_text("utf-8").split())
    missing = {Path(name).name for name in needed if not (folder / name).exists()} - secret
    assert not missing
    for name in secret:
        assert re.search(rf"(> |install .* ){re.escape(name)}$", PAGE.read_text("utf-8"), re.M)


def test_no_example_names_the_host_of_a_registry():
    for path in (DEPLOY / "container").iterdir():
        for image in re.findall(r"(?:image: |FROM )(\S+)", path.read_text("utf-8")):
            assert "." not in image.partition("/")[0].partition(":")[0], image


def test_the_health_check_of_the_image_tells_a_scorer_that_answers_from_one_that_does_not(tmp_path):
    (text,) = [text for name, text in instructions() if name == "HEALTHCHECK"]
    command = json.loads(text[text.index("CMD") + 4 :])
    port = processes.free_port()
    command = [sys.executable, *(word.replace(":8080", f":{port}") for word in command[1:])]
    environment = processes.environment(Settings(home=tmp_path / "home", scorer_port=port))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    with processes.running(processes.scorer_command(), environment, tmp_path / "said.log"):
        codes = (
            subprocess.run(command, capture_output=True, check=False).returncode for _ in range(100)
        )
        assert 0 in codes, (tmp_path / "said.log").read_text()


# --- metrics ---------------------------------------------------------------------------------


@cache
def exposed(home: Path) -> dict[str, set[str]]:
    """Labels of every sample that a scorer can show, by the sample's name."""
    settings = Settings(home=home)
    write_status(
        status_path(settings.log_path),
        MirrorStatus(
            "running", at=1, pid=1, contact_at=1, behind_rows=0, behind_seconds=0, conflicts=0
        ),
    )
    audit_log_of(settings).head()
    registry = build_scorer(settings, wall_clock).metrics.registry
    found: dict[str, set[str]] = {}
    with watched_process(registry):
        for collector in list(registry._collector_to_names):
            for metric in collector.collect():
                labels = of_family(collector, metric)
                found |= dict.fromkeys(sample_names(metric), labels)
                if metric.type == "histogram":
                    found[f"{metric.name}_bucket"] = labels | {"le"}
    return found


def of_family(collector: object, metric: Metric) -> set[str]:
    owner = collector if isinstance(collector, MetricWrapperBase) else metric
    return set(getattr(owner, "_labelnames", ()))


def sample_names(metric: Metric) -> list[str]:
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return [f"{metric.name}{end}" for end in ends.get(metric.type, [""])]


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, set[str]]:
    return exposed(tmp_path_factory.mktemp("home"))


RECORDED = {rule["record"]: rule for group in RULES for rule in group["rules"] if "record" in rule}
ALERTS = [rule for group in RULES for rule in group["rules"] if "alert" in rule]
OF_PROMETHEUS = {"instance", "job"}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    *((rule.get("alert", rule.get("record")), rule["expr"]) for g in RULES for rule in g["rules"]),
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
    *((note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"]),
]


def labels_of(name: str, shown: dict[str, set[str]]) -> set[str]:
    """Labels of a metric or of a recorded figure; fails when nobody shows it."""
    if name == "up":
        return OF_PROMETHEUS
    if ":" in name:
        assert name in RECORDED, f"{name} is not recorded"
        grouped = grouping(RECORDED[name]["expr"]) - {"le"}
        return grouped | OF_PROMETHEUS
    assert name in shown, f"no scorer shows {name}"
    return shown[name] | OF_PROMETHEUS


def grouping(query: str) -> set[str]:
    inside = re.findall(r"\bby \(([^)]*)\)", query)
    return {label.strip() for part in inside for label in part.split(",")}


def metrics_in(query: str) -> list[tuple[str, set[str]]]:
    """Each metric of a query with the labels that it is chosen by."""
    found = re.findall(r"\b((?:fraud|process)[\w:]*|up)\b(?!\()(\{[^}]*\})?", bare(query))
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen))) for name, chosen in found]


def bare(query: str) -> str:
    """A query without its texts, which may look like metrics."""
    return re.sub(r'"[^"]*"', '""', query)


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_a_query_asks_for_metrics_and_labels_that_a_scorer_shows(title, query, shown):
    found = metrics_in(query)
    assert found, f"{title} asks for nothing of a scorer"
    every: set[str] = set()
    for name, chosen in found:
        labels = labels_of(name, shown)
        assert chosen <= labels, f"{name} has no {chosen - labels}"
        every |= labels
    assert grouping(query) <= every


def test_a_query_that_asks_for_what_is_not_there_is_found_out(shown):
    for name, chosen in metrics_in('rate(fraud_decisions_total{kind="x"}[5m]) > fraud_nothing'):
        if name == "fraud_decisions_total":
            assert not chosen <= labels_of(name, shown)
        else:
            with pytest.raises(AssertionError, match="no scorer shows fraud_nothing"):
                labels_of(name, shown)


def test_every_metric_of_a_scorer_is_on_the_dashboard_or_behind_an_alarm(shown):
    """Who adds a metric says at once where a person sees it."""
    asked = {name for _, query in QUERIES for name, _ in metrics_in(query)}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in asked}
    own = {n for n in shown if n.startswith("fraud_")}
    missing = {re.sub(r"_(bucket|sum|count)$", "", n) for n in own} - families - asked
    assert not missing, f"put {sorted(missing)} on deploy/grafana/scorer.json"


def test_every_alarm_says_what_it_is_what_it_means_what_to_do_and_where_to_read_on():
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS) >= 15
    for alert in ALERTS:
        told = alert["annotations"]
        assert set(told) == {"summary", "meaning", "action", "runbook"}, alert["alert"]
        assert all(told.values())
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        path, _, anchor = told["runbook"].partition("#")
        assert anchor in anchors(ROOT / path), f"{alert['alert']}: {path} has no #{anchor}"


def test_commands_that_alarms_advise_exist():
    told = [text for alert in ALERTS for text in alert["annotations"].values()]
    commands = {c for text in told for c in re.findall(r"`((?:fraud-platform|make) [^`]*)`", text)}
    assert len(commands) >= 5
    for command in commands:
        program, *words = shlex.split(command)
        CHECKERS[program](words)


def test_values_in_alarms_name_labels_that_the_alarm_has(shown):
    for alert in ALERTS:
        text = " ".join(alert["annotations"].values())
        query = alert["expr"]
        grouped = grouping(query) if re.match(r"sum by", query) else set()
        has = grouped or set().union(*(labels_of(name, shown) for name, _ in metrics_in(query)))
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= has, alert["alert"]


def test_prometheus_reads_its_files_and_scrapes_a_route_that_exists():
    document = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    (job,) = document["scrape_configs"]
    assert document["rule_files"] == ["rules.yaml"]
    assert job["file_sd_configs"] == [{"files": ["scorers.yaml"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert all(f'job="{job["job_name"]}"' in q for _, q in QUERIES if re.search(r"\bup\b", bare(q)))
    here, there = (
        yaml.safe_load((DEPLOY / folder / "scorers.yaml").read_text("utf-8"))[0]["targets"]
        for folder in ("prometheus", "container")
    )
    default = Settings()
    assert here == [f"{default.scorer_host}:{default.scorer_port}"]
    assert there == [f"scorer:{default.scorer_port}"]
    mounted = {v.split(":")[1] for v in SERVICES["prometheus"]["volumes"] if v[0] == "."}
    names = ("prometheus.yaml", "rules.yaml", "scorers.yaml", "scorer.key")
    assert mounted == {f"/etc/prometheus/{name}" for name in names}


def test_promtool_accepts_the_rules_and_plays_their_examples():
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("there is no promtool here (Debian: package prometheus)")
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]):
        done = subprocess.run(
            [program, *command],
            cwd=DEPLOY / "prometheus",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_panels_are_told_apart_explained_and_beside_each_other():
    boxes = [SimpleNamespace(**panel["gridPos"]) for panel in DASHBOARD["panels"]]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) >= 15
    assert all(box.x + box.w <= 24 for box in boxes)
    for one, other in itertools.combinations(boxes, 2):
        beside = one.x + one.w <= other.x or other.x + other.w <= one.x
        assert beside or one.y + one.h <= other.y or other.y + other.h <= one.y
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert panel["description"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["datasource"]["uid"] == "${datasource}", "no data source of one's own"


# --- the page --------------------------------------------------------------------------------

READ_ONLY_PROGRAMS = {
    *("git", "install", "systemd-sysusers", "systemctl", "openssl", "cd", "podman"),
}
"""Programs of the system: their operands are looked at below."""


@pytest.mark.parametrize("command", dict.fromkeys(commands_of(PAGE)))
def test_a_command_of_the_page_exists_and_names_what_is_there(command):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        CHECKERS["make"](["-C", str(ROOT), *words[3:]])
        return
    if words[0] == f"{PROGRAMS}python":
        assert words[1:3] == ["-m", "compileall"]
        return
    if "fraud-platform" in {Path(word).name for word in words[1:]} and "keys" in words:
        end = words.index(">") if ">" in words else None
        CHECKERS["fraud-platform"](words[words.index("keys") : end])
    else:
        assert words[0] in READ_ONLY_PROGRAMS, f"nothing looks at {words[0]!r}"
    for word in words:
        if word.startswith(f"{CODE}/deploy"):
            assert list(ROOT.glob(word.removeprefix(f"{CODE}/"))), f"there is no {word}"
    if words[0] == "systemctl":
        units = [word for word in words if word.startswith("fraud-")]
        assert set(units) <= {path.stem for path in UNITS}
    if words[:2] == ["podman", "compose"]:
        asked = itertools.takewhile(lambda word: word != "fraud-platform", words)
        assert {"scorer"} >= set(asked) & set(SERVICES)


def test_every_link_of_the_page_leads_somewhere_and_every_folder_is_on_it():
    text = PAGE.read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert not urlsplit(target).scheme
        path, _, anchor = target.partition("#")
        file = (DEPLOY / path).resolve()
        assert file.exists()
        assert not anchor or anchor in anchors(file), target
    folders = {path.name for path in DEPLOY.iterdir() if path.is_dir()} - {"__pycache__"}
    for folder in folders:
        assert f"`{folder}/`" in text
    for unit in UNITS:
        assert f"`{unit.stem}`" in text
