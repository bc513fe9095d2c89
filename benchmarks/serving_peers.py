"""Servers to compare the scorer with, one per run: `python -m benchmarks.serving_peers NAME`.

`hello` and `asgi` do nothing but read a payment and answer: what the framework costs by itself.
`tutorial` is the service that tutorials end with: FastAPI, a pandas frame of one row per request,
`predict_proba`.
"""

import argparse
import sys
from typing import Any

import msgspec
import uvicorn
from litestar import Litestar, asgi, post
from litestar.types import Receive, Scope, Send

from fraud_platform.features.spec import FEATURE_NAMES
from serving.schemas import TransactionIn


class Hello(msgspec.Struct, frozen=True, gc=False):
    """An answer about as long as the shortest that could be of use."""

    transaction_id: str
    decision: str


@post("/v1/decisions", status_code=200)
async def greet(data: TransactionIn) -> Hello:
    """Read a payment, decide nothing."""
    return Hello(data.transaction_id, "approve")


_DECODER = msgspec.json.Decoder(TransactionIn, strict=True)


@asgi("/v1/decisions", copy_scope=False)
async def greet_bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The same without the framework's handling of requests."""
    body = b""
    more = True
    while more:
        message: Any = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = msgspec.json.encode(Hello(_DECODER.decode(body).transaction_id, "approve"))
    length = str(len(answer)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    start: Any = {"type": "http.response.start", "status": 200, "headers": headers}
    await send(start)
    end: Any = {"type": "http.response.body", "body": answer, "more_body": False}
    await send(end)


def tutorial(model_path: str) -> Any:
    """FastAPI, pandas and scikit-learn's interface, as tutorials put them together."""
    import fastapi
    import pandas as pd
    import pydantic
    import xgboost

    model = xgboost.XGBClassifier()
    model.load_model(model_path)
    model.set_params(n_jobs=1)
    features: Any = dict.fromkeys(FEATURE_NAMES, (float | None, None))
    request: Any = pydantic.create_model("Features", **features)
    app = fastapi.FastAPI()

    @app.post("/predict")
    def predict(row: request) -> dict[str, float]:
        frame = pd.DataFrame([row.model_dump()]).astype(float)
        return {"score": float(model.predict_proba(frame)[0, 1])}

    return app


def main(arguments: list[str]) -> None:
    """Serve until terminated, by the same HTTP server and settings as the scorer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_peers", description=__doc__)
    parser.add_argument("name", choices=["hello", "asgi", "tutorial"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="", help="the model file of the tutorial's service")
    asked = parser.parse_args(arguments)
    app: Any = tutorial(asked.model) if asked.name == "tutorial" else _litestar(asked.name)
    uvicorn.run(
        app,
        port=asked.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )


def _litestar(name: str) -> Litestar:
    handler: Any = greet if name == "hello" else greet_bare
    return Litestar([handler], openapi_config=None, logging_config=None)


if __name__ == "__main__":
    main(sys.argv[1:])
