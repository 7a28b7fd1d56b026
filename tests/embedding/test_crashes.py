import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from crashes import BATCH_SIZE, N_ITEMS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run_script(name, tmp_path):
    script = Path(__file__).with_name("crashes.py")
    command = [sys.executable, script, name, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "when, n_lost", [("each_batch", BATCH_SIZE), ("all_at_once", N_ITEMS)]
)
def test_killed_at_20_random_moments_and_resumed(tmp_path, when, n_lost):
    reports = run_script(when, tmp_path)
    assert len(reports) == 20
    for report in reports:
        assert report["resumed"]
        assert report["right"]
        assert report["embedded"] == N_ITEMS
        assert report["embedded_twice"] <= n_lost
    # The moments are random, but some of them are in the middle.
    assert any(
        report["killed"] and 0 < report["embedded_before"] < N_ITEMS
        for report in reports
    )


def test_two_processes_share_a_cache(tmp_path):
    report = run_script("two_processes", tmp_path)
    assert report["statuses"] == [0, 0, 0]
    assert report["right"] == [True, True, True]
    assert report["embedded_by_third"] == 0
