"""Check a user's scripts with mypy and pyright: ``python tools/check_types.py``.

Both must report every line of ``tests/typing`` that is marked ``# expect-error``, and
no other.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(
    path.relative_to(ROOT) for path in (ROOT / "tests/typing").glob("*.py")
)
MARK = "# expect-error"

MYPY = [
    "--strict",
    "--follow-imports=silent",  # as of an installed package
    "--ignore-missing-imports",  # scikit-learn has no types
    "--no-error-summary",
]


def main():
    expected = {
        (path.name, number)
        for path in SCRIPTS
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1)
        if MARK in line
    }
    n_wrong = 0
    for name, checker in {"mypy": by_mypy, "pyright": by_pyright}.items():
        found = checker()
        for place in sorted(expected - found.keys()):
            print("{}:{}: {} finds no error here".format(*place, name))
        for place in sorted(found.keys() - expected):
            print("{}:{}: {}: {}".format(*place, name, found[place]))
        n_wrong += len(expected ^ found.keys())
    print(f"{len(expected)} lines to find, {n_wrong} differences")
    return 1 if n_wrong else 0


def by_mypy():
    """Collect what mypy says, by script and line."""
    output = run("mypy", *MYPY)
    errors = re.findall(r"^(.+?):(\d+): error: (.*)", output, re.M)
    return {(Path(path).name, int(line)): text for path, line, text in errors}


def by_pyright():
    """Collect what pyright says, by script and line."""
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable)
    return {
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1): found[
            "message"
        ]
        for found in json.loads(output)["generalDiagnostics"]
        if found["severity"] == "error"
    }


def run(module, *options):
    """Return what a checker prints about the scripts; it fails only on errors."""
    command = [sys.executable, "-m", module, *options, *map(str, SCRIPTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{module} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
