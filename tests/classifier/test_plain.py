"""What a classifier knows, as plain values: small pickles, of public names only."""

import io
import pickle
import pickletools

import joblib
import numpy as np
import pytest
from pickled import assert_same, support
from settings import plain_classifier

from skimprint import Rejection
from skimprint.aggregation import Votes
from skimprint.generation import KMeansProxies
from skimprint.methods import RECOMMENDED
from skimprint.persistence import TRUSTED_TYPES

SETTINGS = {
    "default": {},
    "recommended": RECOMMENDED,
    "mean": {"generator": "mean"},
    "all": {"generator": "all"},
    "least squares": {"generator": "least_squares"},
    "whitened": {"whitening": 0.3, "n_proxies": 3},
    "kernel": {"kernel_weight": 0.3},
    "mahalanobis": {"metric": "mahalanobis"},
    "scatters summed": {"whitening": "auto", "forgettable": False},
    "rejecting": {"rejection": Rejection(-1), "temperature": "auto"},
    "parts": {"generator": KMeansProxies(n_init=2), "aggregation": Votes(3)},
}


@pytest.fixture(params=SETTINGS)
def fitted(request, digits):
    """A classifier that has learnt in parts."""
    X, y = digits
    X = X[:, ::16]
    clf = plain_classifier(**SETTINGS[request.param], random_state=0)
    return clf.fit(X[:300], y[:300]).partial_fit(X[300:400], y[300:400])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "params, n_classes, n_shots, n_features, most",
    [
        ({}, 77, 100, 64, 1.35),
        # Samples in float32 beside means in float64.
        ({"generator": "mean", "temperature": "auto"}, 20, 100, 256, 1.2),
        ({"generator": "least_squares", "n_proxies": 1}, 20, 100, 256, 1.2),
        ({}, 20, 130, 64, 1.35),
        (RECOMMENDED | {"kernel_weight": 0}, 40, 100, 256, 1.35),
        # The coefficients of the regression are n_classes / n_features of the samples.
        (RECOMMENDED, 40, 100, 256, 1.5),
        (RECOMMENDED, 20, 130, 128, 2),
    ],
)
def test_a_pickle_is_little_more_than_its_samples_and_proxies(
    params, n_classes, n_shots, n_features, most, dtype
):
    X, y = support(n_classes, n_shots, n_features, dtype)
    clf = plain_classifier(**params, random_state=0).fit(X, y)
    _ = clf.temperature_
    dump = pickle.dumps(clf)
    assert len(dump) <= most * X.nbytes
    again = pickle.loads(dump)
    assert_same(again, clf, X[::7])
    assert len(pickle.dumps(again)) < len(dump) + 1000


def test_pickles_name_nothing_private(fitted):
    names = {
        argument
        for operation, argument, _ in pickletools.genops(pickle.dumps(fitted, 2))
        if operation.name == "GLOBAL"
    }
    assert {name.replace(" ", ".") for name in names if "skimprint" in name} <= set(
        TRUSTED_TYPES
    )


def test_skops_trusts_the_public_names(fitted, digits):
    skops = pytest.importorskip("skops.io", reason="needs skimprint[files]")
    X, y = digits
    X = X[:, ::16]
    again = skops.loads(skops.dumps(fitted), trusted=TRUSTED_TYPES)
    assert_same(again, fitted, X)
    assert_same(
        again.partial_fit(X[400:], y[400:]), fitted.partial_fit(X[400:], y[400:]), X
    )


def test_joblib_maps_the_arrays_into_memory(fitted, digits, tmp_path):
    X, y = digits
    X = X[:, ::16]
    joblib.dump(fitted, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same(again, fitted, X)
    assert type(again.proxies_) is np.ndarray
    for clf in (again, fitted):
        if clf.forgettable:
            clf.forget(3)
        clf.partial_fit(X[400:], y[400:])
    assert_same(again, fitted, X)


def test_functions_are_pickled_as_they_are(digits):
    X, y = digits
    clf = plain_classifier(support_norm=np.sign, proxy_norm=np.tanh, random_state=0)
    clf.fit(X, y)
    assert_same(pickle.loads(pickle.dumps(clf)), clf, X)


def test_models_without_classes_are_pickled():
    clf = plain_classifier("mean")
    assert "_fitted" not in vars(pickle.loads(pickle.dumps(clf)))
    clf.fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"]).forget(["up", "right"])
    again = pickle.load(io.BytesIO(pickle.dumps(clf)))
    assert again.partial_fit([[0.0, 1.0]], ["up"]).classes_.tolist() == ["up"]
