"""Programs as children: what an earlier parent left behind is ended, and nothing else."""

import os
import subprocess
import sys

import pytest

END = """
import pathlib, sys
from fraud_platform.processes import end_strays
print(end_strays(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strays are found in /proc")
def test_strays_of_a_home_are_ended_by_a_parent_that_carries_the_mark_itself(tmp_path):
    marked = {**os.environ, "FRAUD_PARENT_HOME": str(tmp_path.resolve())}
    with subprocess.Popen(["sleep", "60"], env=marked) as stray:
        told = subprocess.run(
            [sys.executable, "-c", END, str(tmp_path)],
            env=marked,
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == "1"
        assert stray.wait(10) == -9
