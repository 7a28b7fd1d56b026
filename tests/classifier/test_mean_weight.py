"""Proxies that lean towards the mean of their class, and the norm chosen by data."""

import pickle

import numpy as np
import pytest

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.generation import MeanProxies
from skimprint.methods import RECOMMENDED
from skimprint.normalization import l2_normalize, power_normalize

PROXIES_ONLY = RECOMMENDED | {"kernel_weight": 0}


@pytest.fixture(scope="module")
def some(digits):
    X, y = digits
    return X[:300].astype(np.float64), y[:300]


class TestMeanWeight:
    @pytest.mark.parametrize("whitening", [None, 0.3])
    @pytest.mark.parametrize("proxy_norm", ["l2", None])
    @pytest.mark.parametrize("generator", ["kmeans", "random"])
    def test_is_the_share_of_the_mean(self, some, whitening, proxy_norm, generator):
        params = {"whitening": whitening, "proxy_norm": proxy_norm, "random_state": 0}
        plain = ImprintClassifier(generator, 3, **params).fit(*some)
        mean = ImprintClassifier("mean", **params).fit(*some)
        codes = np.searchsorted(plain.classes_, plain.proxy_labels_)
        blended = ImprintClassifier(generator, 3, mean_weight=0.3, **params).fit(*some)
        expected = 0.7 * plain.proxies_ + 0.3 * mean.proxies_[codes]
        np.testing.assert_allclose(blended.proxies_, expected, atol=1e-9)

    @pytest.mark.parametrize("aggregation", ["max", Votes(4)], ids=str)
    @pytest.mark.parametrize("whitening", [None, "auto"])
    def test_all_of_it_is_the_mean(self, some, aggregation, whitening):
        X, y = some
        mean = ImprintClassifier("mean", whitening=whitening).fit(X, y)
        clf = ImprintClassifier(
            "kmeans", 4, mean_weight=1.0, whitening=whitening, random_state=0
        )
        clf.set_params(aggregation=aggregation).fit(X, y)
        np.testing.assert_array_equal(clf.predict(X), mean.predict(X))

    def test_of_one_proxy_changes_nothing(self, some):
        plain = ImprintClassifier("mean", whitening="auto").fit(*some)
        clf = ImprintClassifier("mean", whitening="auto", mean_weight=0.5).fit(*some)
        np.testing.assert_allclose(clf.proxies_, plain.proxies_, atol=1e-12)

    def test_keeps_the_mean_of_a_head(self):
        clf = ImprintClassifier.from_head(np.eye(3), mean_weight=0.5)
        np.testing.assert_array_equal(clf.proxies_, np.eye(3))

    @pytest.mark.parametrize(
        "params", [{"proxy_norm": "quantile"}, {"generator": "least_squares"}]
    )
    def test_is_refused_where_proxies_are_no_points(self, some, params):
        clf = ImprintClassifier(mean_weight=0.5, **params)
        with pytest.raises(ValueError, match="mean_weight needs proxies"):
            clf.fit(*some)

    @pytest.mark.parametrize(
        "params, mean_weight",
        [
            ({}, 0.5),
            ({"generator": "fps"}, 0.5),
            ({"proxy_norm": "quantile"}, 0.0),
            ({"generator": "least_squares", "n_proxies": 1}, 0.0),
        ],
    )
    def test_auto_is_one_half_where_proxies_are_points(self, some, params, mean_weight):
        X, y = some
        clf = ImprintClassifier(mean_weight="auto", random_state=0, **params)
        given = ImprintClassifier(mean_weight=mean_weight, random_state=0, **params)
        np.testing.assert_array_equal(
            clf.fit(X, y).decision_function(X), given.fit(X, y).decision_function(X)
        )

    @pytest.mark.parametrize("mean_weight", [-0.1, 1.1, "half"])
    def test_is_a_share(self, some, mean_weight):
        with pytest.raises(ValueError, match="mean_weight"):
            ImprintClassifier(mean_weight=mean_weight).fit(*some)


class TestAutoNorm:
    def auto(self, generator="mean", **params):
        return ImprintClassifier(
            generator, support_norm="auto", query_norm="auto", **params
        )

    @pytest.mark.parametrize("sign, norm", [(1, "power"), (-1, "l2")])
    def test_takes_roots_where_nothing_is_negative(self, some, sign, norm):
        X, y = some
        X = X.copy()
        X[7, 11] = sign
        assert X.min() >= min(sign, 0)
        given = ImprintClassifier("mean", support_norm=norm, query_norm=norm).fit(X, y)
        clf = self.auto().fit(X, y)
        assert clf.support_norm_ == norm
        np.testing.assert_array_equal(clf.proxies_, given.proxies_)
        scores = given.decision_function(X)
        np.testing.assert_array_equal(clf.decision_function(X), scores)
        clf = pickle.loads(pickle.dumps(clf))
        np.testing.assert_array_equal(clf.decision_function(X), scores)

    def test_stays_while_more_is_learnt(self, some):
        X, y = some
        clf = self.auto().fit(X, y).partial_fit(-X[:1], [99])
        assert clf.support_norm_ == "power"
        np.testing.assert_allclose(clf.predict(-X[:1]), 99)
        assert clf.fit(-X, y).support_norm_ == "l2"

    def test_of_a_head_is_that_of_its_weights(self):
        clf = ImprintClassifier.from_head(
            [[4.0, 0.0], [9.0, 16.0]], support_norm="auto"
        )
        np.testing.assert_allclose(clf.proxies_, [[1, 0], [0.6, 0.8]])

    @pytest.mark.parametrize("norm", ["l2", "power", None])
    def test_of_queries_is_that_of_the_support(self, some, norm):
        X, y = some
        clf = ImprintClassifier("mean", support_norm=norm, query_norm=norm).fit(X, y)
        scores = clf.decision_function(X)
        clf.set_params(query_norm="auto").fit(X, y)
        np.testing.assert_array_equal(clf.decision_function(X), scores)
        assert clf.support_norm_ == norm

    def test_must_be_the_same_to_merge(self, some):
        X, y = some
        clf = self.auto().fit(X, y)
        with pytest.raises(ValueError, match="support_norm_; it is 'l2' instead"):
            clf.merge(self.auto().fit(-X, y))
        assert clf.class_count_.sum() == len(y)


class TestRecommended:
    def test_is_better_than_the_mean_and_the_papers_method(self, digits):
        X, y = digits
        train, test = np.arange(len(y)) % 3 == 0, np.arange(len(y)) % 3 == 1
        accuracy = {
            name: ImprintClassifier(**params, random_state=0)
            .fit(X[train], y[train])
            .score(X[test], y[test])
            for name, params in {
                "recommended": RECOMMENDED,
                "proxies only": PROXIES_ONLY,
                "mean": {"generator": "mean"},
                "k-means": {},
            }.items()
        }
        for ours in ("recommended", "proxies only"):
            assert accuracy[ours] > accuracy["k-means"] + 0.03
            assert accuracy[ours] > accuracy["mean"] + 0.05

    def test_of_one_sample_per_class_is_the_nearest_centred_sample(self, some):
        X, y = some
        first = np.unique(y, return_index=True)[1]
        clf = ImprintClassifier(**PROXIES_ONLY, random_state=0).fit(X[first], y[first])
        support, queries = power_normalize(X[first]), power_normalize(X)
        origin = support.mean(axis=0)
        cosines = l2_normalize(queries - origin) @ l2_normalize(support - origin).T
        np.testing.assert_allclose(clf.decision_function(X), cosines, atol=1e-9)

    def test_is_the_whitened_mean_for_a_mean(self, some):
        X, y = some
        clf = ImprintClassifier(**PROXIES_ONLY | {"generator": MeanProxies()}).fit(X, y)
        norms = {"support_norm": "power", "query_norm": "power"}
        same = ImprintClassifier("mean", whitening="auto", **norms).fit(X, y)
        np.testing.assert_array_equal(clf.predict(X), same.predict(X))


def test_what_a_norm_returns_stays_as_it_is():
    table = np.eye(3, 4)
    table.setflags(write=False)
    X, y = np.random.default_rng(0).normal(size=(30, 4)), np.repeat([0, 1, 2], 10)
    clf = ImprintClassifier("mean", proxy_norm=lambda _: table, mean_weight=0.3)
    assert clf.fit(X, y).predict(X[:2]).shape == (2,)
