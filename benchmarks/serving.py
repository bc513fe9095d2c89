"""The scorer against its floor and its peers, in one run: `python -m benchmarks.serving`.

All servers run at once and are asked in turns, round by round, with 64 connections kept open;
figures are medians of rounds, ratios are of CPU time per request. The peers get the finished
features in each request and give a score back; the scorer computes them, decides, and keeps a
journal. Every row states its goal; a goal that is missed is printed as missed, and what cannot be
measured says why.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np

from benchmarks import serving_inside, serving_open_loop
from benchmarks.measure import HEADER, Row, Table, found, without
from benchmarks.serving_home import Prepared, prepare
from benchmarks.serving_servers import CONNECTIONS, Same, Server, first_answer, started
from fraud_platform.errors import FraudPlatformError
from fraud_platform.features.spec import FEATURE_NAMES
from fraud_platform.load.client import Target
from fraud_platform.load.loops import Source
from fraud_platform.load.payments import ROUTE, Payments, Sent
from fraud_platform.processes import Child, free_port

HELLO, BARE = "Litestar hello", "Litestar @asgi hello"
DURABLE, WRITTEN = "scorer, durable", "scorer, written"
MLFLOW, TUTORIAL = "mlflow models serve", "tutorial FastAPI + pandas"
_STATELESS = (MLFLOW, TUTORIAL)
"""Both are handed the finished features and keep nothing."""
_SAME_SCORE = 1e-6


def main(arguments: list[str]) -> int:
    """Measure, print and return the exit code: 1 if a server refused, 0 also for missed goals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rows", type=int, help="use about so many payments")
    parser.add_argument("--trees", type=int, default=300, help="of the model")
    parser.add_argument("--rounds", type=int, default=5, help="of every server")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a round")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args(arguments)
    run = Table(asked.json)
    logging.disable(logging.WARNING)  # of libraries: the table is what is to be read
    with tempfile.TemporaryDirectory() as folder:
        try:
            document = _measure(run, asked, Path(folder))
        except FraudPlatformError as error:
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201 -- a program's output
            return 1
    counts = Counter(row.verdict for row in run.rows)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("met", "missed", "absent"))
    run.say(f"\ngoals: {told}")
    if asked.json:
        document["rows"] = [row.to_dict() for row in run.rows]
        print(json.dumps(document, indent=1))  # noqa: T201 -- a program's output
    return 0


def _measure(run: Table, asked: argparse.Namespace, folder: Path) -> dict[str, object]:
    now = datetime.now(UTC)  # noqa: TID251 -- an entry point reads the clock
    prepared = prepare(asked.rows, folder, trees=asked.trees, now=now)
    cores = len(os.sched_getaffinity(0))
    machine = f"{cores} cores, load {os.getloadavg()[0]:.1f} at the start"
    conditions = f"{asked.rounds} rounds of {asked.seconds:g} s, {CONNECTIONS} connections"
    run.say(f"{prepared.origin}; {asked.trees} trees; {machine}; {conditions}\n\n{HEADER}")
    run.add(serving_inside.inside(prepared, prepared.copy("inside")))
    with _servers(prepared, folder) as (servers, absent):
        for server in servers.values():
            server.warm_up()
        for _ in range(asked.rounds):
            for server in servers.values():
                server.ask(asked.seconds)
        run.add(_costs(servers, absent))
        run.add(_ratios(servers, absent))
        durable, seconds = servers[DURABLE], 2.5 * asked.seconds
        home = folder / "durable"
        run.add(serving_open_loop.rates(durable, servers[HELLO], home, seconds))
        publish = lambda: prepared.publish(home, "2")  # noqa: E731 -- one line, used once
        run.add(serving_open_loop.swap(durable, publish, "2", max(seconds, 5.0)))
    return {"data": prepared.origin, "machine": machine, "conditions": conditions}


def _costs(servers: dict[str, Server], absent: dict[str, str]) -> Iterator[Row]:
    for name in (HELLO, BARE, DURABLE, WRITTEN, MLFLOW, TUTORIAL):
        row = Row(measure=f"{name}: CPU per request", unit="us")
        if name in absent:
            yield without(absent[name], row)[0]
        else:
            yield replace(row, value=servers[name].cost_us, note=servers[name].told())


def _ratios(servers: dict[str, Server], absent: dict[str, str]) -> Iterator[Row]:
    """CPU per request of one over that of another: of the first, so many requests cost the same."""
    per_cpu = "requests per CPU-second"
    for over, under, row in (
        (HELLO, DURABLE, Row(measure=f"{DURABLE} / {HELLO}: {per_cpu}", at_least=0.75)),
        (BARE, DURABLE, Row(measure=f"{DURABLE} / {BARE}: {per_cpu}", at_least=0.4)),
        (DURABLE, WRITTEN, Row(measure=f"{DURABLE} / {WRITTEN}: CPU per request", at_most=1.15)),
        (MLFLOW, DURABLE, Row(measure=f"{DURABLE} / {MLFLOW}: {per_cpu}", at_least=8)),
        (TUTORIAL, DURABLE, Row(measure=f"{DURABLE} / {TUTORIAL}: {per_cpu}", at_least=10)),
    ):
        why = absent.get(over) or absent.get(under)
        if why:
            yield without(why, row)[0]
            continue
        one, other = servers[over].cost_us, servers[under].cost_us
        note = f"{one:,.0f} us / {other:,.0f} us"
        if over in _STATELESS:
            note += "; the scorer also makes the features and keeps a journal"
        yield replace(row, value=one / other, note=note)


@dataclass(frozen=True)
class _Plan:
    """How a server is started, and what it is asked.

    Attributes:
        name: in the table.
        command: the program.
        port: where it will listen.
        path: of its route.
        source: its requests.
        settings: of a scorer.
        score: finds the score in an answer to the first vector; None where there is none.
    """

    name: str
    command: list[str]
    port: int
    path: str
    source: Source[None] | Source[Sent]
    settings: dict[str, str] = field(default_factory=dict)
    score: Callable[[httpx.Response], float] | None = None


@contextmanager
def _servers(
    prepared: Prepared, folder: Path
) -> Iterator[tuple[dict[str, Server], dict[str, str]]]:
    """All servers by name, ready to be asked, and why others are not."""
    plans, absent = _plans(prepared, folder)
    with ExitStack() as stack:
        logs = {plan.name: folder / f"{plan.port}.log" for plan in plans}
        children = {
            plan.name: stack.enter_context(started(plan.command, logs[plan.name], plan.settings))
            for plan in plans
        }
        servers = {}
        for plan in plans:
            child = children[plan.name]
            answer = first_answer(child, _first_request(plan, prepared), logs[plan.name])
            if plan.score is not None:
                ours = float(prepared.model.score(prepared.vectors[:1])[0])
                theirs = plan.score(answer)
                if not np.isclose(ours, theirs, rtol=0, atol=_SAME_SCORE):
                    absent[plan.name] = f"scores {theirs:.6f}, not {ours:.6f} as the model does"
                    continue
            servers[plan.name] = _server(plan, child)
        yield servers, absent


def _first_request(plan: _Plan, prepared: Prepared) -> Callable[[], httpx.Response]:
    address = f"http://127.0.0.1:{plan.port}"
    if isinstance(plan.source, Payments):
        return lambda: httpx.get(f"{address}/health/ready")
    body, _ = plan.source.next()
    headers = {"content-type": "application/json"}
    return lambda: httpx.post(f"{address}{plan.path}", content=body, headers=headers, timeout=30)


def _server(plan: _Plan, child: Child) -> Server:
    target = Target.of(f"http://127.0.0.1:{plan.port}", plan.path, {})
    is_ours = isinstance(plan.source, Payments)
    return Server(plan.name, child, target, plan.source, answers_alone=is_ours)


def _plans(prepared: Prepared, folder: Path) -> tuple[list[_Plan], dict[str, str]]:
    payments = prepared.payments()
    same = [payments.next()[0] for _ in range(256)]
    plans = [
        _peer("hello", HELLO, ROUTE, Same(same)),
        _peer("asgi", BARE, ROUTE, Same(same)),
        _scorer(DURABLE, "durable", prepared),
        _scorer(WRITTEN, "written", prepared),
    ]
    model_path = folder / "model.ubj"
    model_path.write_bytes(prepared.model.payload)
    absent = {}
    peers: dict[str, tuple[str, Callable[[], _Plan]]] = {
        MLFLOW: ("mlflow", lambda: _mlflow(prepared, folder)),
        TUTORIAL: ("fastapi", lambda: _tutorial(prepared, model_path)),
    }
    for name, (library, plan) in peers.items():
        module, why = found(library)
        if module is None:
            absent[name] = why
        else:
            plans.append(plan())
    return plans, absent


def _scorer(name: str, mode: str, prepared: Prepared) -> _Plan:
    port, home = free_port(), prepared.copy(mode)
    settings = {
        "FRAUD_HOME": str(home),
        "FRAUD_SCORER_PORT": str(port),
        "FRAUD_JOURNAL_MODE": mode,
        # Another process would fold the whole log meanwhile.
        "FRAUD_STATE_CHECK_SECONDS": "0",
        "FRAUD_ACCESS__REQUESTS_PER_SECOND": "0",
    }
    command = [sys.executable, "-m", "serving"]
    return _Plan(name, command, port, ROUTE, prepared.payments(), settings)


def _peer(program: str, name: str, path: str, source: Same, *more: str) -> _Plan:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving_peers", program, "--port", str(port)]
    return _Plan(name, [*command, *more], port, path, source)


def _tutorial(prepared: Prepared, model_path: Path) -> _Plan:
    bodies = [
        msgspec.json.encode(dict(zip(FEATURE_NAMES, row, strict=True))) for row in _known(prepared)
    ]
    plan = _peer("tutorial", TUTORIAL, "/predict", Same(bodies), "--model", str(model_path))
    return replace(plan, score=lambda answer: float(answer.json()["score"]))


def _mlflow(prepared: Prepared, folder: Path) -> _Plan:
    """The same booster behind `mlflow models serve`, as its documentation starts it."""
    import mlflow
    import pandas as pd
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(prepared.model.payload))
    frame = pd.DataFrame(prepared.vectors[:8], columns=list(FEATURE_NAMES))
    path = folder / "mlflow-model"
    mlflow.xgboost.save_model(
        booster,
        path,
        model_format="ubj",
        signature=mlflow.models.infer_signature(frame, prepared.model.score(prepared.vectors[:8])),
        pip_requirements=[f"xgboost=={xgboost.__version__}"],
    )
    bodies = [
        msgspec.json.encode({"dataframe_split": {"columns": FEATURE_NAMES, "data": [row]}})
        for row in _known(prepared)
    ]
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(path)]
    command += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
    # mlflow starts uvicorn by its name.
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # noqa: TID251 -- the machine's own
    return _Plan(
        MLFLOW,
        command,
        port,
        "/invocations",
        Same(bodies),
        programs,
        score=lambda answer: float(answer.json()["predictions"][0]),
    )


def _known(prepared: Prepared) -> Sequence[list[float | None]]:
    """The vectors as JSON has them: null where undefined."""
    return [
        [None if np.isnan(value) else value for value in row] for row in prepared.vectors.tolist()
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
