"""``python benchmarks/paper`` on a folder of the user's own, with methods of theirs."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAPER = Path(__file__).parents[1] / "benchmarks" / "paper"
METHODS = """
from sklearn.neighbors import KNeighborsClassifier

METHODS = {"three neighbours": lambda seed: KNeighborsClassifier(3)}
"""

for library in ("jinja2", "matplotlib", "pandas", "scikit_posthocs", "tqdm"):
    pytest.importorskip(library)
pytestmark = pytest.mark.skipif(not PAPER.is_dir(), reason="not a checkout")


def run(*arguments):
    return subprocess.run(
        [sys.executable, PAPER, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    """A file of four classes with 24 samples each, and a file of methods."""
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c", "d"], 24)
    X = rng.normal(size=(4, 8)).repeat(24, axis=0) + rng.normal(size=(96, 8))
    arrays = {"X_train": X, "y_train": y, "X_test": X + 0.1, "y_test": y}
    np.savez(tmp_path / "tiny.npz", **arrays)
    (tmp_path / "mine.py").write_text(METHODS)
    return tmp_path


def test_own_methods_stand_in_both_reports_and_a_run_goes_on_where_it_was(folder):
    arguments = ["--quick", "--embeddings", folder, "--results", folder / "results"]
    arguments += ["--methods", folder / "mine.py"]
    first = run(*arguments)
    assert first.returncode == 0, first.stderr
    assert "minutes of a processor" in first.stdout
    report = folder / "results" / "report"
    page = (report / "paper.md").read_text("utf-8")
    for part in ("Few shots", "Real conditions", "On all training data"):
        table = page.partition(f"\n## {part}\n")[2].partition("\n## ")[0]
        assert "\n| three neighbours |" in table
    assert "three neighbours &" in (report / "paper.tex").read_text("utf-8")

    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("0 of ")


@pytest.mark.parametrize(
    "text, message",
    [
        ("OTHER = {}", "must define METHODS"),
        ("METHODS = {'mine': 3}", "callables that take a seed"),
        ("METHODS = {'Qi': print}", r"methods of this name already: \['Qi'\]"),
    ],
)
def test_a_file_of_methods_that_is_none_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(PAPER)
    load_methods = runpy.run_path(str(PAPER / "methods.py"))["load_methods"]
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_methods(path)
