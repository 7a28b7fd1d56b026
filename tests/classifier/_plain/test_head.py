"""How much a pickle has of what predictions need."""

import pickle

import numpy as np
import pytest
from pickled import assert_same, support
from settings import plain_classifier

from skimprint import ImprintClassifier


@pytest.mark.parametrize("method", ["default", "recommended", "westerhoff"])
@pytest.mark.parametrize(
    "n_shots, n_features, most",
    [
        # A whitening of d features has d (d + 1) / 2 numbers; of fewer samples than
        # features, it is made again of these.
        (100, 1024, {"westerhoff": 1.2, "default": 1.2, "recommended": 1.21}),
        (100, 384, {"westerhoff": 1.2, "default": 1.41, "recommended": 1.44}),
        (20, 1024, {"westerhoff": 1.02, "default": 1.03, "recommended": 1.05}),
    ],
)
def test_a_pickle_holds_each_sample_once_and_half_a_whitening(
    method, n_shots, n_features, most
):
    X, y = support(10, n_shots, n_features)
    clf = ImprintClassifier()
    if method != "default":
        clf = ImprintClassifier.from_method(method)
    clf.set_params(random_state=0).fit(X[5:], y[5:])
    _ = clf.temperature_
    dump = pickle.dumps(clf)
    assert len(dump) <= most[method] * X.nbytes
    arrays = clf.__getstate__()["_fitted"]["arrays"]
    assert not [
        name for name, a in arrays.items() if a.dtype == np.float64 and a.ndim == 2
    ]
    again = pickle.loads(dump)
    assert_same(again, clf, X[::7])
    assert len(pickle.dumps(again)) < len(dump) + 1000
    assert_same(again.partial_fit(X[:5], y[:5]), clf.partial_fit(X[:5], y[:5]), X[::7])


@pytest.mark.parametrize("params", [{}, {"whitening": 0.2}])
def test_pickles_of_mahalanobis_hold_half_of_the_matrices(params):
    X, y = support(10, 40, 64)
    clf = plain_classifier("mean", metric="mahalanobis", **params).fit(X, y)
    arrays = clf.__getstate__()["_fitted"]["arrays"]
    assert not [name for name, a in arrays.items() if a.shape == (64, 64)]
    again = pickle.loads(pickle.dumps(clf))
    assert_same(again, clf, X)
    np.testing.assert_array_equal(again.covariance_, clf.covariance_)
