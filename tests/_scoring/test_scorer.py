"""What a head says about queries."""

import numpy as np
import pytest
from scipy.stats import hmean
from settings import means_of_classes, plain_classifier, spelt
from sklearn.kernel_ridge import KernelRidge

from skimprint import ImprintClassifier
from skimprint._scoring.scorer import Scorer, probabilities_of
from skimprint.aggregation import Votes


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
        clf = plain_classifier(**{"n_proxies": 3, "random_state": 0, **params})
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
        why = plain_classifier("mean").fit(np.eye(2), ["a", "a"]).explain(np.eye(2))
        assert why.runner_up.tolist() == ["a", "a"]
        assert np.isinf(why.margin).all()
        assert why.n_samples.tolist() == [2, 2]


SETTINGS = [
    {},
    {"metric": "cosine"},
    {"metric": "euclidean"},
    {"metric": "manhattan"},
    {"metric": "mahalanobis"},
    {"aggregation": "mnn"},
    {"aggregation": Votes(3, weights="distance"), "metric": "euclidean"},
    {"aggregation": Votes(3, weights="distance"), "metric": "cosine"},
    {"aggregation": means_of_classes},
    {"generator": "mean", "proxy_norm": "quantile"},
    {"generator": "all", "aggregation": Votes(1)},
    {"generator": "fps"},
    {"generator": "least_squares", "n_proxies": 1},
    {"whitening": 0.3, "mean_weight": 0.5},
    {"kernel_weight": 0.5},
    {"kernel_weight": 1.0},
    {
        "whitening": "auto",
        "mean_weight": "auto",
        "support_norm": "auto",
        "query_norm": "auto",
        "kernel_weight": 0.5,
    },
]


def fitted_to(few, params):
    return plain_classifier(**{"n_proxies": 3, "random_state": 0, **params}).fit(*few)


class TestReasons:
    @pytest.mark.parametrize("n_reasons", [0, 1, 4, 200])
    @pytest.mark.parametrize("params", SETTINGS, ids=spelt)
    def test_the_shares_sum_to_the_score(self, few, digits, params, n_reasons):
        clf, queries = fitted_to(few, params), digits[0][300:330]
        why = clf.explain(queries, n_reasons=n_reasons)
        scores = clf.decision_function(queries)
        np.testing.assert_allclose(why.score, scores.max(axis=1), rtol=1e-6)
        found = why.shares.sum(axis=1) + why.rest
        np.testing.assert_allclose(found, why.score, rtol=1e-6, atol=1e-6)
        assert why.shares.shape == why.rows.shape == why.proxies.shape
        assert why.shares.shape == (30, n_reasons)
        there = why.shares != 0
        ordered = np.where(there, why.shares, -np.inf)
        assert (np.sort(ordered, axis=1)[:, ::-1] == ordered).all()
        assert (why.rows[there] >= 0).all()
        assert (why.rows[~there] == -1).all()
        assert (why.proxies[~there] == -1).all()
        is_proxy = why.proxies >= 0
        np.testing.assert_array_equal(
            clf.proxy_indices_[why.proxies[is_proxy]], why.rows[is_proxy]
        )
        is_function = callable(params.get("aggregation"))
        if n_reasons == 200 and not is_function:  # all there are
            of_all = clf.kernel_weight / len(clf.classes_)
            np.testing.assert_allclose(why.rest, of_all, atol=1e-6)
        if is_function:
            np.testing.assert_array_equal(why.rest, why.score)

    @pytest.mark.parametrize("params", SETTINGS, ids=spelt)
    def test_why_not_another_class(self, few, digits, params):
        clf, queries = fitted_to(few, params), digits[0][300:330]
        scores = clf.decision_function(queries)
        y = np.arange(30) % 10
        why = clf.explain(queries, y=y, n_reasons=200)
        of_y = scores[np.arange(30), y]
        np.testing.assert_array_equal(why.label, y)
        np.testing.assert_array_equal(clf.proxy_labels_[why.proxy], y)
        np.testing.assert_allclose(why.score, of_y, rtol=1e-6, atol=1e-6)
        found = why.shares.sum(axis=1) + why.rest
        np.testing.assert_allclose(found, of_y, rtol=1e-6, atol=1e-6)
        scores[np.arange(30), y] = -np.inf
        np.testing.assert_allclose(why.margin, of_y - scores.max(axis=1), atol=1e-5)
        assert (scores[np.arange(30), why.runner_up] == scores.max(axis=1)).all()

    def test_the_largest_come_first(self, few, digits):
        clf = fitted_to(few, {"kernel_weight": 0.5})
        queries = digits[0][300:330]
        every, some = (clf.explain(queries, n_reasons=n) for n in (200, 3))
        for name in ("rows", "proxies", "shares"):
            np.testing.assert_array_equal(some[name], every[name][:, :3])

    def test_a_sample_adds_what_would_be_lost_without_its_label(self, few, digits):
        """As scikit-learn's kernel regression on such labels has it."""
        X, y = few
        clf = fitted_to(few, {"kernel_weight": 1.0})
        query = digits[0][300:301].astype(np.float64)
        why = clf.explain(query, n_reasons=len(X))
        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        unit_query = query / np.linalg.norm(query)
        sizes = np.bincount(y)
        evenness = hmean(sizes) / sizes.mean()
        targets = evenness * ((y == why.label) - 1 / len(clf.classes_))
        weights = (sizes.mean() / sizes)[y]
        regression = KernelRidge(
            alpha=clf.kernel_alpha_, kernel="rbf", gamma=clf.kernel_gamma_
        )

        def score(targets):
            regression.fit(unit, targets, sample_weight=weights)
            return regression.predict(unit_query)[0]

        whole = score(targets)
        everyone = np.arange(len(y))
        expected = [
            whole - score(np.where(everyone == i, 0, targets)) for i in everyone
        ]
        expected = np.array(expected)
        assert (why.proxies == -1).all()
        assert sorted(why.rows[0]) == [*range(len(X))]
        found = expected[why.rows[0]]
        np.testing.assert_allclose(why.shares[0], found, rtol=1e-6, atol=1e-12)

    def test_rows_are_counted_on_when_more_is_learnt(self, few, digits):
        X, y = few
        whole = fitted_to(few, {"kernel_weight": 1.0})
        parts = plain_classifier(kernel_weight=1.0, n_proxies=3, random_state=0)
        other = plain_classifier(kernel_weight=1.0, n_proxies=3, random_state=0)
        order = np.argsort(np.arange(len(y)) % 3, kind="stable")
        first, second, third = np.split(order, [20, 45])
        parts.partial_fit(X[first], y[first]).partial_fit(X[second], y[second])
        parts.merge(other.fit(X[third], y[third]))
        query = digits[0][300:301]
        why, of_parts = whole.explain(query), parts.explain(query)
        np.testing.assert_array_equal(why.rows, order[of_parts.rows])
        np.testing.assert_allclose(why.shares, of_parts.shares, rtol=1e-6)

    @pytest.mark.parametrize("limit", [30, None])
    def test_some_of_each_class_and_blocks(self, few, digits, limit, monkeypatch):
        if limit:
            monkeypatch.setattr("skimprint._space.kernel_ridge.MAX_ROWS", limit)
        clf, queries = fitted_to(few, {"kernel_weight": 0.7}), digits[0][300:330]
        why = clf.explain(queries)
        monkeypatch.setattr("skimprint._space.kernel_ridge._BLOCK_SIZE", 1)
        in_blocks = clf.explain(queries)
        np.testing.assert_array_equal(why.rows, in_blocks.rows)
        np.testing.assert_allclose(why.shares, in_blocks.shares, rtol=1e-6)
        rest = clf.explain(queries, n_reasons=len(few[0]) + 1).rest
        np.testing.assert_allclose(rest, 0.07, atol=1e-5)

    def test_a_compact_classifier_names_its_proxies(self, few, digits):
        clf, queries = fitted_to(few, {"kernel_weight": 0.5}), digits[0][300:330]
        why = clf.compact().explain(queries)
        expected = clf.explain(queries)
        np.testing.assert_array_equal(why.score, expected.score)
        assert (np.count_nonzero(why.shares, axis=1) == 1).all()
        np.testing.assert_allclose(why.shares[:, 0], 0.5 * why.similarity)
        np.testing.assert_array_equal(why.proxies[:, 0], why.proxy)

    def test_rows_of_a_head_are_none_of_ours(self):
        clf = ImprintClassifier.from_head(
            np.eye(3), ["a", "b", "c"], generator="mean", kernel_weight=0.5
        )
        clf.partial_fit([[0.0, 1.0, 1.0]], ["d"])
        why = clf.explain([[1.0, 0.1, 0.0], [0.0, 1.0, 1.0]], n_reasons=9)
        assert why.label.tolist() == ["a", "d"]
        assert why.rows[:, 0].tolist() == [-1, 0]
        assert why.shares[0, 0] > 0
        np.testing.assert_allclose(why.rest, 0.5 / 4, atol=1e-6)

    def test_two_classes_and_one(self, few):
        X, y = few
        clf = fitted_to((X[y < 2], y[y < 2]), {"kernel_weight": 0.5})
        why = clf.explain(X)
        difference = clf.decision_function(X)
        np.testing.assert_allclose(why.margin, np.abs(difference), rtol=1e-5)
        alone = fitted_to((X[y < 1], y[y < 1]), {"kernel_weight": 0.5})
        assert np.isinf(alone.explain(X, y=np.zeros(len(X), int)).margin).all()


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
    clf = plain_classifier(n_proxies=3, random_state=0, **params).fit(X, y)

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
    votes = plain_classifier(n_proxies=3, aggregation=Votes(3), random_state=0)
    votes.fit(X, y)
    clf = plain_classifier(n_proxies=3, random_state=0).fit(X, y)
    scorer = Scorer(clf._fitted.scorer.head, votes._fitted.plan)
    np.testing.assert_array_equal(
        scorer.scores(X, no_check), votes.decision_function(X)
    )


def test_queries_that_are_not_finite_are_refused(few):
    X, y = few
    scorer = plain_classifier("mean").fit(X, y)._fitted.scorer
    assert scorer.shows_non_finite
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
    clf = plain_classifier(whitening=0.3, kernel_weight=share, random_state=0)
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
    clf = plain_classifier(kernel_weight=0.5).fit(X[:50], y[:50])
    with pytest.raises(ValueError, match="NaN"):
        clf.predict(np.where(np.arange(1024) == 7, np.nan, X[:1]))
