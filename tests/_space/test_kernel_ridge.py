"""Kernel ridge regression on the support samples, and its share of the scores."""

import pickle
from itertools import product

import numpy as np
import pytest
import sklearn
from scipy.stats import hmean
from settings import plain_classifier
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge as ScikitKernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_sample_weight

from skimprint import ImprintClassifier, ImprintClassifierCV
from skimprint._memory.columns import take
from skimprint._space import kernel_ridge
from skimprint._space.likelihood import fit_temperature
from skimprint._space.regularization import LeftOut
from skimprint.datasets import load_digits_embeddings
from skimprint.methods import RECOMMENDED
from skimprint.normalization import l2_normalize


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 12))
    y = np.repeat(np.arange(4), [30, 20, 10, 5])
    X = centers[y] + rng.normal(size=(len(y), 12))
    order = rng.permutation(len(y))
    return X[order], y[order], rng.normal(size=(50, 12)) + centers[rng.integers(4)]


def only_kernel(**params):
    return plain_classifier("mean", kernel_weight=1, **params)


def one_hot(y, n_classes):
    sizes = np.bincount(y)
    return hmean(sizes) / sizes.mean() * (np.eye(n_classes)[y] - 1 / n_classes)


def test_is_kernel_ridge_regression(data):
    X, y, queries = data
    clf = only_kernel().fit(X, y)
    expected = ScikitKernelRidge(
        alpha=clf.kernel_alpha_, kernel="rbf", gamma=clf.kernel_gamma_
    ).fit(
        l2_normalize(X),
        one_hot(y, 4),
        sample_weight=compute_sample_weight("balanced", y),
    )
    np.testing.assert_allclose(
        clf.decision_function(queries),
        expected.predict(l2_normalize(queries)) + 1 / 4,
        atol=1e-8,
    )


def test_as_many_of_each_class_are_as_one_fit_to_them(data, monkeypatch):
    X, y, queries = data
    monkeypatch.setattr(kernel_ridge, "MAX_ROWS", 32)
    clf = only_kernel().fit(X, y)
    space = clf._fitted.scorer.head.space
    assert np.bincount(space.support().codes).tolist() == [8, 8, 8, 5]
    samples = space.state.column(lambda block: block.samples)
    first = samples.first(8)
    weights = (space.class_weights / first.sizes)[first.codes]
    fewer = only_kernel().fit(first.values.rows, first.codes, sample_weight=weights)
    np.testing.assert_allclose(
        clf.decision_function(queries), fewer.decision_function(queries), atol=1e-9
    )


@pytest.mark.parametrize("generator", ["mean", "kmeans", "all"])
def test_is_as_precise_as_the_samples(data, generator):
    X, y, _ = (values.astype(np.float32) for values in data)
    clf = plain_classifier(generator, kernel_weight=0.5).fit(X, y)
    kernel = clf._fitted.scorer.head.kernel
    assert kernel.coefficients.dtype == kernel.landmarks.dtype == np.float32
    clf = plain_classifier(generator, kernel_weight=0.5).fit(X[:2], [0, 1])
    origin = np.zeros((1, 12), np.float32)  # as like one class as the other
    assert clf.decision_function(origin) == pytest.approx(0, abs=1e-7)
    assert clf.explain(origin).label == clf.predict(origin)


def test_has_its_share_of_the_scores(data):
    X, y, queries = data
    of_kernel, of_proxies, both = (
        plain_classifier("mean", kernel_weight=weight)
        .fit(X, y)
        .decision_function(queries)
        for weight in (1, 0, 0.3)
    )
    np.testing.assert_allclose(both, 0.3 * of_kernel + 0.7 * of_proxies, atol=1e-12)


def test_weights_count_as_repetition(data):
    X, y, queries = data
    weights = np.random.default_rng(1).integers(0, 4, len(y))
    weights[y == 3] = 1
    clf = only_kernel().fit(X, y, sample_weight=weights)
    repeated = only_kernel().fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(
        clf.decision_function(queries), repeated.decision_function(queries), atol=1e-7
    )
    assert clf.class_count_.tolist() == repeated.class_count_.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight", [1e-8, 1e8, None])
def test_equal_rows_of_any_weight(data, weight, dtype):
    """Their kernel is singular, and heavy ones are hardly regularised."""
    X, y, _ = data
    X, y = np.repeat(X.astype(dtype), 3, axis=0), np.repeat(y, 3)
    # But for rounding: of samples that are equal to the bit, one is kept.
    noise = np.random.default_rng(0).uniform(-1, 1, X.shape)
    X *= (1 + 4 * np.finfo(dtype).eps * noise).astype(dtype)
    weights = np.full(len(y), weight)
    if weight is None:
        weights = 10.0 ** np.random.default_rng(6).uniform(-60, 8, len(y))
    clf = only_kernel(temperature="auto").fit(X, y, sample_weight=weights)
    probabilities = clf.predict_proba(X)
    assert np.isfinite(probabilities).all()
    if weight == 1e8:
        assert clf.score(X, y) == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_leaving_out_is_brute_force(data, weighted):
    X, y, _ = data
    X = l2_normalize(X)
    weights = np.random.default_rng(2).uniform(0.5, 2, len(y)) if weighted else None
    clf = only_kernel().fit(X, y, sample_weight=weights)
    space = clf._fitted.scorer.head.space
    support = space.support()
    regression = kernel_ridge.KernelRidge(
        support, *kernel_ridge.choose_kernel(support.judges())
    )
    samples = space.state.column(lambda block: block.samples)
    left_out = LeftOut.of(samples, space.class_weights)
    np.testing.assert_array_equal(left_out.rows, support.rows)
    found = regression.scores_without(support, left_out)
    for i in range(0, len(y), 7):
        others = np.arange(len(y)) != i
        without = kernel_ridge.KernelRidge(
            support._replace(
                rows=support.rows[others],
                codes=support.codes[others],
                weights=support.weights[others],
            ),
            regression.gamma,
            regression.alpha,
        )
        expected = without.scores(support.rows[i : i + 1])[:, 0]
        np.testing.assert_allclose(found[:, i], expected, atol=1e-5)
    some = np.array([3, 40, 41, 64])
    few = regression.scores_without(support, take(left_out, some))
    np.testing.assert_array_equal(few, found[:, some])
    shares = kernel_ridge.LabelShares(support, regression.gamma, regression.alpha)
    for _ in range(2):  # the factor stays as it is
        same = regression.scores_without(support, left_out, shares.factor)
        np.testing.assert_array_equal(same, found)


def test_the_choice_is_the_best_for_left_out_samples(data):
    X, y, _ = data
    support = only_kernel().fit(X, y)._fitted.scorer.head.space.support()
    everyone = LeftOut(
        support.rows,
        support.codes,
        support.weights,
        support.weights,
        np.concatenate([np.arange(n) for n in np.bincount(support.codes)]),
    )

    def value(gamma, alpha):
        scores = kernel_ridge.KernelRidge(support, gamma, alpha).scores_without(
            support, everyone
        )
        likelihood, _ = fit_temperature(scores.T, support.codes, support.weights)
        errors = scores.T - 1 / 4 - support.targets(np.float64)
        return likelihood - np.average(
            np.sum(errors**2, axis=1), weights=support.weights
        )

    values = {
        both: value(*both) for both in product(kernel_ridge.GAMMAS, kernel_ridge.ALPHAS)
    }
    best = max(values, key=values.get)
    assert best[0] in kernel_ridge.GAMMAS[1:-1]
    assert best[1] in kernel_ridge.ALPHAS[1:-1]
    assert kernel_ridge.choose_kernel(support) == best


def test_the_smoothest_kernel_is_for_single_samples(data):
    X, y, _ = data
    _, first = np.unique(y, return_index=True)
    clf = only_kernel().fit(X[first], y[first])
    assert clf.kernel_gamma_ == min(kernel_ridge.GAMMAS)
    assert clf.kernel_alpha_ == min(kernel_ridge.ALPHAS)


@pytest.mark.parametrize(
    "name, choices",
    [("kernel_gamma_", kernel_ridge.GAMMAS), ("kernel_alpha_", kernel_ridge.ALPHAS)],
)
def test_the_choice_is_an_attribute(data, name, choices):
    X, y, _ = data
    clf = only_kernel().fit(X, y)
    chosen = getattr(clf, name)
    assert chosen in choices
    again = pickle.loads(pickle.dumps(clf))
    assert getattr(again, name) == getattr(clf.compact(), name) == chosen
    clf.set_params(kernel_weight=0).fit(X, y)
    with pytest.raises(AttributeError, match=f"{name} exists only with kernel_weight"):
        getattr(clf, name)


def test_the_regression_counts_for_less_where_classes_are_uneven(data):
    X, y, _ = data
    few = np.concatenate([np.flatnonzero(y == c)[:5] for c in range(4)])
    weights = np.array([1, 2, 3, 6])[y]  # 30, 40, 30, 30 in all
    evenness = [
        only_kernel().fit(*some)._fitted.scorer.head.space.support().evenness
        for some in ((X[few], y[few]), (X, y, weights), (X, y))
    ]
    expected = [
        hmean(sizes) / np.mean(sizes)
        for sizes in ([5, 5, 5, 5], [30, 40, 30, 30], [30, 20, 10, 5])
    ]
    np.testing.assert_allclose(evenness, expected)


def test_judges_are_some_of_many(data, monkeypatch):
    X, y, _ = data
    support = only_kernel().fit(X, y)._fitted.scorer.head.space.support()
    monkeypatch.setattr(kernel_ridge, "_MIN_JUDGES", 8)
    monkeypatch.setattr(kernel_ridge, "_MAX_JUDGES", 40)
    judges = support.judges()
    assert np.bincount(judges.codes).tolist() == [10, 10, 10, 5]
    sums = np.bincount(judges.codes, judges.weights)
    np.testing.assert_allclose(sums, sums.mean())
    monkeypatch.setattr(kernel_ridge, "_MAX_JUDGES", 16)
    judges = support.judges()  # eight of every other class
    assert np.bincount(judges.codes).tolist() == [8, 8]
    np.testing.assert_array_equal(judges.rows[8:], support.rows[support.codes == 2][:8])
    assert judges.n_classes == 2


def test_there_are_samples_of_however_many_classes(data, monkeypatch):
    X, y, queries = data
    expected = only_kernel().fit(X, y).decision_function(queries)
    monkeypatch.setattr(kernel_ridge, "_BLOCK_SIZE", 1)
    found = only_kernel().fit(X, y).decision_function(queries)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    most = [kernel_ridge.most_of_each(n) for n in (0, 1, 60, 10**6)]
    assert most == [kernel_ridge.SAMPLE_SIZE] * 2 + [kernel_ridge.MAX_ROWS // 60, 1]


class TestRealConditions:
    """What users meet: classes of unlike sizes, and wrong labels."""

    def scores(self, X, y, X_test, y_test):
        clf = ImprintClassifier.from_method("recommended", random_state=0)
        proxies = clone(clf).set_params(kernel_weight=0)
        return [model.fit(X, y).score(X_test, y_test) for model in (clf, proxies)]

    @pytest.fixture
    def halves(self):
        X, y = load_digits_embeddings(return_X_y=True)
        return X[::2], y[::2], X[1::2], y[1::2]

    def test_a_long_tail(self, halves):
        X, y, *test = halves
        sizes = np.geomspace(80, 1, 10).round().astype(int)
        rows = np.concatenate([np.flatnonzero(y == c)[:n] for c, n in enumerate(sizes)])
        both, proxies = self.scores(X[rows], y[rows], *test)
        assert both > proxies - 0.01

    @pytest.mark.parametrize("share", [0.1, 0.3])
    def test_wrong_labels(self, halves, share):
        X, y, *test = halves
        rng = np.random.default_rng(0)
        wrong = rng.random(len(y)) < share
        y = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)
        both, proxies = self.scores(X, y, *test)
        assert both > proxies - 0.01


def test_learns_and_forgets_as_one_fit(data):
    X, y, queries = data
    whole = plain_classifier("mean", kernel_weight=0.5).fit(X, y)
    parts = plain_classifier("mean", kernel_weight=0.5)
    for rows in np.array_split(np.arange(len(y)), 4):
        parts.partial_fit(X[rows], y[rows])
    np.testing.assert_allclose(
        parts.decision_function(queries), whole.decision_function(queries), atol=1e-12
    )
    known = y != 2
    fresh = plain_classifier("mean", kernel_weight=0.5).fit(X[known], y[known])
    np.testing.assert_array_equal(
        parts.forget(2).decision_function(queries), fresh.decision_function(queries)
    )
    loaded = pickle.loads(pickle.dumps(whole))
    np.testing.assert_array_equal(loaded.predict(queries), whole.predict(queries))


def test_does_not_depend_on_the_order_of_samples(data):
    X, y, queries = data
    order = np.random.default_rng(3).permutation(len(y))
    scores, again = (
        only_kernel().fit(X[rows], y[rows]).decision_function(queries)
        for rows in (np.arange(len(y)), order)
    )
    np.testing.assert_array_equal(scores, again)


def test_a_class_of_a_head_is_its_row(data):
    X, y, queries = data
    head = np.random.default_rng(4).normal(size=(2, 12))
    clf = only_kernel(head=(head, [10, 11])).fit(X, y)
    alike = only_kernel().fit(np.vstack([X, head]), np.concatenate([y, [10, 11]]))
    np.testing.assert_allclose(
        clf.decision_function(queries),
        alike.decision_function(queries),
        atol=1e-12,
    )


def test_no_more_samples_are_remembered_than_said(data, monkeypatch):
    monkeypatch.setattr(kernel_ridge, "SAMPLE_SIZE", 6)
    X, y, _ = data
    clf = only_kernel().fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    samples = clf._fitted.state.column(lambda block: block.samples)
    assert samples.sizes.tolist() == [6, 6, 6, 5]


def test_chooses_by_no_more_samples_than_without(data, monkeypatch):
    for module in ("_plan", "_space.space"):
        monkeypatch.setattr(f"skimprint.{module}.SAMPLE_SIZE", 6)
    X, y, _ = data
    whitened = [
        plain_classifier("mean", whitening="auto", kernel_weight=weight).fit(X, y)
        for weight in (0, 0.5)
    ]
    assert whitened[0].whitening_ == whitened[1].whitening_


def test_probabilities_by_left_out_samples(data):
    X, y, _ = data
    clf = plain_classifier("mean", kernel_weight=0.5, temperature="auto").fit(X, y)
    fixed = plain_classifier("mean", kernel_weight=0.5, temperature=1e-3).fit(X, y)

    def loss(model):
        rng = np.random.default_rng(5)
        held = rng.normal(size=(200, 12)) + X[rng.integers(len(X), size=200)] * 0
        return -np.log(model.predict_proba(held).max(axis=1)).mean()

    assert 0 < clf.temperature_ < np.inf
    assert loss(clf) > loss(fixed)  # less sure of noise


def test_explains_what_it_predicts(data):
    X, y, queries = data
    clf = plain_classifier("mean", kernel_weight=0.8).fit(X, y)
    why = clf.explain(queries)
    np.testing.assert_array_equal(why.label, clf.predict(queries))
    scores = np.sort(clf.decision_function(queries), axis=1)
    np.testing.assert_allclose(why.margin, scores[:, -1] - scores[:, -2])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cross_validation_is_the_grid_search(data, n_jobs):
    X, y, _ = data
    grid = {
        "kernel_weight": [0.0, 0.5, 1.0],
        "n_proxies": [1, 3],
        "whitening": [None, "auto"],
    }
    clf = plain_classifier(random_state=0)
    ours = ImprintClassifierCV(clf, grid, n_jobs=n_jobs).fit(X, y)
    theirs = GridSearchCV(clf, grid).fit(X, y)
    np.testing.assert_array_equal(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"]
    )


def test_results_follow_arrays_elsewhere(data, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y, queries = data
    clf = plain_classifier("mean", kernel_weight=0.5).fit(X, y)
    with sklearn.config_context(array_api_dispatch=True):
        there = plain_classifier("mean", kernel_weight=0.5)
        there.fit(torch.asarray(X), torch.asarray(y))
        scores = there.decision_function(torch.asarray(queries))
        assert isinstance(there.predict(torch.asarray(queries)), torch.Tensor)
    np.testing.assert_allclose(scores.numpy(), clf.decision_function(queries))


@pytest.mark.parametrize(
    "params",
    [
        {"aggregation": "mnn"},
        {"metric": "euclidean"},
        {"support_norm": None, "query_norm": None},
        {"query_norm": None},
        {"support_norm": "power"},
        {"support_norm": np.abs, "query_norm": np.abs},
    ],
)
def test_what_it_does_not_go_with(data, params):
    X, y, _ = data
    with pytest.raises(ValueError, match=r"kernel_weight needs .* kernel_weight=0"):
        plain_classifier(kernel_weight=0.5, **params).fit(X, y)


def test_nan_in_a_query_is_an_error(data):
    X, y, queries = data
    clf = plain_classifier("mean", kernel_weight=0.5).fit(X, y)
    queries[3, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        clf.predict(queries)


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_recommended_works_with_few_samples(data, shots):
    X, y, _ = data
    rows = np.concatenate([np.flatnonzero(y == c)[:shots] for c in range(4)])
    clf = plain_classifier(**RECOMMENDED, random_state=0).fit(X[rows], y[rows])
    assert clf.score(X, y) > 0.6


def test_one_class_and_no_queries(data):
    X, y, queries = data
    clf = only_kernel().fit(X, np.zeros(len(y)))
    assert set(clf.predict(queries)) == {0.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_sum_to_the_scores(data, dtype):
    X, y, queries = data
    clf = only_kernel().fit(X.astype(dtype), y)
    kernel, support = clf._fitted.scorer.head.kernel, clf._fitted.scorer.head.space
    support = support.support()
    rows = l2_normalize(queries.astype(dtype))
    codes = np.arange(len(rows)) % 4
    shares = kernel_ridge.LabelShares(support, kernel.gamma, kernel.alpha)
    found = np.concatenate([part for _, part in shares.of_classes(rows, codes)])
    assert found.shape == (len(rows), len(X))
    expected = kernel.scores(rows)[codes, np.arange(len(rows))]
    atol = 1e-4 if dtype == np.float32 else 1e-8
    np.testing.assert_allclose(found.sum(axis=1) + 1 / 4, expected, atol=atol)


def test_labels_are_what_the_scores_are_linear_in(data):
    """Without its label, a sample leaves the others' share as it was."""
    X, y, queries = data
    scorer = only_kernel().fit(X, y)._fitted.scorer
    support, kernel = scorer.head.space.support(), scorer.head.kernel
    rows, codes = l2_normalize(queries[:5]), np.arange(5) % 4
    shares = kernel_ridge.LabelShares(support, kernel.gamma, kernel.alpha)
    ((_, found),) = shares.of_classes(rows, codes)

    class Unlabelled(kernel_ridge.Support):
        def targets(self, dtype):
            targets = super().targets(dtype)
            targets[7] = 0
            return targets

    without = kernel_ridge.KernelRidge(Unlabelled(*support), kernel.gamma, kernel.alpha)
    left = without.scores(rows)[codes, np.arange(5)]
    whole = kernel.scores(rows)[codes, np.arange(5)]
    np.testing.assert_allclose(found[:, 7], whole - left, atol=1e-9)
