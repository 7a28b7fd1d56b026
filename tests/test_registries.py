"""A new part is one class or one entry, and works wherever its kind does."""

import pickle

import numpy as np
import pytest
import sklearn
from scipy.spatial.distance import cdist
from settings import plain_classifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skimprint import ImprintClassifierCV, Rejection
from skimprint._arrays.device import to_host
from skimprint._scoring.similarity import METRICS, Similarity
from skimprint.aggregation import AGGREGATIONS, Aggregation, max_scores
from skimprint.generation import GENERATORS, ProxyGenerator, synthesized
from skimprint.normalization import NORMS, PROXY_NORMS, Norm


def cube_roots(xp, X):
    return xp.sign(X) * xp.abs(X) ** (1 / 3)


class Canberra(Similarity):
    name = "canberra"

    def compare(self, queries, vectors):
        return -cdist(vectors, queries, "canberra")


def canberra(queries, proxies):
    """The same, of a user's."""
    return -cdist(queries, proxies, "canberra")


class Softened(Aggregation):
    """Between the mean and the maximum of each class."""

    def scores(self, similarities, offsets, metric):
        best = max_scores(similarities, offsets)
        means = np.add.reduceat(similarities, offsets[:-1]) / np.diff(offsets)[:, None]
        return ((best + means) / 2).astype(similarities.dtype)


def softened(similarities, proxy_classes):
    """The same, of a user's."""
    of_class = [similarities[:, proxy_classes == c] for c in np.unique(proxy_classes)]
    return np.stack([(s.max(axis=1) + s.mean(axis=1)) / 2 for s in of_class], axis=1)


class Ends(ProxyGenerator):
    """The means of the samples before and after the middle of each class."""

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        vectors = []
        for group, k in enumerate(n_proxies):
            rows = support.rows(group)
            halves = np.array_split(rows, min(2, k, len(rows)))
            vectors.append(np.stack([half.mean(axis=0) for half in halves]))
        offsets = np.cumsum([0, *map(len, vectors)])
        return synthesized(support, np.concatenate(vectors), offsets, n_jobs=n_jobs)


PARTS = {
    "generator": {"generator": "ends"},
    "norm": {"support_norm": "cube", "query_norm": "cube"},
    "norm, chosen queries": {"support_norm": "cube", "query_norm": "auto"},
    "norm of proxies": {"proxy_norm": "cube"},
    "metric": {"metric": "canberra"},
    "metric, function": {"metric": canberra},
    "aggregation": {"aggregation": "softened"},
    "function": {"aggregation": softened},
    "all": {
        "support_norm": "cube",
        "query_norm": "cube",
        "metric": "canberra",
        "aggregation": "softened",
    },
}
METHODS = ("predict", "predict_proba", "decision_function", "score_samples")


@pytest.fixture(params=PARTS, autouse=True)
def params(request, monkeypatch):
    """Parameters that name a part which has been registered."""
    cube = Norm("cube", before=cube_roots, unit_length=True)
    monkeypatch.setitem(NORMS, "cube", cube)
    monkeypatch.setitem(PROXY_NORMS, "cube", cube)
    monkeypatch.setitem(METRICS, "canberra", Canberra)
    monkeypatch.setitem(AGGREGATIONS, "softened", Softened())
    monkeypatch.setitem(GENERATORS, "ends", Ends)
    return {"n_proxies": 3, "random_state": 0, "temperature": "auto"} | PARTS[
        request.param
    ]


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    X = X[:, ::16] + 0.1  # rounding of what is zero would show in roots and shares
    return X[:200], y[:200], X[200:300]


def by_definition(params, proxies, codes, queries):
    """Scores of queries, by the definition of the parts."""
    if "cube" in (params.get("query_norm"), params.get("support_norm")):
        queries = np.cbrt(queries)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    similarities = queries @ proxies.T
    if "metric" in params:
        similarities = -cdist(queries, proxies, "canberra")
    if "aggregation" in params:
        return softened(similarities, codes)
    return np.stack(
        [similarities[:, codes == c].max(axis=1) for c in np.unique(codes)], axis=1
    )


def test_predicts_by_definition(data, params):
    X, y, queries = data
    clf = plain_classifier(**params).fit(X, y)
    expected = by_definition(params, clf.proxies_, clf.proxy_labels_, queries)
    scores = clf.decision_function(queries)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(clf.predict(queries), scores.argmax(axis=1))
    assert 0 < clf.temperature_ != 1
    assert np.isfinite(clf.predict_proba(queries)).all()
    again = pickle.loads(pickle.dumps(clone(clf).fit(X, y)))
    np.testing.assert_array_equal(again.decision_function(queries), scores)


def test_a_generator_of_its_own_learns_in_parts_merges_and_forgets(data, params):
    X, y, queries = data
    params |= {"generator": Ends(), "n_proxies": 2}
    whole = plain_classifier(**params).fit(X, y)
    parts = plain_classifier(**params).fit(X[:150], y[:150])
    parts.partial_fit(X[150:], y[150:])
    merged = plain_classifier(**params).fit(X[:150], y[:150])
    merged.merge(plain_classifier(**params).fit(X[150:], y[150:]))
    for clf in (parts, merged):
        # All samples are remembered: no class has more than forty.
        assert np.mean(clf.predict(queries) == whole.predict(queries)) > 0.9
        np.testing.assert_array_equal(clf.class_count_, whole.class_count_)
        assert clf.forget([3, 9]).classes_.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    alone = plain_classifier(**params).fit(X[y == 3], y[y == 3])
    np.testing.assert_array_equal(
        alone.proxies_, whole.proxies_[whole.proxy_labels_ == 3]
    )


def test_learns_in_parts_and_forgets(data, params):
    X, y, queries = data
    params |= {"generator": "mean"}
    whole = plain_classifier(**params).fit(X, y)
    parts = plain_classifier(**params).fit(X[:120], y[:120])
    parts.partial_fit(X[120:], y[120:])
    for name in ("decision_function", "predict_proba"):
        np.testing.assert_allclose(
            getattr(parts, name)(queries),
            getattr(whole, name)(queries),
            rtol=1e-4,
            atol=1e-5,
        )
    scores = whole.decision_function(queries)
    np.testing.assert_allclose(
        parts.forget(9).decision_function(queries), scores[:, :9], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"rejection": Rejection(-1)},
        {"whitening": 0.5},
        {"generator": "all"},
        {"mean_weight": 0.5},
        {"generator": "mean", "head": (np.eye(3, 64, dtype=np.float32), [20, 21, 22])},
    ],
)
def test_with_all_else(data, params, changes):
    X, y, queries = data
    clf = plain_classifier(**(params | changes)).fit(X, y)
    assert np.isfinite(clf.decision_function(queries)).all()
    assert clf.temperature_ > 0
    assert np.mean(clf.predict(X) == y) > 0.3  # of ten classes


def test_of_no_pairs(data, params):
    """As where no proxy changes without the samples that are left out."""
    X, y, _ = data
    compare = plain_classifier(**params).fit(X, y)._fitted.scorer.similarity
    assert compare.paired(compare.prepare(X[:0]), X[:0]).shape == (0,)


def test_leaves_samples_out_as_if_they_were_not_there(data, params):
    """Where proxies are samples: the temperature is that of such scores.

    Each class has the same say.
    """
    X, y, _ = data
    X, y = X[:60], y[:60]
    kept = plain_classifier(**(params | {"generator": "all"})).fit(X, y)
    scores = np.empty((60, 10), np.float32)
    fixed = params | {"generator": "all", "temperature": 1.0}
    for i in range(60):
        others = np.arange(60) != i
        clf = plain_classifier(**fixed).fit(X[others], y[others])
        scores[i] = clf.decision_function(X[[i]])
    # What is most probable around the temperature, with its prior.
    spread = (scores - scores[np.arange(60), y][:, None]).std()
    log_probabilities, weights = [], 6 / np.bincount(y)[y]
    for temperature in kept.temperature_ * np.array([0.9, 1, 1.1]):
        logits = scores / temperature
        logits = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        apart = (np.log(spread / temperature) - 1) / 0.4
        log_probabilities.append(weights @ logits[np.arange(60), y] - apart**2 / 2)
    assert np.argmax(log_probabilities) == 1


def test_anywhere(data, params, xp, monkeypatch):
    """On devices: there where the part can be, else rows come to the host."""
    monkeypatch.setattr("skimprint._arrays.device._is_on_host", lambda X: False)
    X, y, queries = data
    with sklearn.config_context(array_api_dispatch=False):
        expected = plain_classifier(**params).fit(X, y)
        found = {name: getattr(expected, name)(queries) for name in METHODS}
    clf = plain_classifier(**params).fit(xp(X), xp(y))
    np.testing.assert_allclose(clf.proxies_, expected.proxies_, rtol=1e-3, atol=1e-4)
    for name in METHODS:
        result = getattr(clf, name)(xp(queries))
        assert xp.owns(result)
        np.testing.assert_allclose(
            to_host(result), found[name], rtol=1e-3, atol=1e-4, err_msg=name
        )


def test_in_searches(data, params):
    X, y, _ = data
    grid = {"n_proxies": [1, 2], "query_norm": ["l2", params.get("query_norm", None)]}
    clf = plain_classifier(**(params | {"temperature": 1.0, "support_norm": "l2"}))
    expected = GridSearchCV(clf, grid, cv=3).fit(X, y)
    search = ImprintClassifierCV(clf, grid, cv=3).fit(X, y)
    assert search.best_params_ == expected.best_params_
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


def test_a_name_that_is_not_registered_is_an_error(data, params):
    X, y, _ = data
    names = PARTS["all"] | {"proxy_norm": 1, "generator": 1}
    name = next(key for key in names if key in params)
    with pytest.raises(ValueError, match=rf"{name}.* (among {{'|one of \['all')"):
        plain_classifier(**{name: "sphere"}).fit(X, y)
