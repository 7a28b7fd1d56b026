"""What is asked of explanations, and which samples a proxy stands for."""

import numpy as np
import pytest
from settings import plain_classifier

from skimprint.classifier._explanations import explanation_of
from skimprint.generation import KMeansProxies


def test_probabilities_are_those_of_the_classes_if_they_are_asked_for(few):
    X, y = few
    clf = plain_classifier("mean", temperature="auto").fit(X, y)
    why = explanation_of(clf, X, with_probabilities=True)
    expected = clf.predict_proba(X).max(axis=1)
    np.testing.assert_allclose(why.probability, expected, rtol=1e-6)
    assert "probability" not in clf.explain(X)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_reasons": -1}, "n_reasons must be an int of at least 0; got -1"),
        ({"n_reasons": 1.5}, "n_reasons must be an int of at least 0; got 1.5"),
        ({"y": [1]}, "y must have a label for each of 3 samples; got an array"),
        ({"y": ["x", 1, 10]}, r"learnt nothing of \[10, 'x'\]. Leave these"),
    ],
)
def test_what_is_refused(few, options, message):
    clf = plain_classifier("mean").fit(*few)
    if "y" in options:
        options = {"y": np.array(options["y"], dtype=object)}
    with pytest.raises(ValueError, match=message):
        clf.explain(few[0][:3], **options)


@pytest.mark.parametrize("name", ["explain", "assign_proxies"])
def test_a_class_without_samples_is_known_but_not_learnt(few, name):
    X, y = few
    clf = plain_classifier("mean").partial_fit(X, y, classes=[*np.unique(y), 77])
    assert 77 in clf.classes_
    with pytest.raises(ValueError, match=r"it has learnt nothing of \[77\]"):
        getattr(clf, name)(X[:1], y=[77])


class TestAssignProxies:
    @pytest.mark.parametrize("spherical", [False, True])
    def test_samples_of_a_cluster(self, digits, spherical):
        X, y = digits
        generator = KMeansProxies(spherical=spherical)
        clf = plain_classifier(generator, n_proxies=3, random_state=0).fit(X, y)
        found = clf.assign_proxies(X, y)
        np.testing.assert_array_equal(clf.proxy_labels_[found], y)
        np.testing.assert_array_equal(found[clf.proxy_indices_], np.arange(30))
        if not spherical:  # a centre is the mean of its samples
            counts = clf.explain(clf.proxies_, y=clf.proxy_labels_).n_samples
            np.testing.assert_array_equal(np.bincount(found), counts)
            unit = X / np.linalg.norm(X, axis=1, keepdims=True)
            for proxy in range(30):
                mean = unit[found == proxy].mean(axis=0)
                mean /= np.linalg.norm(mean)
                np.testing.assert_allclose(mean, clf.proxies_[proxy], atol=1e-5)

    @pytest.mark.parametrize("generator", ["mean", "all", "fps", "kmedoids"])
    def test_proxies_that_are_samples_stand_for_themselves(self, few, generator):
        X, y = few
        clf = plain_classifier(generator, n_proxies=4, random_state=0).fit(X, y)
        found = clf.assign_proxies(X, y)
        np.testing.assert_array_equal(clf.proxy_labels_[found], y)
        if generator != "mean":
            expected = np.arange(len(clf.proxies_))
            np.testing.assert_array_equal(found[clf.proxy_indices_], expected)

    def test_what_is_refused(self, few):
        X, y = few
        clf = plain_classifier("mean").fit(X, y)
        with pytest.raises(ValueError, match=r"it has learnt nothing of \[11\]"):
            clf.assign_proxies(X[:1], [11])
        with pytest.raises(ValueError, match="nor say which samples a proxy stands"):
            clf.compact().assign_proxies(X, y)
