"""ImprintClassifierCV chooses what GridSearchCV chooses, by the same scores."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import sklearn
from settings import plain_classifier
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import accuracy_score, f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from skimprint import ImprintClassifier, ImprintClassifierCV, Rejection
from skimprint._memory import learner
from skimprint.aggregation import Votes
from skimprint.classifier import _shared_fits
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
        {
            "generator": ["all"],
            "aggregation": [Votes(1), "mnn"],
        },
        {"aggregation": [Votes()], "aggregation__n_neighbors": [1, 3]},
    ],
    "callables and mappings": {
        "generator": [lambda X_c, k, seed: X_c[:k]],
        "n_proxies": [2, dict.fromkeys(range(10), 1)],
        "query_norm": [None, np.tanh],
    },
    "rejection": {
        "generator": ["mean"],
        "rejection": [None, Rejection(-1, threshold=0.5), Rejection(-1)],
        "mean_weight": [0.0, 0.5],
        "temperature": [1.0, "auto"],
    },
    "knobs of the rejection": {
        "rejection": [Rejection(-1)],
        "rejection__rate": [0.05, 0.3],
    },
    "means with moments and without": {
        "generator": ["random"],
        "n_proxies": [3],
        "mean_weight": [0.0, 0.5],
        "metric": ["dot", "mahalanobis"],
    },
    "whitening": {"n_proxies": [1, 3], "whitening": [None, 0.1, "auto"]},
    "moments of some candidates": {
        "generator": ["mean", "least_squares"],
        "n_proxies": [1, 2],
        "whitening": [None, 0.1],
        "support_norm": [None, "l2"],
    },
    "votes": {
        "n_proxies": [4],
        "aggregation": ["max", "mnn", Votes(1), Votes(7), Votes(3, "distance")],
        "metric": ["cosine", "euclidean"],
        "query_norm": [None, "l2", np.tanh],
    },
    "whitened votes": {
        "n_proxies": [5],
        "aggregation": [Votes(1), Votes(4)],
        "metric": ["dot", "mahalanobis", "manhattan"],
        "whitening": [0.3, "auto"],
    },
    "whitened where norms are alike": {
        "query_norm": [None, "auto", "l2"],
        "whitening": [0.5, "auto"],
    },
    "the norm of the support by that of queries": {
        "support_norm": ["auto", "l2", "power"],
        "query_norm": ["auto", "l2", "power", None],
    },
    "knobs of components": {
        "generator": [KMeansProxies()],
        "generator__max_iter": [1, 100],
        "support_norm": [None, "l2"],
    },
}


class ScaledDot(BaseEstimator):
    """A metric with a parameter whose values look alike in a representation."""

    def __init__(self, scale=None):
        self.scale = scale

    def __call__(self, queries, proxies):
        return (queries * self.scale) @ proxies.T


GRIDS["components that look alike"] = {
    "metric": [ScaledDot(np.eye(64)[0]), ScaledDot(np.eye(64)[0] + np.eye(64)[40])]
}
GRIDS["what is chosen by samples, by the norm of queries"] = [
    {
        "support_norm": [None],
        "query_norm": norms,
        "temperature": ["auto"],
        "rejection": [None, Rejection(-1)],
        "whitening": [None, 0.5],
    }
    for norms in (["l2", None, "power"], [None, "power"])
]


def check_same(search, expected):
    """Check that a search found what GridSearchCV found, but for times."""
    assert vars(search).keys() == vars(expected).keys() - {"_checked_cv_orig"}
    assert search.cv_results_.keys() == expected.cv_results_.keys()
    for name, values in expected.cv_results_.items():
        found = search.cv_results_[name]
        if "time" in name:
            assert (found >= 0).all()
        elif values is expected.cv_results_["params"] or values.dtype == object:
            assert list(map(str, found)) == list(map(str, values))
        else:
            np.testing.assert_array_equal(found, values, err_msg=name)
            assert found.dtype == values.dtype
    for name in ("best_index_", "best_params_", "best_score_", "n_splits_"):
        found, value = getattr(search, name, None), getattr(expected, name, None)
        assert str(found) == str(value), name


@pytest.fixture(scope="module")
def data(digits):
    """300 embeddings of digits, the first 64 features of each."""
    X, y = digits
    return X[:300, :64], y[:300]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize(
    "params",
    [
        {"return_train_score": True},
        {"scoring": ["neg_log_loss", "accuracy"], "refit": "neg_log_loss"},
    ],
    ids=["accuracy", "two scorers"],
)
def test_is_the_grid_search(data, grid, params):
    X, y = data
    clf = plain_classifier(random_state=0)
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    expected = GridSearchCV(clf, grid, cv=cv, **params).fit(X, y)
    search = ImprintClassifierCV(clf, grid, cv=cv, **params).fit(X, y)
    check_same(search, expected)
    np.testing.assert_array_equal(search.predict(X), expected.predict(X))
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(search.classes_, expected.classes_)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("random_state", [0, np.random.RandomState(0)])
def test_any_number_of_jobs_and_kind_of_seed(data, n_jobs, random_state):
    X, y = data
    clf = plain_classifier(n_proxies=4, random_state=random_state)
    grid = [{"temperature": ["auto"]}, {"metric": ["mahalanobis"]}, {"n_proxies": [2]}]
    expected = GridSearchCV(clf, grid, scoring="neg_log_loss").fit(X, y)
    search = ImprintClassifierCV(clf, grid, scoring="neg_log_loss", n_jobs=n_jobs)
    search.fit(X, y)
    for fold in range(5):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(
            search.cv_results_[name], expected.cv_results_[name]
        )


@pytest.mark.parametrize("rejection", [None, Rejection(-1, threshold=0.5)])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_test_samples_that_are_too_large_are_refused(data, metric, rejection):
    X, y = data
    X = np.float32(X) * 1e15
    train, test = np.arange(len(X) - 10), np.arange(len(X) - 10, len(X))
    X[test] *= 1e20
    clf = plain_classifier(
        "mean",
        support_norm=None,
        query_norm=None,
        proxy_norm=None,
        metric=metric,
        rejection=rejection,
    )
    params = {"cv": [(train, test)], "error_score": "raise", "refit": False}
    for search in (ImprintClassifierCV, GridSearchCV):
        with pytest.raises(ValueError, match="X is too large: scores of queries"):
            search(clf, {"n_proxies": [1]}, **params).fit(X, y)


def test_scorers_may_copy_what_they_get(data):
    def of_copies(clf, X, y):
        scorers = clf._fitted.scorer, copy.deepcopy(clf._fitted.scorer)
        expected, found = (each.winners(X, None) for each in scorers)
        np.testing.assert_array_equal(found, expected)
        return pickle.loads(pickle.dumps(clf)).score(X, y)

    clf, grid = plain_classifier(random_state=0), {"aggregation": ["max", "mnn"]}
    search = ImprintClassifierCV(
        clf, grid, cv=2, scoring=of_copies, error_score="raise"
    ).fit(*data)
    expected = GridSearchCV(clf, grid, cv=2).fit(*data)
    assert search.best_score_ == expected.best_score_


@pytest.mark.parametrize("in_grid", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {"head": (np.eye(12, 64), None)},
        {"n_proxies": {label: 1 + label % 3 for label in range(10)}},
    ],
    ids=["head", "n_proxies"],
)
def test_values_that_are_no_numbers_are_shared(data, monkeypatch, params, in_grid):
    """Also where the first candidate needs less to be remembered than another."""
    X, y = data
    n_learnt = []

    def learn(plan, *args):
        state = learner.learn(plan, *args)
        n_learnt.append(1)
        return state

    def learn_each(plans, batch):
        n_learnt.append(len(plans))
        return learner.learn_each(plans, batch)

    monkeypatch.setattr(_shared_fits, "learn", learn)
    monkeypatch.setattr(_shared_fits, "learn_each", learn_each)
    clf = ImprintClassifier(random_state=0).set_params(**({} if in_grid else params))
    grid = {"mean_weight": [0, 0.5], "whitening": [None, 0.3], "metric": ["dot"]}
    grid |= {name: [value] for name, value in params.items() if in_grid}
    scoring = ["accuracy", "neg_log_loss"]
    if "head" in params:  # more classes than labels
        scoring = {"accuracy": "accuracy", "scale": lambda clf, X, y: clf.temperature_}
    options = {"cv": 2, "scoring": scoring, "refit": "accuracy"}
    expected = GridSearchCV(clf, grid, **options).fit(X, y)
    search = ImprintClassifierCV(clf, grid, **options).fit(X, y)
    assert n_learnt == [1, 1]  # once in each fold
    for name, values in expected.cv_results_.items():
        if "test_" in name:
            np.testing.assert_array_equal(search.cv_results_[name], values)


def test_classes_of_a_head(data):
    X, y = data
    head = np.eye(12, 64), None
    clf = plain_classifier(random_state=0, head=head)
    grid = {"n_proxies": [1, 3], "generator": ["kmeans", "mean"]}
    grids = [grid, {"head": [None, head], "whitening": [None, "auto"]}]
    expected = GridSearchCV(clf, grids, cv=3).fit(X, y)
    search = ImprintClassifierCV(clf, grids, cv=3).fit(X, y)
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


@pytest.mark.parametrize("several", [False, True])
def test_scorers_may_change_what_they_get(data, several):
    def robustness(clf, X, y):
        before = clf.score(X, y)
        X += np.random.default_rng(0).normal(0, 1, X.shape)
        after = clf.score(X, y)
        y[:] = y[0]
        return before - after

    grid = {"aggregation": ["max", "mnn", Votes(2)], "n_proxies": [1, 3]}
    scoring = {"a": robustness, "b": "accuracy"} if several else robustness
    params = {"cv": 2, "scoring": scoring, "refit": False, "return_train_score": True}
    clf = plain_classifier(random_state=0)
    expected = GridSearchCV(clf, grid, **params).fit(*data).cv_results_
    found = ImprintClassifierCV(clf, grid, **params).fit(*data).cv_results_
    names = [name for name in expected if name.startswith("split")]
    assert any(expected[name].std() > 0 for name in names)
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("as_frame", [False, True])
def test_scorers_of_all_kinds(data, as_frame):
    X, y = data
    if as_frame:
        pd = pytest.importorskip("pandas", reason="needs pandas")
        X = pd.DataFrame(X).add_prefix("x")
    clf = plain_classifier("random", 3, aggregation=Votes(), random_state=0)
    grid = {"aggregation__n_neighbors": [4, 1, 2], "metric": ["cosine", "euclidean"]}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        expected = GridSearchCV(clf, grid, cv=3, scoring=worst_of_many).fit(X, y)
        search = ImprintClassifierCV(clf, grid, cv=3, scoring=worst_of_many).fit(X, y)
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(
            search.cv_results_[name], expected.cv_results_[name]
        )


def test_methods_are_those_of_the_best(data):
    X, y = data
    search = ImprintClassifierCV(plain_classifier("mean"), {"metric": ["cosine"]})
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
    search = ImprintClassifierCV(plain_classifier("mean"), {"n_proxies": [1]})
    search.fit(X, y, sample_weight=weights)
    assert search.best_estimator_.class_count_.sum() == weights.sum()


def test_the_grid_and_the_estimator_stay_as_they_are(data):
    component = KMeansProxies()
    clf = plain_classifier(random_state=0)
    grid = {"generator": [component], "n_proxies": [2, 3]}
    search = ImprintClassifierCV(clf, grid, cv=2).fit(*data)
    assert not hasattr(clf, "classes_")
    assert search.best_estimator_.generator is not component
    assert clone(search).get_params()["estimator__random_state"] == 0


def outcome(search, X, y, **params):
    """What comes of a fit: warnings, and the search or its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = search.fit(X, y, **params)
        except Exception as error:
            result = error
    told = set()
    for each in caught:
        # But for tracebacks and for the search itself.
        text = re.split("\n| when fitting", str(each.message).strip())[0]
        # OpenBLAS may raise this flag for finite values: see `pytest_configure`.
        if text != "invalid value encountered in matmul":
            told.add((each.category, text))
    return result, told


@pytest.mark.parametrize(
    "params, grid, more",
    [
        ({"rejection": Rejection(0.5)}, {"rejection__rate": [0.6, 0.2]}, {}),
        ({"rejection": Rejection(np.nan)}, {"rejection__rate": [0.6, 0.2]}, {}),
        ({"rejection": Rejection(-1)}, {"rejection__rate": [0.6, 0.2]}, {}),
        ({}, {"n_proxies": [1, 3]}, {"cv": [(np.arange(60), np.arange(0))]}),
        ({}, [], {}),
    ],
)
def test_what_cannot_be_scored_is_told_as_by_grid_search(params, grid, more):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    X = rng.normal(size=(3, 8))[y] + 0.7 * rng.normal(size=(120, 8))
    clf = plain_classifier(random_state=0, **params)
    (peer, told), (search, ours) = (
        outcome(cls(clf, grid, **more), X, y)
        for cls in (GridSearchCV, ImprintClassifierCV)
    )
    assert ours == told
    if isinstance(peer, Exception):
        assert (type(search), str(search)) == (type(peer), str(peer))
    else:
        check_same(search, peer)


def a_random_search(seed):
    """Parameters of a search and of its fit, some of which are errors."""
    rng = np.random.default_rng(seed)

    def any_of(*values):
        return values[rng.integers(len(values))]

    n, n_classes = 40, int(rng.integers(2, 5))
    y = rng.permutation(np.arange(n) % n_classes)
    X = rng.normal(size=(n, 5)).astype(any_of(np.float32, np.float64))
    X[np.arange(n), y] += 1.5
    y = any_of(y, y - 1, y.astype(float), y.astype(str), y == 0)
    groups = rng.integers(4, size=n)

    def nan_for_dot(clf, X, y):
        return np.nan if clf.metric == "dot" else clf.score(X, y)

    def error_for_dot(clf, X, y):
        if clf.metric == "dot":
            raise ValueError("no score")
        return clf.score(X, y)

    def several(clf, X, y):
        return {"a": clf.score(X, y), "b": clf.predict_proba(X).max()}

    def text(clf, X, y):
        return "good"

    grid = {
        "n_proxies": any_of([1, 3], [0, 2], [1], [0], [None, 3]),
        "metric": any_of(["dot", "cosine"], ["euclidean", "dot"]),
        "aggregation": any_of(
            ["max"], ["max", "mnn"], [Votes(1), Votes(2)], ["max", Votes(1, "distance")]
        ),
        "rejection": any_of(
            [None], [None], [None, Rejection(-1, threshold=0.5)], [None, Rejection(-1)]
        ),
    }
    if any_of(False, True):
        keys = rng.permutation(list(grid))[:2]
        grid = [{key: grid[key]} for key in keys]
    more = {
        "support_norm": any_of([None, "l2"], ["auto", "power"]),
        "query_norm": any_of(["auto", None], [None, "auto"], ["l2", "power"]),
        "whitening": any_of(["auto", 0.5], [None, "auto"]),
        "mean_weight": [0.0, "auto"],
        "kernel_weight": [0.0, 0.25],
        "generator": any_of(["mean", "kmeans"], ["kmeans", "least_squares"]),
        "temperature": [1.0, "auto"],
    }
    more = {key: more[key] for key in rng.permutation(list(more))[: any_of(0, 1, 3)]}
    grid = [each | more for each in grid] if isinstance(grid, list) else grid | more
    clf = any_of(plain_classifier, ImprintClassifier)(random_state=0)
    scoring = any_of(
        None,
        None,
        "f1_macro",
        "neg_log_loss",
        ["accuracy", "f1_macro"],
        {"a": "accuracy", "b": make_scorer(accuracy_score)},
        make_scorer(f1_score, average="macro"),
        nan_for_dot,
        error_for_dot,
        several,
        text,
    )
    params = {
        "scoring": scoring,
        "cv": any_of(2, 3, GroupKFold(2), list(GroupKFold(2).split(X, y, groups)), []),
        "refit": any_of(True, True, False, "a", "accuracy", lambda results: 0),
        "error_score": any_of(np.nan, np.nan, 0.5, "raise"),
        "return_train_score": any_of(False, True),
    }
    weights = rng.random(n) if any_of(False, True) else None
    fit_params = {"sample_weight": weights} if any_of(False, True) else {}
    if any_of(True, True, False):
        fit_params["groups"] = groups
    y = y[:, None] if any_of(False, False, True) else y
    return clf, grid, params, any_of(list, np.asarray)(X), y, fit_params


@pytest.mark.parametrize("block", range(6))
def test_random_searches_are_those_of_grid_search(block):
    for seed in range(20 * block, 20 * block + 20):
        clf, grid, params, X, y, fit_params = a_random_search(seed)
        peer, told = outcome(GridSearchCV(clf, grid, **params), X, y, **fit_params)
        search, ours = outcome(
            ImprintClassifierCV(clf, grid, **params), X, y, **fit_params
        )
        if isinstance(peer, Exception) and params["error_score"] == "raise":
            # Of several errors the first, which depends on the order of the fits.
            assert isinstance(search, Exception), seed
        elif isinstance(peer, Exception):
            assert type(search) is type(peer), seed
            assert str(search).partition("\n\n")[0] == str(peer).partition("\n\n")[0]
        else:
            check_same(search, peer)
            assert ours == told, seed
            if params["refit"]:
                np.testing.assert_array_equal(search.predict(X), peer.predict(X))


def test_labels_in_a_column(data):
    X, y = data
    clf, grid = plain_classifier(random_state=0), {"n_proxies": [1, 3, 8]}
    expected = ImprintClassifierCV(clf, grid).fit(X, y)
    with pytest.warns(DataConversionWarning):
        search = ImprintClassifierCV(clf, grid).fit(X, y[:, None])
    check_same(search, expected)


@pytest.mark.parametrize("scoring", ["f1_macro", None])
def test_score_is_by_the_scorer(data, scoring):
    X, y = data
    search = ImprintClassifierCV(param_grid={"metric": ["dot"]}, scoring=scoring, cv=2)
    search.fit(X[::2], y[::2])
    predicted = search.predict(X)
    expected = {None: accuracy_score(y, predicted)}
    expected["f1_macro"] = f1_score(y, predicted, average="macro")
    assert search.score(X, y) == expected[scoring]


def test_weights_count_in_scores(data):
    # As in scikit-learn, whichever version it is; from 1.9 on they do.
    X, y = data
    clf = plain_classifier("mean", random_state=0)
    grid = {"metric": ["dot", "euclidean", "mahalanobis"], "mean_weight": [0, 0.5]}
    chosen = []
    for seed in range(5):
        weights = np.random.default_rng(seed).exponential(size=len(y)) ** 3
        peer = GridSearchCV(clf, grid, cv=3).fit(X, y, sample_weight=weights)
        search = ImprintClassifierCV(clf, grid, cv=3).fit(X, y, weights)
        check_same(search, peer)
        chosen.append(search.cv_results_["mean_test_score"])
    assert len(np.unique(chosen, axis=0)) == 5


@pytest.mark.parametrize("spent", [True, False])
def test_no_splits_are_an_error(data, spent):
    splits = StratifiedKFold(2).split(*data) if spent else iter([])
    list(splits)
    with pytest.raises(ValueError, match=r"Was the CV iterator empty\?"):
        ImprintClassifierCV(cv=splits).fit(*data)


@pytest.mark.parametrize("scoring", [None, "f1_macro"])
@pytest.mark.parametrize("shown_as", [list, np.asarray, range, "mask", "frame"])
def test_splits_of_any_kind(data, shown_as, scoring):
    """Rows of an iterable are arrays of numbers, lists, ranges or masks."""
    (X, y), weights, asked = data, np.arange(300) % 3 + 1.0, {"scoring": scoring}
    cuts = [((0, 200), (200, 300)), ((100, 300), (0, 100))]
    splits = [[np.arange(*ends) for ends in split] for split in cuts]
    clf, grid = plain_classifier(random_state=0), {"n_proxies": [1, 2]}
    expected = GridSearchCV(clf, grid, cv=splits, **asked)
    expected.fit(X, y, sample_weight=weights)
    if shown_as == "mask":
        splits = [[np.isin(np.arange(300), rows) for rows in split] for split in splits]
    elif shown_as == "frame":
        pandas = pytest.importorskip("pandas")
        X, splits = pandas.DataFrame(X), [[range(*e) for e in split] for split in cuts]
    elif shown_as is range:
        splits = [[range(*ends) for ends in split] for split in cuts]
    else:
        splits = [[shown_as(rows) for rows in split] for split in splits]
    search = ImprintClassifierCV(clf, grid, cv=splits, **asked)
    search.fit(X, y, sample_weight=weights)
    check_same(search, expected)


def test_groups_decide_the_splits(data):
    X, y = data
    groups = np.arange(len(y)) % 7
    clf, grid = plain_classifier(random_state=0), {"n_proxies": [1, 2]}
    search = ImprintClassifierCV(clf, grid, cv=GroupKFold(3))
    with pytest.raises(ValueError, match="groups"):
        search.fit(X, y)
    search.fit(X, y, groups=groups)
    peer = GridSearchCV(clf, grid, cv=GroupKFold(3)).fit(X, y, groups=groups)
    check_same(search, peer)


def test_metadata_routing(data):
    X, y = data
    weights, groups = np.arange(len(y)) % 3 + 1.0, np.arange(len(y)) % 5
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight="of_score")
        clf = plain_classifier("mean").set_fit_request(sample_weight=True)
        params = {"scoring": scorer, "cv": GroupKFold(3)}
        given = {"sample_weight": weights, "of_score": weights[::-1], "groups": groups}
        search = ImprintClassifierCV(clf, {"n_proxies": [1]}, **params)
        peer = GridSearchCV(clf, {"n_proxies": [1]}, **params)
        check_same(search.fit(X, y, **given), peer.fit(X, y, **given))
        scores = [each.score(X, y, of_score=weights) for each in (search, peer)]
        assert scores[0] == scores[1]


@pytest.mark.parametrize("scoring", [None, "f1_macro"])
def test_rows_without_values_are_named(data, scoring):
    X, y = data[0].copy(), data[1]
    X[[5, 70], 3] = np.nan
    with pytest.raises(ValueError, match=r"X contains NaN: rows \[5, 70\] .* leave"):
        ImprintClassifierCV(scoring=scoring).fit(X, y)


def test_a_subclass_learns_in_its_own_way(data):
    class Half(ImprintClassifier):
        def fit(self, X, y, sample_weight=None):
            return super().fit(X[::2], y[::2], sample_weight)

    X, y = data
    grid = {"n_proxies": [1, 2]}
    expected = GridSearchCV(Half(random_state=0), grid).fit(X, y)
    check_same(ImprintClassifierCV(Half(random_state=0), grid).fit(X, y), expected)


def test_names_of_features_are_of_the_last_fit(data):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    X, y = data
    search = ImprintClassifierCV(plain_classifier("mean"), {"metric": ["dot"]}, cv=2)
    search.fit(pd.DataFrame(X).add_prefix("x"), y)
    assert search.feature_names_in_[:2].tolist() == ["x0", "x1"]
    assert not hasattr(search.fit(X, y), "feature_names_in_")


def test_refitting_or_not(data):
    X, y = data
    search = ImprintClassifierCV(plain_classifier("mean"), {"metric": ["dot"]})
    search.fit(X, y)
    search.set_params(refit=False, scoring=["accuracy", "f1_macro"]).fit(X, y)
    for name in ("best_estimator_", "best_index_", "classes_", "predict", "explain"):
        assert not hasattr(search, name), name
    with pytest.raises(AttributeError, match="has no attribute 'kproxies'"):
        search.kproxies(X)
    search.set_params(refit=lambda results: 0, scoring=None).fit(X, y)
    assert search.best_index_ == 0
    assert not hasattr(search, "best_score_")
    assert search.refit_time_ > 0


def test_an_error_leaves_the_search_as_it_was(data):
    X, y = data
    search = ImprintClassifierCV(plain_classifier("mean"), {"metric": ["dot"]})
    search.fit(X, y)
    before = vars(search).copy()
    for bad in ({"cv": []}, {"error_score": "raise", "scoring": lambda *_: "text"}):
        with pytest.raises(ValueError, match=r"empty|number"):
            search.set_params(**bad).fit(X, y)
        search.set_params(**{name: before[name] for name in bad})
        assert vars(search) == before


def test_before_a_fit_without_parameters():
    search = ImprintClassifierCV()
    assert is_classifier(search)
    assert hasattr(search, "predict_proba")
    assert not hasattr(search, "classes_")
    with pytest.raises(NotFittedError):
        search.predict([[0.0]])
    assert "ImprintClassifierCV" in search._repr_html_()
    assert clone(search).get_params()["estimator"] is None


def test_verbose_prints_a_line_for_each_fit(data, capsys):
    clf, grid = plain_classifier("mean"), {"metric": ["dot", "cosine"]}
    for verbose, n_lines in enumerate([0, 1, 1 + 2 * 5]):
        ImprintClassifierCV(clf, grid, verbose=verbose).fit(*data)
        assert len(capsys.readouterr().out.splitlines()) == n_lines


def test_callbacks_of_candidates_that_share(data):
    utils = pytest.importorskip("sklearn.callback.tests._utils")
    callbacks = [utils.RecordingCallback(), utils.RecordingAutoPropagatedCallback()]
    grid = {"metric": ["dot", "cosine", "euclidean"]}
    search = ImprintClassifierCV(plain_classifier("mean"), grid, cv=2, n_jobs=2)
    search.set_callbacks(*callbacks).fit(*data)
    # The search, its two parts, six fits of candidates; ten classes of the last fit.
    for callback, expected in zip(callbacks, [1 + 2 + 6, 1 + 2 + 6 + 10], strict=True):
        assert callback.count_hooks("setup") == 1
        assert callback.count_hooks("on_fit_task_begin") == expected
        assert callback.count_hooks("on_fit_task_end") == expected
        assert callback.count_hooks("teardown") == 1


@pytest.mark.parametrize("scoring", [None, "f1_macro", "neg_log_loss"])
def test_arrays_of_all_kinds(xp, data, scoring):
    X, y = data
    grid = {"n_proxies": [1, 3], "metric": ["dot", "euclidean"]}
    search = ImprintClassifierCV(
        plain_classifier(random_state=0), grid, cv=3, scoring=scoring
    )
    with sklearn.config_context(array_api_dispatch=False):
        expected = clone(search).fit(X, y)
    search.set_params(error_score="raise").fit(xp(X), xp(y))
    for name in ("split0_test_score", "mean_test_score"):
        np.testing.assert_allclose(
            search.cv_results_[name], expected.cv_results_[name], rtol=1e-5
        )
    assert xp.owns(search.predict(xp(X)))
    score = search.score(xp(X), xp(y))
    assert score == pytest.approx(expected.score(X, y), rel=1e-5)


@pytest.mark.parametrize(
    "grid, message",
    [
        ({"n_proxy": [1]}, "Invalid parameter 'n_proxy'"),
        ({"n_proxies": [-1, 0]}, "'n_proxies' parameter of ImprintClassifier"),
        ({"n_proxies": []}, "non-empty"),
        ({"aggregation": [Votes(weights="distance")]}, "needs a distance"),
    ],
)
def test_bad_grids_are_refused(data, grid, message):
    with pytest.raises(ValueError, match=message):
        ImprintClassifierCV(param_grid=grid).fit(*data)


def weights_of_k_means(search):
    """Checks that a search over k-means is not meant to pass, and why."""
    if search.estimator.generator == "mean":
        return {}
    reason = "k-means starts from other samples if some are repeated"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@parametrize_with_checks(
    [
        ImprintClassifierCV(plain_classifier("mean"), {"metric": ["dot"]}, cv=2),
        ImprintClassifierCV(
            plain_classifier(random_state=0), {"n_proxies": [1, 2]}, cv=2
        ),
    ],
    expected_failed_checks=weights_of_k_means,
)
def test_common_checks(estimator, check):
    check(estimator)


def test_without_an_estimator_errors_say_what_is_missing():
    search = ImprintClassifierCV()
    assert not hasattr(search, "classes_")
    with pytest.raises(NotFittedError, match="not fitted yet"):
        _ = search.classes_
    with pytest.raises(ValueError, match=r"estimator is None. .*estimator=Imprint"):
        search.set_params(cv=3, estimator__n_proxies=2)
    assert search.cv is None
    search.set_params(estimator=ImprintClassifier(), estimator__n_proxies=2)
    assert search.estimator.n_proxies == 2


@pytest.mark.parametrize("estimator", [None, ImprintClassifier()])
def test_classes_of_a_search_that_refits_nothing(data, estimator):
    search = ImprintClassifierCV(estimator, {"n_proxies": [1, 2]}, refit=False)
    search.fit(*data)
    with pytest.raises(AttributeError, match="initialized with `refit=False`"):
        _ = search.classes_
