"""Processes of their own for tests, forked from a server that does nothing else.

The runner of the tests has threads that work: what it forks may wait for ever for a lock that a
thread held which is not there any more. Those that the server's imports begin only sleep. Start
them as daemons: the runner waits at its end for all others, those that hang included.

They have the environment of the first test that starts one, so tell them by arguments.
"""

import multiprocessing

APART = multiprocessing.get_context("forkserver")
# Asked for by the first test only, so all that any of them needs stands here: a child that imports
# for seconds is killed before it has begun.
APART.set_forkserver_preload(
    [
        *("pytest", "hypothesis", "mlflow.exceptions", "xgboost"),
        *("fraud_platform.adapters.postgres_mirror", "tests.governed_home"),
    ]
)
