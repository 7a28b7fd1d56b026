"""ImprintClassifierCV passes the tests that scikit-learn has for its own searches.

They are read from the installed package and run with `ImprintClassifierCV` in place of
`GridSearchCV`, and where they can be with `ImprintClassifier` in place of the
classifiers, so that candidates share their work. Cases of other searches are left out.
"""

import importlib.util
import inspect
import os
import re
import sys
from contextlib import ExitStack
from unittest import mock

import pytest
from settings import PLAIN
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._param_validation import HasMethods

from skimprint import ImprintClassifier, ImprintClassifierCV

# Their own settings decide what a warning is, and in which tests.
pytestmark = pytest.mark.filterwarnings("ignore")

REPLACED = {
    "DecisionTreeClassifier": "tree",
    "LinearDiscriminantAnalysis": "discriminant_analysis",
    "LinearSVC": "svm",
    "LogisticRegression": "linear_model",
    "SVC": "svm",
    "SGDClassifier": "linear_model",
}

# Tests that need the classifier that they have, and what of it.
KEPT = {
    "test_grid_search_one_grid_point": "an attribute",
    "test_grid_search_precomputed_kernel": "a kernel matrix for data",
    "test_grid_search_precomputed_kernel_error_nonsquare": "a kernel matrix for data",
    "test_grid_search_sparse": "sparse data",
    "test_grid_search_sparse_scoring": "sparse data",
    "test_grid_search_with_multioutput_data": "several labels of each sample",
    "test_predict_proba_disabled": "a method that is not there",
    "test_refit_callable": "an effect of C",
    "test_scalar_fit_param_compat": "a parameter",
    "test_search_cv_results_rank_tie_breaking": "an effect of C",
    "test_search_cv_score_samples_error": "a method that is not there",
    "test_search_cv_timing": "an invalid value of C",
    "test_search_default_iid": "classes that differ in length alone",
    "test_search_html_repr": "a name",
    "test_stochastic_gradient_loss_param": "a method that is not there",
}


@pytest.fixture(autouse=True)
def array_api(monkeypatch):
    """Let no test of arrays be skipped."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


class Search(ImprintClassifierCV):
    """A search for any estimator, and without labels, as those of scikit-learn."""

    _parameter_constraints: dict = {  # noqa: RUF012
        **ImprintClassifierCV._parameter_constraints,
        "estimator": [HasMethods(["fit"])],
    }

    def fit(self, X, y=None, **params):
        return super().fit(X, y, **params)


class Classifier(ImprintClassifier):
    """Has the parameters of the classifiers that it replaces, without effect."""

    def __init__(
        self,
        C=1.0,
        degree=3,
        gamma=1.0,
        kernel="rbf",
        max_depth=None,
        random_state=None,
        tol=0.1,
    ):
        super().__init__("mean", random_state=random_state, **PLAIN)
        self.C = C
        self.degree = degree
        self.gamma = gamma
        self.kernel = kernel
        self.max_depth = max_depth
        self.tol = tol


def their_tests(name, replaced):
    """Read scikit-learn's tests as a module with another search and classifiers."""
    file = importlib.util.find_spec("sklearn.model_selection.tests.test_search").origin
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with ExitStack() as stack:
        # Asked for while scikit-learn < 1.7 is read.
        stack.enter_context(mock.patch.dict(os.environ, SCIPY_ARRAY_API="1"))
        stack.enter_context(mock.patch("sklearn.model_selection.GridSearchCV", Search))
        for each, room in replaced.items():
            stack.enter_context(mock.patch(f"sklearn.{room}.{each}", Classifier))
        # A mark of a plugin for threads.
        marks = mock.patch.dict(vars(pytest.mark), thread_unsafe=lambda test: test)
        stack.enter_context(marks)
        spec.loader.exec_module(module)
    return vars(module)


def searches(values):
    """The classes of search that are among the values of a test's parameters."""
    values = getattr(values, "values", values)
    values = values if isinstance(values, tuple | list) else [values]
    kinds = {each if isinstance(each, type) else type(each) for each in values}
    return {kind for kind in kinds if issubclass(kind, BaseSearchCV)}


def is_ours(test):
    """Whether a test is one of our search; leaves out cases that are of another."""
    applies = names(test, "GridSearchCV")
    for i, mark in enumerate(getattr(test, "pytestmark", [])):
        if mark.name == "parametrize":
            arguments, values = mark.args
            kept = [each for each in values if not searches(each) - {Search}]
            applies = applies or any(searches(each) for each in kept)
            ours = pytest.mark.parametrize(arguments, kept, **mark.kwargs)
            test.pytestmark[i] = ours.mark
    return applies


def names(test, *words):
    """Whether the source of a test has one of the words."""
    return re.search(rf"\b({'|'.join(words)})\b", inspect.getsource(test)) is not None


alone = their_tests("tests_of_searches", {})
shared = their_tests("tests_of_searches_that_share", REPLACED)
for name, test in alone.items():
    if name.startswith("test_"):
        if name not in KEPT and names(test, *REPLACED):
            test = shared[name]
        if is_ours(test):
            globals()[name] = test


def test_there_are_tests():
    # So that a change of names in scikit-learn does not pass unseen.
    ours = {name for name in globals() if name.startswith("test_")}
    assert len(ours) > 50
    assert KEPT.keys() <= ours
