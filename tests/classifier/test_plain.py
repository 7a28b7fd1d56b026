"""What a classifier knows, as plain values: small pickles, of public names only."""

import copy
import io
import pickle
import pickletools
from enum import StrEnum

import joblib
import numpy as np
import pytest
from settings import plain_classifier

from skimprint import ImprintClassifier, Rejection
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


def support(n_classes, n_shots, n_features, dtype=np.float32):
    """Embeddings of classes that overlap, as those of real texts do."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(n_classes), n_shots)
    X = rng.standard_normal((n_classes, n_features))[y]
    X += 0.8 * rng.standard_normal(X.shape)
    return X.astype(dtype), y


def assert_same(first, second, X):
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))
    np.testing.assert_array_equal(first.proxies_, second.proxies_)


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


def test_a_row_that_is_sample_and_proxy_is_written_once():
    X, y = support(5, 10, 100)
    X[1] = X[0]  # equal samples are samples nevertheless
    clf = plain_classifier("all", kernel_weight=0.5).fit(X, y)
    rows = clf.__getstate__()["_fitted"]["arrays"]["rows"]
    assert rows.shape == X.shape
    assert rows.dtype == X.dtype
    again = pickle.loads(pickle.dumps(clf))
    assert_same(again.partial_fit(X[3:], y[3:]), clf.partial_fit(X[3:], y[3:]), X)


def test_rows_with_the_same_key_stay_apart(monkeypatch, digits):
    X, y = digits
    clf = plain_classifier("all", whitening=0.5, random_state=0).fit(X[:50], y[:50])
    monkeypatch.setattr(
        "skimprint.classifier._plain.state.row_keys",
        lambda rows, seed: np.zeros(len(rows), np.uint64),
    )
    assert_same(pickle.loads(pickle.dumps(clf)), clf, X)


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


def test_parts_that_were_changed_after_fit_act_with_the_next_one(digits):
    X, y = digits
    clf = plain_classifier("all", aggregation=Votes(5)).fit(X[:300], y[:300])
    clf.set_params(aggregation__n_neighbors=1, random_state=3)
    again = pickle.loads(pickle.dumps(clf))
    assert_same(again, clf, X)
    assert again.aggregation.n_neighbors == 1
    assert_same(again.fit(X[:300], y[:300]), clf.fit(X[:300], y[:300]), X)


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


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    "labels",
    [
        [np.str_("up"), np.str_("down")],
        [Color.RED, Color.BLUE],
    ],
    ids=lambda labels: type(labels[0]).__name__,
)
def test_text_in_arrays_of_objects_is_plain(labels):
    """Whatever they are subclasses of: files and pickles hold the plain ones."""
    X, _ = support(2, 5, 4)
    y = np.empty(10, dtype=object)
    y[:] = labels * 5
    for params in ({}, {"head": (X[:1], y[:1])}):
        clf = plain_classifier("mean", **params).fit(X, y)
        assert {type(label) for label in clf.classes_} == {str}
        for again in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
            assert again.predict(X).tolist() == clf.predict(X).tolist()
            assert again.forget(labels[0]).classes_.tolist() == [labels[1]]


class Narrow(ImprintClassifier):
    """Takes three parameters, one of them its own, and sets another itself."""

    def __init__(self, n_proxies=2, *, power=1.0, random_state=None):
        super().__init__("kmeans", n_proxies, whitening=0.3, random_state=random_state)
        self.power = power


def test_a_subclass_may_take_fewer_parameters():
    X, y = support(3, 10, 6)
    clf = Narrow(power=2.0, random_state=0).fit(X, y)
    expected = ImprintClassifier("kmeans", 2, whitening=0.3, random_state=0).fit(X, y)
    for other in (clf, pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert other.power == 2
        assert_same(other, expected, X)
        assert_same(other.compact(), expected, X)
    clf.set_params(n_proxies=1)  # takes effect with the next fit
    again = pickle.loads(pickle.dumps(clf))
    assert again.n_proxies == 1
    assert_same(again.partial_fit(X, y), expected.partial_fit(X, y), X)
    signed = Narrow(random_state=0).fit(np.abs(X), y).partial_fit(-X, y + 3)
    assert signed.support_norm_ == "power"
    assert signed.forget([0, 1, 2]).support_norm_ == "l2"
