"""What is chosen by default: it never raises, and stays while little is learnt."""

import pickle

import numpy as np
import pytest
from settings import first_rows, means_of_classes
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.semi_supervised import SelfTrainingClassifier

from skimprint import ImprintClassifier, Rejection
from skimprint._scoring.similarity import METRICS
from skimprint.aggregation import Votes
from skimprint.datasets import load_digits_embeddings
from skimprint.generation import GENERATORS
from skimprint.normalization import PROXY_NORMS, l2_normalize


def doubled(rows):
    return 2 * rows


OTHERS = {
    "generator": [
        *("all", "cov_max", "fps", "kmedoids", "least_squares", "mean", "random"),
        KMeans(n_init=1),
        first_rows,
    ],
    "n_proxies": [None, 1, 1000, {"a": 1, "b": 3, "c": 2}],
    "support_norm": ["l2", "power", None, doubled],
    "proxy_norm": ["quantile", None, doubled],
    "query_norm": ["l2", "power", None, doubled],
    "aggregation": ["mnn", Votes(3), means_of_classes],
    "metric": ["cosine", "euclidean", "manhattan", "chebyshev", "mahalanobis"],
    "whitening": [None, 0.0, 0.4, 1.0],
    "mean_weight": [0, 0.5, 1],
    "kernel_weight": [0.5, 1],
    "temperature": [0.1],
    "rejection": [
        Rejection("none", threshold=0.1),
        Rejection("none", score="contrast"),
    ],
}


def samples(n_each=6):
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], n_each)
    return rng.normal(size=(len(y), 8)) + 3 * np.eye(8)[
        np.searchsorted(list("abc"), y)
    ], y


@pytest.mark.parametrize(
    "name, value",
    [(name, value) for name, values in OTHERS.items() for value in values],
)
def test_goes_with_each_value_of_each_parameter(name, value):
    X, y = samples()
    clf = ImprintClassifier(**{name: value}, random_state=0).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1)
    assert clf.score(X, y) > 0.6
    assert clf.temperature_ > 0
    clf.partial_fit(X[:3] + 1, y[:3]).forget("b")
    assert set(clf.predict(X)) <= {"a", "c", "none"}
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("name, generator", GENERATORS.items())
def test_a_generator_says_how_many_proxies_a_class_gets(name, generator):
    X, y = samples(30)
    n = {"least_squares": 1}.get(name, 20)
    assert generator.default_n_proxies == n
    proxies = [
        ImprintClassifier(name, n_proxies, random_state=0).fit(X, y).proxies_
        for n_proxies in (None, n, n + 1)
    ]
    np.testing.assert_array_equal(proxies[0], proxies[1])
    ignores = name in ("all", "mean")
    assert np.array_equal(proxies[0], proxies[2]) == ignores


@pytest.mark.parametrize("params", [{}, {"kernel_weight": 0.5}])
@pytest.mark.parametrize(
    "X, y",
    [
        ([[1.0, 2.0]], [0]),
        ([[1.0, 2.0], [2.0, 1.0]], [0, 1]),
        ([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0]], [0, 1, 0]),
        ([[1.0]] * 5, [0, 0, 1, 1, 1]),
        ([[1, 0], [0, 1], [0, 1]], ["a", "b", "b"]),
        ([[0.0, 0.0]] * 4, [0, 0, 1, 1]),
    ],
)
def test_goes_with_little_to_choose_by(X, y, params):
    clf = ImprintClassifier(**params).fit(X, y)
    assert set(clf.predict(X)) <= set(y)
    np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1)
    assert np.isfinite(clf.score_samples(X)).all()


@pytest.mark.parametrize(
    "params",
    [{"generator": "least_squares"}, {"query_norm": None}, {"support_norm": doubled}],
)
def test_the_temperature_is_one_where_no_sample_can_be_left_out(params):
    clf = ImprintClassifier(**params).fit(*samples())
    assert (clf.temperature_ == 1) == ("support_norm" not in params)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("proxy_norm", [*PROXY_NORMS, None])
def test_no_metric_is_lost_with_any_norm_of_proxies(metric, proxy_norm):
    # Whitened, half of these settings were at chance.
    X, y = load_digits_embeddings(return_X_y=True)
    X = X[:, ::4]
    params = {"metric": metric, "proxy_norm": proxy_norm, "random_state": 0}
    clf = ImprintClassifier(**params).fit(X[:200], y[:200])
    assert clf.score(X[200:600], y[200:600]) > 0.5


@pytest.mark.parametrize("n_each", [10, 100])
def test_least_squares_are_accurate_by_default(n_each):
    # With whitening=0.1 they are 8 points below ridge at 100 samples.
    X, y = load_digits_embeddings(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == k)[:n_each] for k in range(10)])
    queries = np.setdiff1d(np.arange(len(y)), rows)
    clf = ImprintClassifier("least_squares", n_proxies=1).fit(X[rows], y[rows])
    ridge = RidgeClassifier(0.01 * len(rows)).fit(l2_normalize(X[rows]), y[rows])
    accuracy = ridge.score(l2_normalize(X[queries]), y[queries])
    assert clf.score(X[queries], y[queries]) > accuracy - 0.02


@pytest.mark.parametrize(
    "params, share",
    [
        ({}, 2 / 3),
        ({"generator": "least_squares"}, 0),
        ({"proxy_norm": "quantile"}, 0),
        ({"mean_weight": 1}, 1),
    ],
)
def test_an_attribute_says_which_share_the_means_have(params, share):
    clf = ImprintClassifier(**params)
    with pytest.raises(AttributeError, match="learn first"):
        clf.mean_weight_  # noqa: B018
    clf.fit(*samples())
    for each in (clf, clf.compact(), pickle.loads(pickle.dumps(clf))):
        assert each.mean_weight_ == share
        assert type(each.mean_weight_) is float


class TestShrinkage:
    def test_stays_until_the_samples_have_doubled(self, digits):
        X, y = digits
        clf = ImprintClassifier("mean").fit(X[:200], y[:200])
        chosen = clf.whitening_
        others = ImprintClassifier("mean").fit(X[:390], y[:390]).whitening_
        assert others != chosen
        assert clf.partial_fit(X[200:390], y[200:390]).whitening_ == chosen
        refit = ImprintClassifier("mean", whitening=chosen).fit(X[:390], y[:390])
        np.testing.assert_allclose(
            clf.decision_function(X), refit.decision_function(X), atol=1e-5
        )
        after = ImprintClassifier("mean").fit(X[:400], y[:400]).whitening_
        assert clf.partial_fit(X[390:400], y[390:400]).whitening_ == after

    def test_does_not_depend_on_looks(self, digits):
        X, y = digits
        looking, learning = ImprintClassifier("mean"), ImprintClassifier("mean")
        for stop in (30, 50, 90, 130, 200, 230):
            part = slice(stop - 20, stop)
            looking.partial_fit(X[part], y[part]).predict(X[:1])
            learning.partial_fit(X[part], y[part])
        assert looking.whitening_ == learning.whitening_

    def test_is_chosen_again_after_forgetting_and_merging(self, digits):
        X, y = digits
        clf = ImprintClassifier("mean").fit(X[:200], y[:200])
        clf.partial_fit(X[200:390], y[200:390]).forget([8, 9])
        left = y[:390] < 8
        refit = ImprintClassifier("mean").fit(X[:390][left], y[:390][left])
        assert clf.whitening_ == refit.whitening_
        parts = [
            ImprintClassifier("mean").fit(X[:250], y[:250]),
            ImprintClassifier("mean").fit(X[250:], y[250:]),
        ]
        refit = ImprintClassifier("mean").fit(X, y)
        assert parts[0].merge(parts[1]).whitening_ == refit.whitening_


class TestProbabilities:
    """They can be used as they come."""

    @pytest.mark.parametrize(
        "ensemble",
        [
            lambda clf: StackingClassifier(
                [("proxies", clf)], LogisticRegression(max_iter=1000), cv=3
            ),
            lambda clf: VotingClassifier(
                [("proxies", clf), ("other", LogisticRegression(C=1e-9))],
                voting="soft",
            ),
        ],
        ids=["stacking", "voting"],
    )
    def test_ensembles_are_no_worse(self, ensemble):
        X, y = load_digits(return_X_y=True)
        X, y = X[:300], y[:300]
        clf = ImprintClassifier(random_state=0)
        alone = cross_val_score(clf, X, y, cv=3).mean()
        assert cross_val_score(ensemble(clf), X, y, cv=3).mean() >= alone - 0.01

    def test_self_training_is_no_worse(self):
        X, y = load_digits(return_X_y=True)
        some = y[:300].copy()
        some[60:] = -1
        clf = ImprintClassifier(random_state=0)
        alone = clf.fit(X[:60], y[:60]).score(X[300:900], y[300:900])
        taught = SelfTrainingClassifier(clf, threshold=0.9).fit(X[:300], some)
        assert taught.score(X[300:900], y[300:900]) >= alone - 0.01
