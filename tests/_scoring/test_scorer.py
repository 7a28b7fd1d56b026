"""What a head says about queries."""

import numpy as np
import pytest

from skimprint import ImprintClassifier
from skimprint._scoring.scorer import Scorer, probabilities_of
from skimprint.aggregation import Votes


@pytest.fixture(scope="module")
def few(digits):
    """Some 60 digits: (60, 1024) float64 and their labels."""
    X, y = digits
    order = np.argsort(y[:150], kind="stable")[::2]
    return X[order].astype(np.float64), y[order]


def spelt(params):
    """Name a test by its parameters, in the same way in each process."""
    return ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in params.items())


def means_of_classes(similarities, proxy_classes):
    """Mean similarity to the proxies of each of ten classes."""
    each = [similarities[:, proxy_classes == c].mean(axis=1) for c in range(10)]
    return np.stack(each, axis=1)


class TestExplain:
    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"aggregation": "mnn"},
            {"metric": "euclidean"},
            {"generator": "all", "aggregation": Votes(1)},
            {"aggregation": means_of_classes},
        ],
        ids=spelt,
    )
    def test_agrees_with_the_predictions(self, few, params):
        X, y = few
        clf = ImprintClassifier(**{"n_proxies": 3, "random_state": 0, **params})
        clf.fit(X, y)
        why = clf.explain(X)
        np.testing.assert_array_equal(why.label, clf.predict(X))
        np.testing.assert_array_equal(clf.proxy_labels_[why.proxy], why.label)
        np.testing.assert_array_equal(clf.proxy_indices_[why.proxy], why.training_row)
        np.testing.assert_array_equal(y[why.training_row], why.label)
        scores = np.sort(clf.decision_function(X), axis=1)
        np.testing.assert_allclose(why.margin, scores[:, -1] - scores[:, -2], atol=1e-6)
        assert (why.runner_up != why.label).all()
        np.testing.assert_allclose(why.familiarity, clf.score_samples(X), atol=1e-6)
        if not params:
            np.testing.assert_allclose(why.similarity, scores[:, -1], atol=1e-6)
        assert {len(values) for values in why.values()} == {len(X)}

    def test_a_single_class(self):
        why = ImprintClassifier("mean").fit(np.eye(2), ["a", "a"]).explain(np.eye(2))
        assert why.runner_up.tolist() == ["a", "a"]
        assert np.isinf(why.margin).all()
        assert why.n_samples.tolist() == [2, 2]


def no_check(block, start):
    raise AssertionError("all is finite")


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"aggregation": Votes(3)},
        {"aggregation": means_of_classes},
        {"metric": "manhattan"},
        {"whitening": 0.3},
        {"kernel_weight": 0.5},
    ],
    ids=spelt,
)
def test_blocks_change_nothing(few, params, monkeypatch):
    X, y = few
    clf = ImprintClassifier(n_proxies=3, random_state=0, **params).fit(X, y)

    def everything():
        scorer = Scorer(clf._fitted.scorer.head)
        explained = scorer.explain(X, "contrast")
        return [
            scorer.scores(X, no_check),
            scorer.winners(X, no_check),
            scorer.familiarities(X, "contrast"),
            *scorer.nearest(X, 4),
            *explained.values(),
        ]

    at_once = everything()
    for name, value in (("_BLOCK_BYTES", 1), ("_MIN_BLOCK", 7), ("_MAX_BLOCK", 7)):
        monkeypatch.setattr(f"skimprint._scoring.similarity.{name}", value)
    for found, expected in zip(everything(), at_once, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_another_plan_scores_by_the_same_head(few):
    X, y = few
    votes = ImprintClassifier(n_proxies=3, aggregation=Votes(3), random_state=0)
    votes.fit(X, y)
    clf = ImprintClassifier(n_proxies=3, random_state=0).fit(X, y)
    scorer = Scorer(clf._fitted.scorer.head, votes._fitted.plan)
    np.testing.assert_array_equal(
        scorer.scores(X, no_check), votes.decision_function(X)
    )


def test_queries_that_are_not_finite_are_shown_to_the_check(few):
    X, y = few
    scorer = ImprintClassifier("mean").fit(X, y)._fitted.scorer
    assert scorer.checks_finite
    queries, seen = X.copy(), []
    queries[5, 3] = np.nan
    scorer.scores(queries, lambda block, start: seen.append((len(block), start)))
    assert seen == [(len(X), 0)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1e-300, 1e-38, 1e-20, 0.01, 1, 1e300])
def test_probabilities_keep_the_winner(dtype, temperature):
    from scipy.special import log_softmax, softmax

    scores = np.random.default_rng(0).normal(size=(50, 4)).astype(dtype)
    for function, total in ((softmax, np.sum), (log_softmax, np.logaddexp.reduce)):
        found = probabilities_of(scores, temperature, function)
        assert found.dtype == dtype
        assert np.isfinite(found).all()
        expected = 1 if function is softmax else 0
        np.testing.assert_allclose(total(found, axis=1), expected, atol=1e-5)
        np.testing.assert_array_equal(found.argmax(axis=1), scores.argmax(axis=1))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_single_query_gets_the_class_with_the_best_score(digits, share):
    X, y = digits
    X = X[:, ::16]
    clf = ImprintClassifier(whitening=0.3, kernel_weight=share, random_state=0)
    proxies, kernel = (
        clf.set_params(kernel_weight=weight).fit(X[:100], y[:100]).predict(X)
        for weight in (0, 1)
    )
    assert (proxies != kernel).any()  # those whose shares decide
    clf.set_params(kernel_weight=share).fit(X[:100], y[:100])
    alone = np.concatenate([clf.predict(query[None]) for query in X])
    scores = clf.decision_function(X)
    np.testing.assert_array_equal(alone, clf.classes_[scores.argmax(axis=1)])


def test_a_single_query_with_nan_is_refused(digits):
    X, y = digits
    clf = ImprintClassifier(kernel_weight=0.5).fit(X[:50], y[:50])
    with pytest.raises(ValueError, match="NaN"):
        clf.predict(np.where(np.arange(1024) == 7, np.nan, X[:1]))
