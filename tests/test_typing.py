"""The scripts that type checkers see: complete, and valid when they run.

The checks themselves are those of `make lint`.
"""

import ast
import inspect
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

import skimprint
from skimprint import (
    AdaptedClassifier,
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
)
from skimprint.cluster import GroupedKMeans
from skimprint.generation import __all__ as generators
from skimprint.model_selection import NShotSplit

CLASSES = [name for name in generators if name[0].isupper()]
GOOD = Path(__file__).parent / "typing" / "good.py"
CALLS = [
    node
    for node in ast.walk(ast.parse(GOOD.read_text("utf-8")))
    if hasattr(node, "func")
]


@pytest.mark.parametrize(
    "thing",
    [
        AdaptedClassifier,
        FoundationEmbedder,
        ImprintClassifier,
        ImprintClassifierCV,
        skimprint.Rejection,
        skimprint.aggregation.Votes,
        GroupedKMeans,
        NShotSplit,
        *(
            getattr(skimprint.generation, name)
            for name in generators
            if name[0].isupper()
        ),
    ],
)
def test_every_parameter_is_there(thing):
    given = set()
    for call in CALLS:
        if getattr(call.func, "id", None) == thing.__name__:
            given |= {keyword.arg for keyword in call.keywords}
            given |= set(list(inspect.signature(thing).parameters)[: len(call.args)])
    assert given == set(inspect.signature(thing).parameters)


def test_every_attribute_is_there():
    """Type checkers know those that stand in the class, and not those set elsewhere."""
    (function,) = (
        node
        for node in ast.parse(GOOD.read_text("utf-8")).body
        if getattr(node, "name", None) == "attributes"
    )
    read = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
    for arg in function.args.args:
        name = arg.annotation.id
        thing = getattr(skimprint, name, None) or getattr(
            skimprint.inspection, name, None
        )
        thing = thing or getattr(skimprint.cluster, name)
        told = inspect.getdoc(thing).partition("Attributes\n----------\n")[2]
        told = re.findall(r"^(\w.*) : ", told.partition("\n\n")[0], re.M)
        told = {each for names in told for each in names.split(", ")}
        assert told
        given = {node.attr for node in read if getattr(node.value, "id", 0) == arg.arg}
        assert told <= given, name


def test_every_value_is_valid():
    pytest.importorskip("pandas", reason="needs pandas")
    script = runpy.run_path(str(GOOD))
    made = [
        *script["generators"](KMeans()),
        *script["classifiers"](KMeans()),
        *script["searches"](),
        *script["adapted"](ImprintClassifier().fit(np.eye(3), [0, 1, 2])),
        *script["embedders"](lambda items: items),
        *script["others"](),
    ]
    for thing in made:
        if hasattr(thing, "_parameter_constraints"):
            thing._validate_params()
    assert script["data"]()
    assert len(script["copies"](np.eye(3), np.array([0, 1, 1]))) == 2
    script["modules"]()
    assert script["chains"](np.eye(2), ["left", "right"], {"left": 1, "right": 2})
