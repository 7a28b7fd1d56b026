import doctest
import importlib
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import skimprint

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    page
    for page in sorted((DOCS / "guide").glob("*.md"))
    if ">>>" in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_the_documentation(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    libraries = "torch", "transformers", "onnxruntime", "safetensors", "dask.array"
    needed = [
        library
        for library in libraries
        if f">>> import {library}" in text or f">>> from {library}" in text
    ]
    if "Display." in text:
        needed.append("matplotlib")
    for library in needed:
        pytest.importorskip(library, reason=f"needs {library}")
    failed, _ = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failed == 0


# What people type into the search box, and the page that answers them.
LOOKED_FOR = {
    "benchmarks/index": "accuracy, speed",
    "guide/embedding": "huggingface, DINOv2",
    "guide/imprinting": "few-shot, transfer learning, fine-tuning, prototype, centroid",
    "guide/index": "quickstart",
    "guide/inspection": "mislabelled, confusion, explain",
    "guide/learning": "incremental, continual, online, unlearning, partial_fit, GDPR",
    "guide/limits": "linear probe, multi-label, regression",
    "guide/probabilities": "calibration, confidence, uncertainty, predict_proba",
    "guide/proxies": "kNN, nearest neighbours, kmeans",
    "guide/search": "hyperparameters, grid",
    "guide/setting": "imbalanced, whitening",
    "guide/shots": "few-shot",
    "guide/trust": "security, pickle",
    "guide/unknown": (
        "out-of-distribution, OOD, novelty, anomaly, outlier, open-set, drift"
    ),
    "guide/zero_shot": "zero-shot, CLIP",
    "install": "license, cite, BibTeX, pip",
}


@pytest.mark.parametrize("page", LOOKED_FOR)
def test_the_search_finds_what_others_call_it(page):
    """The search of the site knows the words of a page, and no synonyms."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    text = " ".join(text.split()).lower()
    for word in LOOKED_FOR[page].split(", "):
        assert word.lower() in text


CLASSES = sorted(
    {
        value
        for module in ("skimprint", "skimprint.cluster", "skimprint.generation")
        for value in vars(importlib.import_module(module)).values()
        if inspect.isclass(value) and value.__module__ == module
    },
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_examples_of_classes_whose_module_is_their_public_path(cls):
    """Those that no module with their code finds in itself."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = doctest.DocTestFinder().find(cls, module=False, globs={})
    for examples in found:
        runner.run(examples)
    assert found
    assert runner.summarize(verbose=False).failed == 0


def test_public_classes_say_where_users_import_them_from():
    assert {skimprint.FoundationEmbedder, skimprint.ImprintClassifier} < {*CLASSES}
    for cls in CLASSES:
        assert not any(part.startswith("_") for part in cls.__module__.split("."))


def test_the_reference_lists_all_that_is_public():
    """`tools/check_site.py` looks at the pages themselves, once they are built."""
    pytest.importorskip("dask.array", reason="needs dask")
    listed = set((DOCS / "api.rst").read_text(encoding="utf-8").split())
    for info in pkgutil.iter_modules(skimprint.__path__):
        if not info.name.startswith(("_", "classifier", "embedding")):
            module = importlib.import_module(f"skimprint.{info.name}")
            assert module.__name__ in listed
            assert listed.issuperset(module.__all__)
    assert listed.issuperset(skimprint.__all__)


def test_the_page_on_installing_says_what_the_project_asks_for():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(project)["project"]
    text = " ".join((DOCS / "install.md").read_text(encoding="utf-8").split())
    found = dict(re.findall(r"(Python|NumPy|SciPy|scikit-learn) ([\d.]+\d)", text))
    asked = dict(req.split(">=") for req in project["dependencies"])
    assert found.pop("Python") == project["requires-python"].removeprefix(">=")
    assert found == {name: asked[name.lower()] for name in found}
    assert len(found) == 3


def test_the_page_on_installing_cites_as_the_repository_does():
    text = " ".join((DOCS / "install.md").read_text(encoding="utf-8").split())
    entry = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    entry = entry.partition("preferred-citation")[2]
    names = re.findall(r"family-names: (\w+), given-names: ([^}]+)}", entry)
    written = " and ".join(", ".join(name) for name in names)
    assert len(names) == 7
    assert written.replace("ö", r"{\"o}") in text
    for kind in ("title", "journal"):
        assert re.search(rf'{kind}: "(.*)"', entry)[1] in text


# Extras that are for work on skimprint itself.
OURS = {"bench", "demo", "demo-text", "lint", "paper"}


def test_the_page_on_installing_lists_the_extras():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(project)["project"]["optional-dependencies"]
    text = (DOCS / "install.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall("`(.*?)`", row)}
    ours = {name for name in extras if name in OURS or name.startswith("test")}
    assert listed == set(extras) - ours


def test_contributors_read_what_each_module_is_for():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+(?:/|\.py))`", text))
    for info in pkgutil.iter_modules(skimprint.__path__):
        assert info.name + ("/" if info.ispkg else ".py") in named


def test_the_ways_through_the_package_name_what_there_is():
    named = re.findall(r"(?<!`)`(\w+)`(?!`)", skimprint.classifier.__doc__)
    folder = Path(skimprint.__file__).parent
    source = "\n".join(p.read_text(encoding="utf-8") for p in folder.rglob("*.py"))
    defined = set(re.findall(r"^ *(?:def|class) (\w+)", source, flags=re.MULTILINE))
    assert len(named) > 20
    assert set(named) <= defined


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_with_prompts_say_so(page):
    """As `pycon`, which a reader's tools take for a session, output and all."""
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"```(?!pycon)\w*\n>>>", text)
