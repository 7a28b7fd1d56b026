"""Values come back as they are, and what has no form is named."""

import importlib
import pickle
from enum import Enum
from inspect import isabstract, isclass, signature

import numpy as np
import pytest
import sklearn.model_selection
from saved_models import edit, names_in, through
from settings import plain_classifier
from sklearn.pipeline import make_pipeline

from skimprint import FoundationEmbedder, ImprintClassifierCV, persistence
from skimprint.model_selection import NShotSplit

pytest.importorskip("safetensors", reason="needs skimprint[files]")

# What splitters have that is not their default.
SPLITS = {
    "gap": 1,
    "n_groups": 3,
    "n_repeats": 3,
    "n_shots": 2,
    "n_splits": 4,
    "p": 2,
    "random_state": 7,
    "shuffle": True,
    "test_fold": [0, 1, 0, 1],
    "test_size": 0.3,
}


def test_splitters_come_back(digits, folder):
    X, y = digits[0][:60], digits[1][:60]
    search = ImprintClassifierCV(param_grid={"n_proxies": [1]}, cv=2).fit(X, y)
    splitters = [
        each
        for each in (NShotSplit, *vars(sklearn.model_selection).values())
        if isclass(each) and hasattr(each, "get_n_splits") and not isabstract(each)
    ]
    assert len(splitters) > 14
    for splitter in splitters:
        names = signature(splitter).parameters.keys() & SPLITS.keys()
        search.cv = splitter(**{name: SPLITS[name] for name in names})
        assert repr(through(search, folder).cv) == repr(search.cv)


def test_devices_and_dtypes_of_torch_are_written_by_name(folder):
    torch = pytest.importorskip("torch", reason="needs torch")
    clf = plain_classifier("mean").fit(np.eye(2), [0, 1])
    kwargs = {"dtype": torch.float16}
    embedder = FoundationEmbedder(
        "transformers:theirs",
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        model_kwargs=kwargs,
    )
    persistence.save(make_pipeline(embedder, clf), folder)
    again = persistence.load(folder, trust_remote_code=True)[0]
    assert (again.device, again.dtype) == ("cpu", "bfloat16")
    assert again.model_kwargs == {"dtype": "float16"}
    kwargs["config"] = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"^model_kwargs\..*or pickle the model"):
        persistence.save(make_pipeline(embedder, clf), folder)


def half(X, n_proxies=None, random_state=None):
    return X / 2


@pytest.mark.parametrize(
    "params, name",
    [
        ({"generator": lambda X, n, seed: X[:n]}, "generator"),
        ({"support_norm": half}, "support_norm"),
        ({"proxy_norm": half}, "proxy_norm"),
        ({"query_norm": half}, "query_norm"),
        ({"aggregation": lambda s, c: s[:, :10]}, "aggregation"),
        ({"metric": lambda X, P: X @ P.T}, "metric"),
        ({"random_state": np.random.RandomState(0)}, "random_state"),
    ],
)
def test_what_cannot_be_written_is_named_before_anything_is(
    digits, folder, params, name
):
    X, y = digits
    params = {"generator": "all"} | params
    clf = plain_classifier(**params, n_proxies=1).fit(X[:100], y[:100])
    search = ImprintClassifierCV(plain_classifier("mean"), {"n_proxies": [1]})
    search.fit(X, y).estimator = clf
    for model in (clf, search):
        with pytest.raises(ValueError, match=rf"^(estimator__)?{name} must be.*Pass"):
            persistence.save(model, folder)
        assert names_in(folder.parent) == []


@pytest.mark.parametrize(
    "scoring",
    [
        None,
        "accuracy",
        ["accuracy", "f1_macro"],
        ("accuracy", "f1_macro"),
        {"a": "accuracy", "f": "f1_macro"},
    ],
    ids=repr,
)
def test_skops_trusts_our_names_alone(digits, folder, scoring):
    skops = pytest.importorskip("skops.io", reason="needs skops")
    X, y = digits[0][:200], digits[1][:200]
    refit = scoring is None or isinstance(scoring, str) or next(iter(scoring))
    search = ImprintClassifierCV(
        None, {"n_proxies": [1, 2]}, cv=2, scoring=scoring, refit=refit
    ).fit(X, y)
    best = search.best_estimator_
    loaded = [through(model, folder) for model in (search, best)]
    for clf in (search, best, best.compact(), *loaded):
        dump = skops.dumps(clf)
        assert set(skops.get_untrusted_types(data=dump)) <= {*persistence.TRUSTED_TYPES}
        again = skops.loads(dump, trusted=persistence.TRUSTED_TYPES)
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
        assert again.score(X, y) == clf.score(X, y)
    again = pickle.loads(pickle.dumps(search))
    assert repr(again.scorer_) == repr(search.scorer_)
    assert again.score(X, y) > 0.9


def test_only_what_keeps_parameters_is_trusted():
    for path in persistence.TRUSTED_TYPES:
        module, _, name = path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        assert hasattr(cls, "get_params") or hasattr(cls, "split")


def test_results_of_a_search_that_do_not_fit_are_refused(digits, folder):
    search = ImprintClassifierCV(param_grid={"n_proxies": [1, 2]}, cv=2).fit(*digits)
    persistence.save(search, folder)
    edit(
        folder,
        lambda whole, model: [
            value["tuple"][1]["masked"][2].append(True)
            for value in model["results"]["cv_results_"]["dict"]
            if "masked" in str(value)
        ],
    )
    with pytest.raises(ValueError, match="Mask and data not compatible"):
        persistence.load(folder)


def test_labels_that_are_members_of_an_enum_are_written_as_their_text(folder):
    class Colour(str, Enum):  # noqa: UP042, as many write it
        RED = "red"

    X, y = np.eye(2), ["red", "blue"]
    clf = plain_classifier(n_proxies={Colour.RED: 1, "blue": 1}).fit(X, y)
    again = through(clf, folder)
    assert again.n_proxies == clf.n_proxies
    assert again.fit(X, y).predict(X).tolist() == y


def test_components_in_components_are_refused_where_an_error_would_never_end(
    digits, folder
):
    search = ImprintClassifierCV(param_grid={"n_proxies": [1, 2]}, cv=2).fit(*digits)
    persistence.save(search, folder)
    name = "skimprint.ImprintClassifierCV"
    nested = None
    for _ in range(100):
        nested = {"component": [name, {"estimator": nested, "refit": "no"}]}
    edit(folder, lambda whole, model: model["parameters"].update(estimator=nested))
    with pytest.raises(ValueError, match="at most 8 levels of components; it has 100"):
        persistence.load(folder)
