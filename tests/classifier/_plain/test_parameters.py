"""Parameters as they were when a classifier was fitted."""

import copy
import pickle

import numpy as np
from pickled import assert_same, support
from settings import plain_classifier

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes


def test_parts_that_were_changed_after_fit_act_with_the_next_one(digits):
    X, y = digits
    clf = plain_classifier("all", aggregation=Votes(5)).fit(X[:300], y[:300])
    clf.set_params(aggregation__n_neighbors=1, random_state=3)
    again = pickle.loads(pickle.dumps(clf))
    assert_same(again, clf, X)
    assert again.aggregation.n_neighbors == 1
    assert_same(again.fit(X[:300], y[:300]), clf.fit(X[:300], y[:300]), X)


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
