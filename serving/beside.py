"""Ask another process: what takes seconds is found beside the scorer, and no payment waits."""

import asyncio
import sys
from typing import Any

import msgspec

from fraud_platform.errors import UnavailableError


async def answer_of(module: str, order: msgspec.Struct, answer: Any) -> Any:
    """Run `python -m MODULE` with this order on stdin; it ends when this is cancelled.

    Args:
        module: what reads an order of this kind from stdin and answers on stdout, all JSON.
        order: what is asked.
        answer: the type of its answer, or a union of tagged ones.

    Raises:
        UnavailableError: no process could be started, or it ended without such an answer.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        # Errors that nobody foresaw may quote payments: what it says on stderr is not for a log.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise UnavailableError(f"found no way to start a process: {error}") from error
    try:
        said, _ = await process.communicate(msgspec.json.encode(order))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(said, type=answer)
    except msgspec.DecodeError as error:
        raise UnavailableError(
            f"found {module} ended with {process.returncode} and {len(said)} bytes that are no"
            " answer"
        ) from error
