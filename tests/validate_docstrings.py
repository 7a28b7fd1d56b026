"""Validate all public docstrings: ``python tests/validate_docstrings.py``.

numpydoc's checks are chosen in pyproject.toml. Beyond them, every public class and
function has an example, which the doctests run.
"""

import importlib
import inspect
import pkgutil
import sys
import tomllib
from pathlib import Path

from numpydoc.validate import validate

import skimprint

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def public_modules():
    """The package and every module of it without an underscore in its path."""
    yield skimprint
    for info in pkgutil.walk_packages(skimprint.__path__, "skimprint."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            yield importlib.import_module(info.name)


def public_objects():
    """Names of public classes and functions, and of their public methods."""
    for module in public_modules():
        for name, thing in vars(module).items():
            defined_here = getattr(thing, "__module__", "").startswith("skimprint")
            if name.startswith("_") or not defined_here:
                continue
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield f"{thing.__module__}.{thing.__qualname__}", True
            if inspect.isclass(thing):
                for attribute, value in vars(thing).items():
                    is_method = inspect.isfunction(value) and value.__doc__
                    if is_method and not attribute.startswith("_"):
                        path = f"{thing.__module__}.{thing.__qualname__}"
                        yield f"{path}.{attribute}", False


def main():
    checks = tomllib.loads(PYPROJECT.read_text())["tool"]["numpydoc_validation"]
    skipped = {check for check in checks["checks"] if check != "all"}
    n_errors = 0
    objects = dict(public_objects())
    for name, needs_example in sorted(objects.items()):
        result = validate(name)
        errors = [error for error in result["errors"] if error[0] not in skipped]
        if needs_example and ">>>" not in result["docstring"]:
            errors.append(("EX01", "No example"))
        for code, message in errors:
            print(f"{result['file']}:{result['file_line']}: {name}: {code} {message}")
        n_errors += len(errors)
    print(f"{len(objects)} public docstrings, {n_errors} errors")
    return 1 if n_errors else 0


if __name__ == "__main__":
    sys.exit(main())
