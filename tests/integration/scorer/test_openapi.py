"""The OpenAPI document against the real scorer: schemathesis, all phases, with and without a key.

FRAUD_SCHEMATHESIS_CASES says how many requests to send at least; the nightly run asks for 10,000.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fraud_platform.access import SCOPES, ApiKey, digest_of, id_of
from fraud_platform.adapters.key_store import KeyStore
from serving.app import create_app

CASES = int(os.environ.get("FRAUD_SCHEMATHESIS_CASES", "1500"))
SEED = 20_260_302


@pytest.fixture
def key(settings):
    """A key that may do all that one key may."""

    def make(text):
        return ApiKey(
            id=id_of(text),
            environment="live",
            digest=digest_of(text),
            subject="schemathesis",
            scopes=tuple(scope for scope in SCOPES if scope != "approve"),  # never beside admin
            created_us=0,
        )

    return KeyStore(settings.access_dir).create(make, environment="live")[0]


@pytest.fixture
def url(settings, publish, key):
    """A scorer as a process, with a model and a key."""
    publish("1")
    environment = {
        **os.environ,
        "FRAUD_HOME": str(settings.home),
        "FRAUD_SCORER_PORT": "0",
        "FRAUD_ACCESS__REQUESTS_PER_SECOND": "0",
        "FRAUD_ACCESS__FAILURES_PER_SECOND": "0",
    }
    with (settings.home / "said.log").open("w") as said:
        popen = subprocess.Popen(
            [sys.executable, "-m", "serving"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        line = popen.stdout.readline()
        assert "http://" in line, (settings.home / "said.log").read_text()
        yield line.split()[-1]
        popen.kill()
        popen.wait()


def sent_by_schemathesis(url, folder, seed, *headers):
    """How many requests one run of schemathesis sent; fails with what it found."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run"),
        *(f"{url}/schema/openapi.json", "--no-color", "--checks", "all", "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--seed", str(seed)),
        *("--max-examples", str(max(20, CASES // 75)), *headers),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("schemathesis_hooks.py"))}
    run = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **hooks},
        capture_output=True,
        text=True,
        timeout=3_600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    return int(re.search(r"([\d,]+) generated", run.stdout)[1].replace(",", ""))


def test_the_scorer_keeps_its_openapi_document(url, key, tmp_path, settings):
    sent = {"with_key": 0, "without_key": 0}
    seed = SEED
    while sum(sent.values()) < CASES:
        known = ("-H", f"Authorization: Bearer {key}")
        sent["with_key"] += sent_by_schemathesis(url, tmp_path, seed, *known)
        sent["without_key"] += sent_by_schemathesis(url, tmp_path, seed)
        seed += 1
    print(json.dumps({"test": "T-SCH", **sent, "first_seed": SEED}))
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}) as client:
        assert client.get("/health/ready").json()["seq"] > 50, "good payments were decided"
        assert 'code="internal_error"' not in client.get("/metrics").text


def test_the_document_says_all_that_a_sender_needs(settings):
    document = create_app(settings).openapi_schema.to_schema()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], path
            is_open = path.startswith("/health")
            assert ("security" in operation) != is_open, path
            needed = set() if is_open else {"401", "403", "429"}
            needed |= {"400", "408", "413", "415", "422", "503"} if method == "post" else set()
            assert needed <= set(operation["responses"]), path
            if method == "post":
                [content] = operation["requestBody"]["content"].values()
                assert content["example"], path
    [shown] = document["paths"]["/v1/decisions"]["post"]["responses"]["200"]["content"].values()
    [example] = shown["examples"].values()
    assert example["value"]["decision"] == "decline"
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert "sandbox_approve" in document["info"]["description"]
