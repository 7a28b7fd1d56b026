import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import less_memory_than
from sklearn.preprocessing import normalize

from skimprint import metrics
from skimprint.metrics import neural_collapse_score, variability_collapse_index

METRICS = [neural_collapse_score, variability_collapse_index]


def covariances(X, y):
    """Covariance of each class, and that of the class means, by their definitions."""
    classes = np.unique(y)
    means = np.array([X[y == c].mean(axis=0) for c in classes])
    # NumPy 2.0 takes one row for one feature, unless rows are columns.
    within = np.array([np.cov(X[y == c].T, bias=True) for c in classes])
    between = np.mean([np.outer(m, m) for m in means - X.mean(axis=0)], axis=0)
    return within, between


def nc1(within, between, n_classes):
    return np.trace(within @ np.linalg.pinv(between, hermitian=True)) / n_classes


def vci(within, between, rcond=None):
    total = np.linalg.pinv(between + within, rcond, hermitian=True)
    return 1 - np.trace(between @ total) / np.linalg.matrix_rank(between)


def blobs(seed, n_classes, n_features, rank=None):
    """Classes of different sizes, more samples than features; perhaps of low rank."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(
        np.repeat(np.arange(n_classes), n_features + rng.integers(5, 40, n_classes))
    )
    rank = rank or n_features
    X = 2 * rng.normal(size=(n_classes, rank))[y] + rng.normal(size=(len(y), rank))
    return X @ rng.normal(size=(rank, n_features)), y


@given(
    st.integers(0, 1000),
    st.integers(2, 7),
    st.integers(2, 10),
    st.sampled_from(["l2", None]),
)
def test_equal_their_definitions(seed, n_classes, n_features, norm):
    X, y = blobs(seed, n_classes, n_features)
    Z = normalize(X) if norm else X
    within, between = covariances(Z, y)
    expected = nc1(within.mean(axis=0), between, n_classes)
    each = [nc1(w, between, n_classes) for w in within]
    for average, value in [("pooled", expected), (None, each)]:
        score = neural_collapse_score(X, y, norm=norm, average=average)
        # Of the inverse of a matrix of condition 1e11, five digits are known.
        np.testing.assert_allclose(score, value, rtol=1e-4)
    expected = vci(within.mean(axis=0), between)
    each = [vci(w, between) for w in within]
    for average, value in [("pooled", expected), (None, each)]:
        index = variability_collapse_index(X, y, norm=norm, average=average)
        # Mixed features may be nearly one, so that inverses keep half of their digits.
        np.testing.assert_allclose(index, value, rtol=1e-6, atol=1e-6)


def test_equal_the_reference_but_for_its_bias(reference):
    X, y = normalize(reference["X_train"].astype(float)), reference["y_train"]
    published_nc1, published_vci, trace_w, trace_b, rank_w, _ = reference["nc"]
    within, between = covariances(X, y)
    within, mean = within.mean(axis=0), X.mean(axis=0)
    biased = within + np.outer(mean, mean)
    # The helper is what the reference computes.
    np.testing.assert_allclose(np.trace(biased), trace_w, rtol=1e-5)
    np.testing.assert_allclose(np.trace(between), trace_b, rtol=1e-5)
    # In single precision, its pseudo-inverse has that of 600 samples and 1024 features.
    single = 1024 * np.finfo(np.float32).eps
    assert np.linalg.matrix_rank(biased, rtol=single, hermitian=True) == rank_w
    np.testing.assert_allclose(vci(biased, between, single), published_vci, rtol=1e-3)

    bias = mean @ np.linalg.pinv(between, hermitian=True, rcond=1e-10) @ mean / 10
    score = neural_collapse_score(reference["X_train"], y)
    np.testing.assert_allclose(score + bias, published_nc1, rtol=1e-5)
    index = variability_collapse_index(reference["X_train"], y)
    np.testing.assert_allclose(index, vci(within, between), atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("average", ["pooled", None])
def test_are_zero_for_collapsed_classes(metric, average):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 200)
    X = rng.normal(size=(5, 8))[y] * rng.uniform(1, 3, size=(200, 1))
    np.testing.assert_allclose(metric(X, y, average=average), 0, atol=1e-12)
    assert metric(X, y, norm=None) > 1e-3


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(1, 4))
def test_rank_deficient_embeddings(seed, n_classes, rank):
    """In a subspace they are what they are in its coordinates."""
    X, y = blobs(seed, n_classes, rank)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(9, rank)))[0]
    embedded = X @ basis.T
    for metric in METRICS:
        np.testing.assert_allclose(
            metric(embedded, y, norm=None), metric(X, y, norm=None), rtol=1e-6
        )


@given(st.integers(0, 1000))
def test_order_names_scale_and_linear_maps_make_no_difference(seed):
    X, y = blobs(seed, 4, 5)
    rng = np.random.default_rng(seed)
    linear = np.linalg.qr(rng.normal(size=(5, 5)))[0] * rng.uniform(0.5, 2, 5)
    for metric in METRICS:
        score = metric(X, y)
        names = np.array(["d", "a", "c", "b"])[y]
        order = rng.permutation(len(y))
        np.testing.assert_allclose(metric(X[order], names[order]), score)
        np.testing.assert_allclose(metric(3 * X, y), score)
        np.testing.assert_allclose(
            metric(X, names, average=None), metric(X, y, average=None)[[1, 3, 2, 0]]
        )
    np.testing.assert_allclose(
        variability_collapse_index(X @ linear, y, norm=None),
        variability_collapse_index(X, y, norm=None),
        atol=1e-9,
    )


@given(st.integers(0, 1000))
def test_pooled_score_is_the_mean_of_the_classes(seed):
    X, y = blobs(seed, 5, 3)
    each = neural_collapse_score(X, y, average=None)
    np.testing.assert_allclose(each.mean(), neural_collapse_score(X, y))
    index = variability_collapse_index(X, y)
    assert 0 <= index <= 1


def test_grow_with_the_scatter():
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    centers, noise = rng.normal(size=(3, 4))[y], rng.normal(size=(600, 4))
    for metric in METRICS:
        scores = [metric(centers + s * noise, y) for s in (0.1, 0.3, 1, 3)]
        assert np.all(np.diff(scores) > 0)


def test_fewer_samples_than_features_can_be_separated():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 50)), np.arange(20) % 4
    np.testing.assert_allclose(variability_collapse_index(X, y), 0, atol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 10, 40])
def test_one_class_can_be_separated_where_the_others_leave_directions(n_classes):
    rng, n_features = np.random.default_rng(0), 50
    for n, is_separable in [(n_features - n_classes, True), (n_features - 1, False)]:
        y = np.repeat(np.arange(n_classes), [n] + [60] * (n_classes - 1))
        X = rng.normal(size=(n_classes, n_features))[y]
        X += rng.normal(size=X.shape)
        index = variability_collapse_index(X, y, average=None)[0]
        assert (index < 1e-9) == (is_separable or n_classes == 2)


@pytest.mark.parametrize("norm", ["l2", None])
@pytest.mark.parametrize(
    "n_classes, n_features, rank", [(3, 40, 40), (30, 40, 12), (60, 20, 20)]
)
@pytest.mark.parametrize("noise", [0, 0.1])
def test_classes_of_few_samples_have_the_index_of_their_covariance(
    n_classes, n_features, rank, noise, norm
):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(n_classes), rng.integers(1, 2 * n_features, n_classes))
    X = rng.normal(size=(n_classes, rank))[y] + rng.normal(size=(len(y), rank))
    X = X @ rng.normal(size=(rank, n_features))
    X += noise * rng.normal(size=X.shape)
    found = variability_collapse_index(X, y, norm=norm, average=None)
    within, between = covariances(normalize(X) if norm else X, y)
    np.testing.assert_allclose(found, [vci(w, between) for w in within], atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-5), (np.float16, 2e-2)])
def test_take_single_and_half_precision(metric, dtype, rtol):
    X, y = blobs(0, 5, 6)
    np.testing.assert_allclose(metric(X.astype(dtype), y), metric(X, y), rtol=rtol)
    # Nothing but the input is rounded.
    rounded = X.astype(dtype)
    np.testing.assert_allclose(metric(rounded, y), metric(rounded.astype(float), y))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("average", ["pooled", None])
def test_blocks_do_not_matter(metric, average, monkeypatch):
    X, y = blobs(0, 4, 6)
    whole = metric(X, y, average=average)
    monkeypatch.setattr(metrics, "_BLOCK", 6 * 7)  # seven rows
    np.testing.assert_allclose(metric(X, y, average=average), whole, rtol=1e-12)


def test_is_exact_far_from_the_origin():
    """Where sums of squares less squared sums would have no digit left."""
    X, y = blobs(0, 4, 6)
    for metric in METRICS:
        far = metric(X + 1e6, y, norm=None)
        np.testing.assert_allclose(far, metric(X, y, norm=None), rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("average", ["pooled", None])
def test_never_copies_the_embeddings(metric, average):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400_000, 32), dtype=np.float32)
    y = (np.arange(len(X)) % 2).astype(np.int8)
    metric(X[:100], y[:100])
    # Row numbers, class by class, and two blocks; X in float64 would be 102 MB.
    with less_memory_than(45e6):
        metric(X, y, average=average)


@pytest.mark.parametrize("metric", METRICS)
def test_refuse_what_they_cannot_score(metric):
    X, y = blobs(0, 3, 4)
    with pytest.raises(ValueError, match=r"at least two; got one, 'cat'\. Pass the em"):
        metric(X, ["cat"] * len(X))
    with pytest.raises(ValueError, match="All class means are the same"):
        metric([[0.0, 1.1], [2.2, 1.1]] * 2, ["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="'norm' parameter"):
        metric(X, y, norm="l1")
    with pytest.raises(ValueError, match="'average' parameter"):
        metric(X, y, average="macro")
    with pytest.raises(ValueError, match="Unknown label type"):
        metric(X, X[:, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metric(X, y[1:])
    for bad in (np.nan, np.inf):
        X_bad = X.copy()
        X_bad[3, 1] = bad
        for norm in ("l2", None):
            with pytest.raises(ValueError, match="Input X contains"):
                metric(X_bad, y, norm=norm)
