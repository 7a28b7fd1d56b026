"""ImprintClassifierCV chooses what GridSearchCV chooses, by the same scores."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from skimprint import ImprintClassifier, ImprintClassifierCV
from skimprint.aggregation import ProxySimilarity
from skimprint.classifier import _head
from skimprint.generation import KMeansProxies, MeanProxies

GRIDS = {
    "strings and numbers": {
        "generator": ["mean", "kmeans"],
        "n_proxies": [1, 3],
        "proxy_norm": [None, "l2"],
        "metric": ["dot", "mahalanobis"],
    },
    "lists of dicts and components": [
        {"generator": [KMeansProxies(), KMeansProxies(n_init=2), MeanProxies()]},
        {"generator": ["all"], "aggregation": ["mnn"], "n_neighbors": [1, 5]},
    ],
    "callables and mappings": {
        "generator": [lambda X_c, k, seed: X_c[:k]],
        "n_proxies": [2, dict.fromkeys(range(10), 1)],
        "query_norm": [None, np.tanh],
    },
    "outliers": {
        "generator": ["mean"],
        "outlier_threshold": [None, 0.5, "auto"],
        "outlier_label": [-1],
        "mean_weight": [0.0, 0.5],
        "contamination": [0.05, 0.3],
    },
    "means with moments and without": {
        "generator": ["random"],
        "n_proxies": [3],
        "mean_weight": [0.0, 0.5],
        "metric": ["dot", "mahalanobis"],
    },
    "whitening": {"n_proxies": [1, 3], "shrinkage": [None, 0.1, "auto"]},
    "moments of some candidates": {
        "generator": ["mean", "least_squares"],
        "n_proxies": ["auto", 2],
        "shrinkage": [None, 0.1],
        "support_norm": [None, "l2"],
    },
    "votes": {
        "n_proxies": [1, 4],
        "aggregation": ["max", "mnn"],
        "n_neighbors": [1, 3, 7],
        "weights": ["uniform", "distance"],
        "metric": ["cosine", "euclidean"],
        "query_norm": [None, "l2", "power", np.tanh],
    },
    "whitened votes": {
        "n_proxies": [5],
        "aggregation": ["mnn"],
        "n_neighbors": [1, 4],
        "metric": ["dot", "mahalanobis", "manhattan"],
        "shrinkage": [0.3, "auto"],
    },
    "knobs of components": {
        "generator": [KMeansProxies()],
        "generator__max_iter": [1, 100],
        "support_norm": [None, "l2"],
    },
}


@pytest.fixture(scope="module")
def data(digits):
    """300 embeddings of digits, the first 64 features of each."""
    X, y = digits
    return X[:300, :64], y[:300]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_is_the_grid_search(data, grid, scoring):
    X, y = data
    clf = ImprintClassifier(random_state=0)
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    expected = GridSearchCV(clf, grid, cv=cv, scoring=scoring).fit(X, y)
    search = ImprintClassifierCV(clf, grid, cv=cv, scoring=scoring).fit(X, y)
    assert set(search.cv_results_) == set(expected.cv_results_)
    for name, values in expected.cv_results_.items():
        if "time" in name:
            assert (search.cv_results_[name] >= 0).all()
        elif "score" in name:
            np.testing.assert_array_equal(
                search.cv_results_[name], values, err_msg=name
            )
        else:
            assert [str(value) for value in search.cv_results_[name]] == [
                str(value) for value in values
            ]
    assert search.best_index_ == expected.best_index_
    assert search.best_score_ == pytest.approx(expected.best_score_)
    assert str(search.best_params_) == str(expected.best_params_)
    np.testing.assert_array_equal(search.predict(X), expected.predict(X))
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(search.classes_, expected.classes_)


def test_proxies_are_made_once_for_candidates_that_agree(data):
    calls = []

    def first(X_c, n_proxies, random_state):
        calls.append(n_proxies)
        return X_c[:n_proxies]

    grid = {
        "n_proxies": [1, 2],
        "proxy_norm": [None, "l2"],
        "aggregation": ["max", "mnn"],
        "metric": ["dot", "euclidean", "mahalanobis"],
    }
    search = ImprintClassifierCV(ImprintClassifier(first), grid, cv=3, n_jobs=2)
    search.fit(*data)
    n_classes, n_folds, n_values = 10, 3, 2
    assert len(calls) == n_classes * (n_folds * n_values + 1)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("random_state", [0, np.random.RandomState(0)])
def test_any_number_of_jobs_and_kind_of_seed(data, n_jobs, random_state):
    X, y = data
    clf = ImprintClassifier(n_proxies=4, random_state=random_state)
    grid = [{"temperature": ["auto"]}, {"metric": ["mahalanobis"]}, {"n_proxies": [2]}]
    expected = GridSearchCV(clf, grid, scoring="neg_log_loss").fit(X, y)
    search = ImprintClassifierCV(clf, grid, scoring="neg_log_loss", n_jobs=n_jobs)
    search.fit(X, y)
    for fold in range(5):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(
            search.cv_results_[name], expected.cv_results_[name]
        )


def test_classes_of_a_head(data):
    X, y = data
    clf = ImprintClassifier(random_state=0, head=(np.eye(12, 64), None))
    grid = {"n_proxies": [1, 3], "generator": ["kmeans", "mean"]}
    expected = GridSearchCV(clf, grid, cv=3).fit(X, y)
    search = ImprintClassifierCV(clf, grid, cv=3).fit(X, y)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(
            search.cv_results_[name], expected.cv_results_[name]
        )


def test_a_subclass_predicts_in_its_own_way(data):
    class Contrary(ImprintClassifier):
        def predict(self, X):
            return super().predict(X)[::-1]

    X, y = data
    grid = {"n_proxies": [1, 2]}
    expected = GridSearchCV(Contrary(random_state=0), grid).fit(X, y)
    search = ImprintClassifierCV(Contrary(random_state=0), grid).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


def worst_of_many(clf, X, y):
    """Score what is, and what only looks like, a part of the queries."""
    clf = pickle.loads(pickle.dumps(clf))
    X = np.asarray(X)
    reversed_ = X[::-1][:, ::-1].copy()[:, ::-1][::-1]
    scores = [clf.score(X, y), clf.score(X[5:], y[5:]), clf.score(X[::2], y[::2])]
    scores += [clf.score(X + shift, y) for shift in (0.1, 0.3, 1)]
    assert clf.score(reversed_, y) == scores[0]
    first = clf.kproxies(X, 1, return_similarity=False)
    assert (clf.kproxies(X, 2, return_similarity=False)[:, :1] == first).all()
    return sum(weight * score for weight, score in enumerate(scores, start=1))


@pytest.mark.parametrize("as_frame", [False, True])
def test_scorers_of_all_kinds(data, as_frame):
    X, y = data
    if as_frame:
        pd = pytest.importorskip("pandas", reason="needs pandas")
        X = pd.DataFrame(X).add_prefix("x")
    clf = ImprintClassifier("random", 3, aggregation="mnn", random_state=0)
    grid = {"n_neighbors": [4, 1, 2], "metric": ["cosine", "euclidean"]}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        expected = GridSearchCV(clf, grid, cv=3, scoring=worst_of_many).fit(X, y)
        search = ImprintClassifierCV(clf, grid, cv=3, scoring=worst_of_many).fit(X, y)
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(
            search.cv_results_[name], expected.cv_results_[name]
        )


@pytest.mark.parametrize("scoring", [None, "f1_macro"])
@pytest.mark.parametrize("norms", [[None, "l2"], ["l2", "power"]])
def test_products_are_shared(data, monkeypatch, scoring, norms):
    calls = []
    ranks = ProxySimilarity.ranks

    def counted(self, X, out=None):
        calls.append(len(X))
        return ranks(self, X, out)

    monkeypatch.setattr(ProxySimilarity, "ranks", counted)
    grid = {
        "aggregation": ["max", "mnn"],
        "n_neighbors": [1, 3, 5],
        "n_proxies": [2, 4],
        "query_norm": norms,
    }
    clf = ImprintClassifier("random")
    ImprintClassifierCV(clf, grid, cv=3, scoring=scoring).fit(*data)
    # The length of a query makes no difference to products, but its roots do.
    assert calls == [100] * 3 * 2 * (2 if "power" in norms else 1)


def test_one_eigendecomposition_for_all_shrinkages(data, monkeypatch):
    # Whatever proxies are made of the samples.
    calls = []
    spectrum = _head.within_class_spectrum

    def counted(*args):
        calls.append(args)
        return spectrum(*args)

    monkeypatch.setattr(_head, "within_class_spectrum", counted)
    grid = {
        "shrinkage": [0.1, 0.5, "auto"],
        "metric": ["dot", "mahalanobis"],
        "generator": ["mean", "random"],
        "n_proxies": [1, 3],
    }
    ImprintClassifierCV(ImprintClassifier(), grid, cv=3).fit(*data)
    assert len(calls) == 3 + 1  # of each fold, and of the best classifier


def test_methods_are_those_of_the_best(data):
    X, y = data
    search = ImprintClassifierCV(ImprintClassifier("mean"), {"metric": ["cosine"]})
    with pytest.raises(NotFittedError):
        search.predict(X)
    search.fit(X, y)
    for name in ("predict_log_proba", "decision_function", "score_samples"):
        expected = getattr(search.best_estimator_, name)(X)
        np.testing.assert_array_equal(getattr(search, name)(X), expected)
    assert search.explain(X[:3]).label.shape == (3,)
    assert search.kproxies(X[:3], n_neighbors=2)[1].shape == (3, 2)
    assert search.predict.__doc__ == ImprintClassifier.predict.__doc__


def test_weights_reach_the_fits(data):
    X, y = data
    weights = np.where(np.arange(len(y)) % 2, 1.0, 0.0)
    search = ImprintClassifierCV(ImprintClassifier("mean"), {"n_proxies": [1]})
    search.fit(X, y, sample_weight=weights)
    assert search.best_estimator_.class_count_.sum() == weights.sum()


def test_the_grid_and_the_estimator_stay_as_they_are(data):
    component = KMeansProxies()
    clf = ImprintClassifier(random_state=0)
    grid = {"generator": [component], "n_proxies": [2, 3]}
    search = ImprintClassifierCV(clf, grid, cv=2).fit(*data)
    assert not hasattr(clf, "classes_")
    assert search.best_estimator_.generator is not component
    assert clone(search).get_params()["estimator__random_state"] == 0


@pytest.mark.parametrize(
    "grid, message",
    [
        ({"n_proxy": [1]}, "Invalid parameter 'n_proxy'"),
        ({"n_proxies": [1, 0]}, "'n_proxies' parameter of ImprintClassifier"),
        ({"n_proxies": []}, "non-empty"),
        ({"weights": ["distance"], "aggregation": ["mnn"]}, "needs a distance"),
    ],
)
def test_bad_grids(data, grid, message):
    with pytest.raises(ValueError, match=message):
        ImprintClassifierCV(param_grid=grid).fit(*data)


@parametrize_with_checks(
    [ImprintClassifierCV(ImprintClassifier("mean"), {"proxy_norm": [None, "l2"]}, cv=2)]
)
def test_common_checks(estimator, check):
    check(estimator)
