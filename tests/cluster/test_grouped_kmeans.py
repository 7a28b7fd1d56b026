"""The public face of the k-means engine."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

from skimprint._arrays.device import to_host
from skimprint.cluster import GroupedKMeans

EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "repeated rows change what is drawn, as in KMeans"
    ),
    "check_transformer_n_iter": "the check expects one number, not one per group",
}


@parametrize_with_checks(
    [GroupedKMeans(n_clusters=2)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_attributes_say_what_was_found_in_each_group():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = GroupedKMeans({"setosa": 1, "versicolor": 2, "virginica": 4})
    model.set_params(random_state=0).fit(X, names)
    np.testing.assert_array_equal(
        model.cluster_groups_,
        np.repeat(["setosa", "versicolor", "virginica"], [1, 2, 4]),
    )
    np.testing.assert_array_equal(model.cluster_groups_[model.labels_], names)
    np.testing.assert_allclose(model.cluster_centers_[0], X[y == 0].mean(axis=0))
    distances = np.linalg.norm(X - model.cluster_centers_[model.labels_], axis=1)
    np.testing.assert_allclose(
        model.inertia_, [np.sum(distances[y == g] ** 2) for g in range(3)]
    )
    np.testing.assert_array_equal(model.transform(X).argmin(axis=1), model.predict(X))
    accuracy = np.mean(model.cluster_groups_[model.predict(X)] == names)
    assert accuracy > 0.9


def test_a_group_does_not_depend_on_the_others():
    X, y = load_iris(return_X_y=True)
    model = GroupedKMeans(4, random_state=0)
    together = model.fit(X, y).cluster_centers_[model.cluster_groups_ == 1]
    alone = clone(model).fit(X[y == 1], y[y == 1]).cluster_centers_
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    "n_clusters, message",
    [
        ({0: 2, 1: 2}, r"n_clusters .* none for \[2\] \(its keys are \[0, 1\]\)"),
        ({0: 2, 1: 0, 2: 1}, "n_clusters .* int of at least 1; got 0 for 1"),
    ],
)
def test_n_clusters_must_fit_the_groups(n_clusters, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        GroupedKMeans(n_clusters).fit(X, y)


def test_a_failed_fit_leaves_the_model():
    X, y = load_iris(return_X_y=True)
    model = GroupedKMeans({0: 2, 1: 2, 2: 2}, random_state=0).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match=r"n_clusters .* none for \[3\]"):
        model.fit(X[:, :2], y + 1)
    np.testing.assert_array_equal(model.groups_, [0, 1, 2])
    np.testing.assert_array_equal(model.predict(X), before)


def test_inertia_in_float32_keeps_what_cancels():
    X = np.array([[-1.0001], [-0.9999], [0.9999], [1.0001]])
    for dtype in (np.float32, np.float64):
        model = GroupedKMeans(2, random_state=0).fit(X.astype(dtype), [0] * 4)
        np.testing.assert_allclose(model.inertia_, 4e-8, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("spherical", [False, True])
def test_results_follow_X_and_equal_those_of_numpy(xp, dtype, spherical):
    X, y = load_iris(return_X_y=True)
    X = X.astype(dtype)
    weights = 1.0 + np.arange(len(y)) % 3
    params = {"n_clusters": 4, "spherical": spherical, "random_state": 0}
    with config_context(array_api_dispatch=False):
        expected = GroupedKMeans(**params).fit(X, y, weights)
    for y_there, weights_there in ((xp(y), weights), (y, xp(weights))):
        model = GroupedKMeans(**params)
        labels = model.fit_predict(xp(X), y_there, weights_there)
        assert xp.owns(labels)
        np.testing.assert_array_equal(to_host(labels), expected.labels_)
        for name in ("cluster_centers_", "cluster_groups_", "labels_", "inertia_"):
            np.testing.assert_array_equal(getattr(model, name), getattr(expected, name))
    for name in ("predict", "transform"):
        found = getattr(model, name)(xp(X))
        with config_context(array_api_dispatch=False):
            wanted = getattr(expected, name)(X)
        assert xp.owns(found)
        assert to_host(found).dtype == wanted.dtype
        np.testing.assert_array_equal(to_host(found), wanted)


def test_half_precision_counts_as_float32(monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y = load_iris(return_X_y=True)
    halves = torch.asarray(X).to(torch.bfloat16)
    weights = torch.asarray(1.0 + np.arange(len(y)) % 3).to(torch.bfloat16)
    model = GroupedKMeans(4, random_state=0)
    expected = clone(model).fit(halves.float().numpy(), y, weights.float().numpy())
    with config_context(array_api_dispatch=True):
        model.fit(halves, torch.asarray(y), weights)
        found = model.transform(halves)
    np.testing.assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(
        found.numpy(), expected.transform(halves.float().numpy())
    )
    assert model.fit(X.astype(np.float16), y).transform(X).dtype == np.float64
    assert model.transform(X.astype(np.float16)).dtype == np.float32


def test_spherical_ignores_lengths():
    X, y = load_iris(return_X_y=True)
    scale = np.random.default_rng(0).uniform(0.1, 10, size=(len(X), 1))
    model = GroupedKMeans(3, spherical=True, random_state=0)
    labels = model.fit_predict(X, y)
    np.testing.assert_array_equal(labels, clone(model).fit_predict(X * scale, y))
    np.testing.assert_array_equal(model.predict(X), model.predict(X * scale))
    np.testing.assert_allclose(np.linalg.norm(model.cluster_centers_, axis=1), 1)


@pytest.mark.parametrize("installed", [True, False])
def test_progress_goes_to_stderr(installed, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr("skimprint._progress._DELAY", 0)
    if not installed:
        monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    X, y = load_iris(return_X_y=True)
    GroupedKMeans(2, verbose=1, n_jobs=2).fit(X, y)
    output = capsys.readouterr()
    assert output.out == ""
    assert "k-means" in output.err
    assert "3" in output.err


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_distances_that_are_not_finite():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="too large for float32"):
        GroupedKMeans(2).fit((X * 1e20).astype(np.float32), y)
    with pytest.raises(ValueError, match="sample_weight is too large"):
        GroupedKMeans(2).fit(X, y, np.full(len(X), 1e308))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("n_samples", [30, 200, 900])  # by each way that there is
@pytest.mark.parametrize("n_clusters", [1, 2])
@pytest.mark.parametrize("exponent", [-1000, -120, -40, 100, 900])
def test_the_unit_of_weights_does_not_matter(
    dtype, spherical, n_samples, n_clusters, exponent
):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, 3)).astype(dtype) + 1
    weights = rng.uniform(0.5, 2, n_samples)
    y = np.arange(n_samples) % 2
    model = GroupedKMeans(n_clusters, spherical=spherical, random_state=0)
    expected = clone(model).fit(X, y, sample_weight=weights)
    # One group beside another, whose weights are as they were.
    scales = np.where(y == 1, 2.0**exponent, 1.0)
    found = clone(model).fit(X, y, sample_weight=weights * scales)
    np.testing.assert_array_equal(found.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(found.labels_, expected.labels_)
    np.testing.assert_array_equal(
        found.inertia_, expected.inertia_ * [1, 2.0**exponent]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_samples", [30, 200, 2000])  # by each way that there is
def test_spherical_centres_of_little_weight_have_unit_length(dtype, n_samples):
    kind = np.arange(n_samples) % 3
    weights = np.array([1, 1e-10, 1e-20])[kind]
    model = GroupedKMeans(3, spherical=True, random_state=0)
    model.fit(np.eye(3, dtype=dtype)[kind], np.zeros(n_samples), weights)
    np.testing.assert_allclose(model.cluster_centers_[model.labels_], np.eye(3)[kind])


@pytest.mark.parametrize("dtype, offset", [(np.float32, 1e5), (np.float64, 1e10)])
def test_a_large_offset_does_not_hurt_predictions(dtype, offset):
    X, y = load_iris(return_X_y=True)
    X = (np.round(64 * X) + np.round(offset)).astype(dtype)
    model = GroupedKMeans(4, random_state=0).fit(X, np.zeros(len(y)))
    exact = np.linalg.norm(
        X[:, None].astype(np.longdouble) - model.cluster_centers_, axis=2
    )
    np.testing.assert_allclose(model.transform(X), exact.astype(float), rtol=1e-2)
    np.testing.assert_array_equal(model.predict(X), model.labels_)


def test_a_group_without_weight_is_clustered_as_if_it_had_some():
    X, y = load_iris(return_X_y=True)
    model = GroupedKMeans(3, random_state=0)
    found = clone(model).fit(X, y, sample_weight=(y != 1).astype(float))
    expected = clone(model).fit(X, y)
    np.testing.assert_array_equal(found.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(found.inertia_, expected.inertia_)


@pytest.mark.parametrize(
    "dtype, expected",
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int8, np.float64),
    ],
)
def test_dtype_of_centres(dtype, expected):
    X, y = load_iris(return_X_y=True)
    model = GroupedKMeans(2, random_state=0).fit(X.astype(dtype), y)
    assert model.cluster_centers_.dtype == expected


def test_rows_without_a_group_are_named():
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    groups = pandas.Series(["a", None, "b"], dtype="string")
    with pytest.raises(ValueError, match=r"y contains NaN: rows \[1\] have no value"):
        GroupedKMeans(1).fit(np.eye(3), groups)
