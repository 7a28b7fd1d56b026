"""What `import skimprint` gives, and what it leaves alone."""

import ast
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import skimprint

ROOT = Path(__file__).parents[1]

# What the last two hold is in `skimprint` itself.
HIDDEN = ("_", "demo", "classifier", "embedding")
MODULES = [
    module.name
    for module in pkgutil.iter_modules(skimprint.__path__)
    if not module.name.startswith(HIDDEN)
]


def test_dir_shows_what_is_public_and_nothing_else():
    assert dir(skimprint) == sorted([*skimprint.__all__, *MODULES, "__version__"])


def test_type_checkers_see_the_same_modules():
    tree = ast.parse(Path(skimprint.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    names = [alias.asname for node in block.body for alias in node.names]
    assert names == MODULES


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'skimprint' has no attribute 'metric'"):
        _ = skimprint.metric
    with pytest.raises(ImportError, match="cannot import name 'Imprint'"):
        from skimprint import Imprint  # noqa: F401


# But for the one whose functions are those of another library's collections.
@pytest.mark.parametrize("modules", [[], [m for m in MODULES if m != "dask"]])
def test_modules_come_with_the_package_and_bring_only_dependencies(modules):
    """Such as torch, CuPy and polars wait until they are needed."""
    code = """
import sys
from importlib.metadata import packages_distributions
import sklearn.model_selection, sklearn.datasets, sklearn.linear_model
needs = ["array_api_compat", "joblib", "numpy", "scipy", "skimprint", "threadpoolctl"]
expected = {name.partition(".")[0] for name in sys.modules} | set(needs)
import skimprint
for module in sys.argv[1:]:
    assert getattr(skimprint, module).__name__ == f"skimprint.{module}"
found = {name.partition(".")[0] for name in sys.modules} - expected
print(*found & set(packages_distributions()))
"""
    command = [sys.executable, "-c", code, *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_what_some_builds_of_python_lack_is_not_needed():
    code = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import skimprint
embedder = skimprint.FoundationEmbedder(lambda texts: [[len(t)] for t in texts])
print(embedder.fit_transform(["a", "bb"]).ravel())
"""
    lacking = ["sqlite3", "fcntl", "grp", "pwd", "resource", "termios"]
    command = [sys.executable, "-c", code, *lacking]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[1. 2.]"), done.stderr


def test_an_archive_that_is_imported_has_all_that_it_needs(tmp_path):
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import skimprint
print(skimprint.__file__.startswith(sys.argv[1]))
X, y = skimprint.datasets.load_digits_embeddings(return_X_y=True)
texts, labels = skimprint.datasets.load_intents(return_X_y=True)
clf = skimprint.ImprintClassifier("mean").fit(X[:50], y[:50])
print(skimprint.inspection.report(clf, X[:50], y[:50]).html.count("<html"))
print("__global__" in skimprint.cluster._kmeans.cuda.source())
"""
    package = Path(skimprint.__file__).parent
    archive = shutil.make_archive(
        str(tmp_path / "archive"), "zip", package.parent, package.name
    )
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", code, archive]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "1", "True"]), (
        done.stderr
    )


def test_the_project_names_the_versions_of_python_that_are_tested():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(project)["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    tested = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    (tested,) = re.findall(r"^ +python: \[(.*)\]$", tested, flags=re.MULTILINE)
    assert named == re.findall(r"[\d.]+", tested)
    assert project["requires-python"] == f">={named[0]}"


# Why a module has no tests of its own: packages give names to what their modules hold;
# types are what type checkers look at; and what skl2onnx calls runs in each export.
UNTESTED = ("__init__.py", "_types.py", "classifier/_onnx_hooks.py")


def test_each_module_has_a_test_file_of_its_name():
    package, missing = Path(skimprint.__file__).parent, []
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package)
        tests = module.with_name(f"test_{module.stem.removeprefix('_')}.py")
        is_untested = module.name in UNTESTED or module.as_posix() in UNTESTED
        if not is_untested and not (ROOT / "tests" / tests).is_file():
            missing.append(f"tests/{tests.as_posix()}")
    assert missing == []
