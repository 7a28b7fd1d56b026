"""Closed forms of leaving samples out: against refits without each of them."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skimprint._memory.columns import take
from skimprint._space import regularization
from skimprint._space.regularization import (
    LeftOut,
    _able_to_go,
    choose_alpha,
    choose_shrinkage,
    last_of_the_best,
    ridge_scores,
    whitened_mean_scores,
)
from skimprint._space.whitening import Scatter

EVERY_CLASS = np.arange(4)
SHRINKAGES = [0.01, 0.3, 0.9, 1.0]


def unbalanced(n_features, *, weighted=False):
    rng = np.random.default_rng(n_features)
    codes = np.repeat(np.arange(4), [2, 3, 5, 10])
    X = rng.normal(size=(20, n_features)) + rng.normal(size=(4, n_features))[codes] + 1
    weight = rng.uniform(0.2, 3, 20) if weighted else np.ones(20)
    return X, codes, weight


def statistics(X, codes, weight):
    onehot = np.eye(4)[codes] * weight[:, None]
    class_weight = onehot.sum(axis=0)
    return class_weight, onehot.T @ X / class_weight[:, None]


def left_out_of(X, codes, weight=None):
    weight = np.ones(len(X)) if weight is None else weight
    return LeftOut(X, codes, weight, weight, np.zeros(len(X), int))


def scatter_of(X, codes, weight, means):
    residuals = (X - means[codes]) * np.sqrt(weight)[:, None]
    return Scatter.of_rows(residuals, weight.sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_features", [3, 40, 90])
def test_whitened_mean_is_brute_force(n_features, weighted):
    X, codes, weight = unbalanced(n_features, weighted=weighted)
    class_weight, means = statistics(X, codes, weight)
    residuals = X - means[codes]
    total = weight.sum()
    variance = (weight @ residuals**2).sum() / n_features / total
    scores = whitened_mean_scores(
        scatter_of(X, codes, weight, means),
        class_weight,
        means,
        left_out_of(X, codes, weight),
        SHRINKAGES,
        EVERY_CLASS,
    )
    for shrinkage, actual in zip(SHRINKAGES, scores, strict=True):
        for i in range(len(X)):
            kept = np.arange(len(X)) != i
            _, m = statistics(X[kept], codes[kept], weight[kept])
            r = X[kept] - m[codes[kept]]
            covariance = (1 - shrinkage) / total * (r.T * weight[kept]) @ r
            covariance += shrinkage * variance * np.eye(n_features)
            inverse = np.linalg.inv(covariance)
            x, m = X[i] - m.mean(axis=0), m - m.mean(axis=0)
            lengths = np.sqrt(
                np.einsum("ij,jk,ik->i", m, inverse, m) * (x @ inverse @ x)
            )
            np.testing.assert_allclose(actual[i], m @ inverse @ x / lengths, atol=1e-6)


def test_some_rows_are_scored_as_among_all():
    X, codes, weight = unbalanced(6)
    class_weight, means = statistics(X, codes, weight)
    args = scatter_of(X, codes, weight, means), class_weight, means
    some = np.array([1, 7, 12])
    (expected,), (actual,) = (
        whitened_mean_scores(*args, left_out_of(*rows), [0.4], EVERY_CLASS)
        for rows in ((X, codes), (X[some], codes[some]))
    )
    np.testing.assert_allclose(actual, expected[some])


def test_some_classes_are_scored_as_among_all():
    X, codes, weight = unbalanced(6)
    class_weight, means = statistics(X, codes, weight)
    args = scatter_of(X, codes, weight, means), class_weight, means
    among, some = np.array([1, 3]), np.isin(codes, [1, 3])
    rows = left_out_of(X, codes)
    (expected,) = whitened_mean_scores(*args, rows, [0.4], EVERY_CLASS)
    (actual,) = whitened_mean_scores(*args, take(rows, some), [0.4], among)
    np.testing.assert_allclose(actual, expected[some][:, among])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-8])
def test_cosines_are_cosines_of_what_hardly_anything_is_left(share, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 6)).astype(dtype)
    codes, weight = np.array([0, 0, 1, 1]), np.array([1, share, share, 1])
    onehot = np.eye(2)[codes] * weight[:, None]
    class_weight = onehot.sum(axis=0)
    means = onehot.T @ X.astype(np.float64) / class_weight[:, None]
    found = whitened_mean_scores(
        scatter_of(X.astype(np.float64), codes, weight, means),
        class_weight,
        means,
        left_out_of(X, codes, weight),
        SHRINKAGES,
        np.arange(2),
    )
    assert all(np.abs(scores).max() <= 1 for scores in found)


def test_few_rows_of_float32_are_told_from_what_they_leave():
    """Of two rows of a class, one leaves 1e-5 of the variance in their direction."""
    X, codes, weight = unbalanced(1000)
    X = X.astype(np.float32)
    class_weight, means = statistics(X.astype(float), codes, weight)
    scatter = scatter_of(X, codes, weight, means)
    single, double = (
        list(
            whitened_mean_scores(
                scatter,
                class_weight,
                means,
                left_out_of(rows, codes),
                [0.01],
                EVERY_CLASS,
            )
        )
        for rows in (X, X.astype(np.float64))
    )
    np.testing.assert_allclose(single, double, atol=1e-6)


def test_float32_rows_are_near_enough():
    X, codes, weight = unbalanced(40)
    class_weight, means = statistics(X, codes, weight)
    args = scatter_of(X, codes, weight, means), class_weight, means
    for shrinkage, expected, actual in zip(
        SHRINKAGES,
        *(
            whitened_mean_scores(
                *args, left_out_of(rows, codes), SHRINKAGES, EVERY_CLASS
            )
            for rows in (X, X.astype(np.float32))
        ),
        strict=True,
    ):
        # What outweighs the noise of a sample in its own direction is divided by.
        np.testing.assert_allclose(actual, expected, atol=3e-4 / shrinkage)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_features", [3, 40, 90])
def test_ridge_is_brute_force(n_features, weighted):
    X, codes, weight = unbalanced(n_features, weighted=weighted)
    root = np.sqrt(weight)[:, None]
    targets = np.eye(4)[codes]
    alphas = [0.01, 1.0]
    scores = ridge_scores(
        Scatter.of_rows(X * root, weight.sum()),
        (targets * weight[:, None]).T @ X,
        left_out_of(X, codes, weight),
        alphas,
    )
    for alpha, actual in zip(alphas, scores, strict=True):
        for i in range(len(X)):
            kept = np.arange(len(X)) != i
            ridge = Ridge(alpha=alpha * weight.sum(), fit_intercept=False)
            ridge.fit(X[kept], targets[kept], sample_weight=weight[kept])
            np.testing.assert_allclose(actual[i], ridge.predict(X[[i]])[0], atol=1e-6)


@pytest.mark.parametrize("n_classes", [12, 150])
def test_each_class_has_the_same_say_in_the_shrinkage(n_classes):
    """However many samples each stands for; and it matters who has a say."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(n_classes), 6)
    varies = codes % 3 == 0  # and much, in a few directions that the others hardly have
    noise = rng.normal(size=(len(codes), 12))
    noise[:, :4] *= np.where(varies, 6.0, 0.2)[:, None]
    X = 1.5 * rng.normal(size=(n_classes, 12))[codes] + noise
    means = np.stack([X[codes == c].mean(axis=0) for c in range(n_classes)])
    weight, class_weight = np.ones(len(codes)), np.full(n_classes, 6.0)
    left_out = LeftOut(X, codes, weight, weight, np.arange(len(codes)) % 6)

    def choice(left_out):
        scatter = scatter_of(X, codes, weight, means)
        return choose_shrinkage(scatter, class_weight, means, left_out)

    expected = choice(left_out)
    for few in (varies, ~varies):
        assert choice(left_out._replace(counts=np.where(few, 1e-3, 1))) == expected
    assert choice(take(left_out, varies)) != choice(take(left_out, ~varies))


def test_the_only_row_of_a_class_stays():
    rows = left_out_of(np.arange(3), np.array([0, 1, 1]))
    assert _able_to_go(np.array([1.0, 2.0]), rows).rows.tolist() == [1, 2]
    rows = left_out_of(*rows[:2], np.array([0.5, 2.0, 0.0]))
    assert _able_to_go(np.array([0.5, 2.0]), rows).rows.tolist() == [2]


@pytest.mark.parametrize("seed", range(10))
def test_what_is_alone_in_its_class_has_no_say(seed):
    rng = np.random.default_rng(seed)
    codes = np.append(np.repeat(np.arange(4), 5), np.arange(4, 10))
    X = rng.normal(size=(26, 8)) * np.geomspace(1, 0.1, 8)
    X += rng.normal(size=(10, 8))[codes]
    class_weight = np.bincount(codes).astype(float)
    means = np.stack([X[codes == c].mean(axis=0) for c in range(10)])
    left_out = left_out_of(X, codes)
    within = scatter_of(X, codes, np.ones(26), means)
    for choose, scatter in (
        (choose_shrinkage, within),
        (choose_alpha, Scatter.of_rows(X, 26.0)),
    ):
        found, expected = (
            choose(scatter, class_weight, means, some)
            for some in (left_out, take(left_out, slice(20)))
        )
        assert found == expected


def test_what_is_no_better_than_chance_is_equally_good():
    """However near to chance its best temperature gets."""
    codes = np.arange(12) % 3
    wrong = -np.eye(3)[codes]
    hardly = np.where(np.arange(12)[:, None] == 0, wrong, 0)
    for candidates in ([wrong, hardly], [hardly, wrong]):
        assert last_of_the_best(candidates, codes, np.ones(12)) == 1


def test_scores_of_so_many_classes_tell(monkeypatch):
    seen = []
    scores = regularization.whitened_mean_scores

    def counted(*args):
        for found in scores(*args):
            seen.append(found.shape)
            yield found

    monkeypatch.setattr(regularization, "whitened_mean_scores", counted)
    monkeypatch.setattr(regularization, "_MAX_CLASSES", 2)
    X, codes, weight = unbalanced(6)
    class_weight, means = statistics(X, codes, weight)
    scatter = scatter_of(X, codes, weight, means)
    choose_shrinkage(scatter, class_weight, means, left_out_of(X, codes))
    assert set(seen) == {(2 + 5, 2)}


@pytest.mark.parametrize("n_features", [3, 8, 40])
@pytest.mark.parametrize("noise", [0.02, 0.7, 2.0])
def test_the_shrinkage_is_that_of_all_though_few_are_tried(
    n_features, noise, monkeypatch
):
    rng = np.random.default_rng(n_features)
    codes = np.repeat(np.arange(4), 6)
    X = rng.normal(size=(4, n_features))[codes]
    X += noise * rng.normal(size=(24, n_features)) * np.geomspace(2, 0.2, n_features)
    class_weight, means = statistics(X, codes, np.ones(24))
    args = scatter_of(X, codes, np.ones(24), means), class_weight, means
    left_out, n_tried = left_out_of(X, codes), []
    scores = regularization.whitened_mean_scores

    def counted(*args):
        for found in scores(*args):
            n_tried.append(1)
            yield found

    monkeypatch.setattr(regularization, "whitened_mean_scores", counted)
    found = choose_shrinkage(*args, left_out)
    ascending = sorted(regularization.SHRINKAGES)
    of_all = scores(*args, left_out, ascending, EVERY_CLASS)
    assert found == ascending[last_of_the_best(of_all, codes, np.ones(24))]
    if noise < 0.1:  # nearly all samples are right
        assert len(n_tried) < 4


@pytest.mark.parametrize("n_per_class, seed", [(3, 2), (3, 11), (12, 3)])
def test_a_peak_that_comes_after_a_fall_near_chance_is_found(n_per_class, seed):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(4), n_per_class)
    weight = np.ones(len(codes))
    X = rng.normal(size=(4, 8))[codes] + 0.1 * rng.normal(size=(len(codes), 8))
    X[:, :2] = rng.normal(size=(len(codes), 2))  # they say nothing, and vary most
    X *= np.geomspace(1, 1e-4, 8)
    class_weight, means = statistics(X, codes, weight)
    args = scatter_of(X, codes, weight, means), class_weight, means
    left_out = left_out_of(X, codes)
    assert choose_shrinkage(*args, left_out) == min(regularization.SHRINKAGES)
    first = whitened_mean_scores(*args, left_out, [0.97, 0.9], EVERY_CLASS)
    assert last_of_the_best(first, codes, weight) == 0  # it falls
