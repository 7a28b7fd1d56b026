"""Validate all public docstrings: ``python tools/validate_docstrings.py``.

numpydoc's checks are chosen in pyproject.toml. Beyond them, every public class and
function has an example, which the doctests run; every entry of a list is a name, not a
sentence that would be shown as one; and every reference is referred to.
"""

import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import skimprint

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def public_objects():
    """Yield full names of what public modules export, and of the methods of classes."""
    names = [
        info.name for info in pkgutil.walk_packages(skimprint.__path__, "skimprint.")
    ]
    for module_name in ["skimprint", *names]:
        if any(part.startswith("_") for part in module_name.split(".")):
            continue
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not callable(thing):
                continue
            path = f"{thing.__module__}.{thing.__qualname__}"
            yield path, True
            for method, value in inspect.getmembers(thing, inspect.isfunction):
                ours = value.__doc__ and value.__module__.startswith("skimprint")
                if ours and not method.startswith("_"):
                    yield f"{path}.{method}", False


def our_errors(docstring):
    """Yield what numpydoc does not look for, as its codes and messages."""
    sections = NumpyDocString(docstring)
    for section in ("Parameters", "Attributes"):
        for entry in sections[section]:
            names = [name.strip(" *") for name in entry.name.split(",")]
            if not all(map(str.isidentifier, names)):
                yield "GL90", f"No name, in {section}: {entry.name!r}"
    listed = set(re.findall(r"^\.\. \[(\w+)\]", docstring, re.MULTILINE))
    for number in sorted(listed ^ set(re.findall(r"\[(\w+)\]_", docstring))):
        yield "GL91", f"Reference [{number}] is listed, or referred to, alone"


def main():
    checks = tomllib.loads(PYPROJECT.read_text("utf-8"))["tool"]["numpydoc_validation"]
    skipped = {check for check in checks["checks"] if check != "all"}
    n_errors = 0
    objects = dict(public_objects())
    for name, needs_example in sorted(objects.items()):
        result = validate(name)
        errors = [error for error in result["errors"] if error[0] not in skipped]
        errors += our_errors(result["docstring"])
        if needs_example and ">>>" not in result["docstring"]:
            errors.append(("EX01", "No example"))
        for code, message in errors:
            print(f"{result['file']}:{result['file_line']}: {name}: {code} {message}")
        n_errors += len(errors)
    print(f"{len(objects)} public docstrings, {n_errors} errors")
    return 1 if n_errors else 0


if __name__ == "__main__":
    sys.exit(main())
