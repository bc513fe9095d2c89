"""Processes of their own for tests, forked from a server that has no threads.

The runner of the tests has threads of its libraries: what it forks may wait for ever for a lock
that a thread held which is not there any more.
"""

import multiprocessing

APART = multiprocessing.get_context("forkserver")
# Asked for by the first test only, so all that any of them needs stands here.
APART.set_forkserver_preload(
    ["pytest", "hypothesis", "fraud_platform.adapters.postgres_mirror", "tests.governed_home"]
)
