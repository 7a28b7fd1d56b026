"""The public face of the k-means engine."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

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


def test_attributes():
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
        ({0: 2, 1: 2}, r"no entry for the groups \[2\]"),
        ({0: 2, 1: 0, 2: 1}, "int of at least 1"),
    ],
)
def test_n_clusters_must_fit_the_groups(n_clusters, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        GroupedKMeans(n_clusters).fit(X, y)


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
