"""Rejecting queries that belong to no known class."""

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, train_test_split

from skimprint import ImprintClassifier, Rejection
from skimprint._scoring.leave_one_out import _means_without, _to_nearest_mean
from skimprint._space.regularization import LeftOut
from skimprint.aggregation import Votes
from skimprint.normalization import NORMS, l2_normalize


class TestRejection:
    def test_below_the_threshold(self, few):
        X, y = few
        clf = plain_classifier("mean", rejection=Rejection(-1, threshold=0.9))
        predictions = clf.fit(X, y).predict(X)
        is_rejected = clf.score_samples(X) < 0.9
        assert is_rejected.any()
        assert not is_rejected.all()
        np.testing.assert_array_equal(predictions == -1, is_rejected)
        plain = plain_classifier("mean").fit(X, y).predict(X)
        np.testing.assert_array_equal(predictions[~is_rejected], plain[~is_rejected])
        assert clf.rejection_threshold_ == 0.9

    def test_rejects_about_the_share_asked_for(self, digits):
        X, X_test, y, _ = train_test_split(*digits, random_state=0)
        rejection = Rejection(-1, rate=0.1)
        clf = plain_classifier("mean", rejection=rejection).fit(X, y)
        assert 0.03 < np.mean(clf.predict(X_test) == -1) < 0.2

    def test_longer_label_than_the_classes(self):
        clf = plain_classifier("mean", rejection=Rejection("a" * 20, threshold=2))
        assert clf.fit(np.eye(2), ["b", "c"]).predict(np.eye(2))[0] == "a" * 20

    def test_score_is_that_of_the_nearest_proxy(self, few):
        X, y = few
        for metric in ("dot", "cosine", "euclidean", "mahalanobis", "manhattan"):
            clf = plain_classifier("kmeans", 2, metric=metric, aggregation=Votes(2))
            clf.fit(X, y)
            nearest = clf.kproxies(X, n_neighbors=1)[0][:, 0]
            np.testing.assert_allclose(clf.score_samples(X), nearest, atol=1e-5)

    @pytest.mark.parametrize("score", ["similarity", "contrast"])
    def test_a_single_class(self, few, score):
        X, y = few
        rejection = Rejection(-1, score=score)
        clf = plain_classifier("all", temperature="auto", rejection=rejection)
        clf.fit(X[y == 1], y[y == 1])
        assert np.isfinite(clf.rejection_threshold_)
        assert clf.temperature_ == 1

    @pytest.mark.parametrize("kernel_weight", [0, 0.5])
    def test_auto_is_the_best_score_and_the_nearest_mean_before_whitening(
        self, few, kernel_weight
    ):
        X, y = few
        clf = ImprintClassifier(kernel_weight=kernel_weight, random_state=0).fit(X, y)
        unit = NORMS[clf.support_norm_](X.copy())
        means = np.array([unit[y == c].mean(axis=0) for c in clf.classes_])
        cosines = (unit @ l2_normalize(means).T).max(axis=1)
        expected = clf.decision_function(X).max(axis=1) + cosines / 2
        np.testing.assert_allclose(clf.score_samples(X), expected, atol=1e-5)
        np.testing.assert_array_equal(clf.explain(X).familiarity, clf.score_samples(X))
        compact = clf.compact()
        np.testing.assert_array_equal(compact.score_samples(X), clf.score_samples(X))

    @pytest.mark.parametrize(
        "params",
        [{"whitening": None}, {"aggregation": "mnn"}, {"metric": "euclidean"}],
    )
    def test_auto_is_the_similarity_where_there_is_nothing_else(self, few, params):
        X, y = few
        clf = ImprintClassifier("mean", **params).fit(X, y)
        nearest = clf.kproxies(X, n_neighbors=1)[0][:, 0]
        np.testing.assert_allclose(clf.score_samples(X), nearest, atol=1e-5)

    def test_cosines_to_means_that_do_not_know_the_sample(self, few):
        X, y = few
        weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
        clf = ImprintClassifier("mean", whitening=0.5, support_norm="l2")
        head = clf.fit(X, y, sample_weight=weights)._fitted.scorer.head
        unit, codes = l2_normalize(X), np.searchsorted(clf.classes_, y)
        order = np.argsort(codes, kind="stable")
        samples = LeftOut(unit[order], codes[order], weights[order], None, None)
        expected = []
        for i in order:
            kept = np.arange(len(y)) != i
            means = [
                np.average(unit[kept & (codes == c)], axis=0, weights=w)
                for c in range(len(clf.classes_))
                for w in [weights[kept & (codes == c)]]
            ]
            expected.append((l2_normalize(np.array(means)) @ unit[i]).max())
        to_means, own = (
            unit[order] @ head.mean_directions.T,
            _means_without(head, samples),
        )
        found = _to_nearest_mean(samples, to_means, own)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_a_class_whose_samples_cancel_out_has_no_direction(self):
        """Of rounding errors alone, a mean has nearly none."""
        X = np.array([[1.0, 2.0], [-1 / 7, -2 / 7], [2.0, -1.0], [2.2, -0.9]])
        clf = ImprintClassifier(whitening=0.5, support_norm="l2")
        clf.fit(X, [0, 0, 1, 1])
        mean = clf._fitted.scorer.head.space.means[0]
        assert 0 < np.abs(mean).max() < 1e-16
        queries = np.array([[-1.0, -2.0], [1.0, 2.0]])
        scores = clf._fitted.scorer.scores(queries, None).max(axis=1)
        # To the other class they have cosines near 0.
        found = clf.score_samples(queries)
        np.testing.assert_allclose(found, scores, atol=0.1)
        np.testing.assert_array_equal(clf.explain(queries).familiarity, found)

    def test_one_sample_a_class_tells_nothing(self):
        clf = plain_classifier("mean", temperature="auto", rejection=Rejection(-1))
        with pytest.warns(UserWarning, match="Two samples of a class are needed"):
            clf.fit(np.eye(3), [0, 1, 2])
        assert clf.rejection_threshold_ == -np.inf
        assert clf.predict([[-1.0, -1.0, -1.0]]) != -1

    def test_a_head_without_samples_competes(self, few):
        X, y = few
        clf = plain_classifier(
            "mean",
            head=(X[:2], [100, 101]),
            temperature="auto",
            rejection=Rejection(-1),
        ).fit(X, y)
        assert np.isfinite(clf.rejection_threshold_)

    @pytest.mark.parametrize(
        "params, message",
        [
            (
                {"rejection": Rejection("unknown", threshold=0.5)},
                "label of the rejection must be of the type of the labels",
            ),
            (
                {"rejection": Rejection(-1), "query_norm": None},
                "query_norm must be the support_norm",
            ),
            (
                {"rejection": Rejection(-1), "generator": "least_squares"},
                "those of LeastSquaresProxies",
            ),
            ({"rejection": Rejection(-1, rate=1.0)}, "'rate' parameter of Rejection"),
            (
                {"rejection": Rejection(-1, threshold="low")},
                "'threshold' parameter of Rejection",
            ),
            ({"rejection": Rejection(-1, score=0)}, "'score' parameter of Rejection"),
            ({"rejection": -1}, "'rejection' parameter of ImprintClassifier"),
            ({"temperature": "warm"}, "temperature"),
        ],
    )
    def test_not_valid(self, few, params, message):
        clf = plain_classifier(**params)
        with pytest.raises(ValueError, match=message):
            clf.fit(*few)
        assert not hasattr(clf, "classes_")

    @pytest.mark.parametrize(
        "params, message",
        [
            ({"threshold": "low"}, "'threshold' parameter of Rejection"),
            ({"rate": -0.1}, "'rate' parameter of Rejection"),
            ({"score": "distance"}, "'score' parameter of Rejection"),
            ({"label": "unknown"}, "label of the rejection must be of the type"),
        ],
    )
    def test_not_valid_after_fit(self, few, params, message):
        rejection = Rejection(-1, threshold=0.5)
        clf = plain_classifier("mean", rejection=rejection).fit(*few)
        rejection.set_params(**params)
        with pytest.raises(ValueError, match=message):
            clf.predict(few[0])

    def test_its_parameters_are_those_of_the_classifier(self, few):
        X, y = few
        clf = plain_classifier("mean", rejection=Rejection(-1))
        assert clf.get_params()["rejection__rate"] == 0.05
        copy = clone(clf).set_params(rejection__rate=0.5)
        assert clf.rejection.rate == 0.05
        assert copy.fit(X, y).rejection_threshold_ > clf.fit(X, y).rejection_threshold_
        grid = {"rejection__rate": [0.05, 0.5], "rejection__score": ["contrast"]}
        search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)
        assert search.best_params_["rejection__rate"] == 0.05

    def test_the_threshold_exists_only_with_a_rejection(self, few):
        clf = plain_classifier("mean").fit(*few)
        with pytest.raises(AttributeError, match="only with a rejection"):
            clf.rejection_threshold_  # noqa: B018
