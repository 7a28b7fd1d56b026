"""Random programs: what a classifier has learned and forgotten, and what it says.

A program is made from a seed: settings, and steps that learn, forget, merge, look, or
must be refused. After each step the classifier is compared with a notebook of all that
it should know. Where a program fails, it is printed as code. ``pytest
tests/classifier/test_programs.py --programs 1 --first-program SEED`` runs it again, and
``--programs 20000`` runs more of them.
"""

import pickle
import struct
import warnings
from copy import copy

import numpy as np
import pytest
from settings import first_rows, means_of_classes
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError

from skimprint import ImprintClassifier, Rejection
from skimprint._plan import chosen_norm
from skimprint.aggregation import Votes
from skimprint.generation import (
    GENERATORS,
    FarthestPointProxies,
    KMeansProxies,
    KMedoidsProxies,
    LeastSquaresProxies,
)
from skimprint.normalization import NORMS

# What is said of few samples, of votes, and of rows that are multiples of each other.
ALLOWED_WARNINGS = [
    "No class has proxies left without one of its samples",
    "n_neighbors=.* is more than the .* proxies",
    "The embeddings are nearly parallel",
    "Number of distinct clusters",
    "An ill-conditioned matrix detected",  # of least squares, by whitening with 0
    "support_norm_ stays",
]

# What is said where samples cannot be left out.
NOT_LEFT_OUT = r"call fit again|query_norm must be|do without a sample"


def pytest_generate_tests(metafunc):
    first = metafunc.config.getoption("--first-program")
    n_programs = metafunc.config.getoption("--programs")
    metafunc.parametrize("seed", range(first, first + n_programs))


def test_program(seed):
    with warnings.catch_warnings():
        for message in ALLOWED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        Program(seed).run()


def softened(X):
    """A norm of the user's own, row by row."""
    return X / (1 + np.abs(X).sum(axis=1, keepdims=True))


def products(queries, proxies):
    """A metric of the user's own."""
    return queries @ proxies.T


def norm_of_support(params):
    """What norm it is to be; "auto" where the samples decide."""
    if params["support_norm"] != "auto":
        return params["support_norm"]
    return {"l2": "l2", "power": "power", "auto": "auto"}.get(
        params["query_norm"], "l2"
    )


class Step:
    """What is done to a classifier, to be done again to another one, or printed.

    Parameters
    ----------
    name : str
        A method of the classifier, ``"merge"`` or ``"pickle"``.
    **arguments : dict
        Of the method; for ``"merge"``, those of the `fit` of the other classifier, and
        its ``params``.
    """

    def __init__(self, name, **arguments):
        self.name = name
        self.arguments = arguments

    def __call__(self, clf):
        """Do it, and return the classifier, or what takes its place."""
        if self.name == "pickle":
            return pickle.loads(pickle.dumps(clf))
        if self.name == "merge":
            return clf.merge(self.other())
        getattr(clf, self.name)(**self.arguments)
        return clf

    def other(self):
        """The other classifier of a merge."""
        arguments = dict(self.arguments)
        params = arguments.pop("params")
        return ImprintClassifier(**params).fit(**arguments)

    def __repr__(self):
        if self.name == "pickle":
            return "clf = pickle.loads(pickle.dumps(clf))"
        arguments = dict(self.arguments)
        if self.name != "merge":
            return f"clf.{self.name}({_written(arguments)})"
        params = arguments.pop("params")
        other = f"ImprintClassifier({_written(params)}).fit({_written(arguments)})"
        return f"clf.merge({other})"


def _written(arguments):
    """Arguments as code."""
    with np.printoptions(threshold=10**6, floatmode="unique", linewidth=10**6):
        return ", ".join(
            f"{name}={getattr(value, '__name__', None) or repr(value)}"
            for name, value in arguments.items()
        )


class Notebook:
    """All that a classifier should know, row by row.

    Attributes
    ----------
    X : list of ndarray of shape (n_features,)
        All rows that were learnt since the last fit, those of forgotten classes too.
    labels, weights, alive : list
        Of the rows; those of forgotten classes are not alive.
    known, absent : set of label
        Classes with and without weight.
    dtype : dtype or None
        Of the proxies.
    dtypes : set of dtype
        Of what was learnt.
    was_merged, has_one_seed, has_changed_norm : bool
        Whether some of it came from another classifier, and one of the same seed; and
        whether samples have been normalised in another way than before.
    rows_of_head : dict of {label: int}
        How many rows of a head there are in a class.
    pure : set of label
        Classes that are as they came from the head.
    """

    def __init__(self, head=None):
        self.X, self.labels, self.weights, self.alive = [], [], [], []
        self.known, self.absent = set(), set()
        self.dtype = None
        self.dtypes = set()
        self.was_merged, self.has_one_seed, self.has_changed_norm = False, True, False
        self.head_is_signed = {}
        self.rows_of_head, self.pure, self.head_labels = {}, set(), []
        if head is not None:
            weight, classes = head
            self.head_labels = classes.tolist()
            self.rows_of_head = dict.fromkeys(self.head_labels, 1)
            self.known, self.pure = set(self.head_labels), set(self.head_labels)
            self.head_is_signed = dict(
                zip(self.head_labels, weight.min(1) < 0, strict=True)
            )
            self.dtype = _dtype_of(weight)

    def learn(self, X, y, sample_weight=None, *, merged=False):
        weights = np.ones(len(y)) if sample_weight is None else sample_weight
        self.dtypes.add(X.dtype)
        if self.dtype is None:
            self.dtype = _dtype_of(X)
        elif merged and not self.head_labels:  # which the other one has, too
            self.dtype = np.result_type(self.dtype, _dtype_of(X))
        self.X += list(X.astype(np.float64))
        self.labels += y.tolist()
        self.weights += weights.tolist()
        self.alive += [True] * len(y)
        have_weight = set(y[weights > 0].tolist())
        if merged:
            self._merge_heads(have_weight)
        self.pure -= have_weight
        self.known |= have_weight
        self.absent = (self.absent | set(y.tolist())) - self.known
        self.was_merged |= merged

    def _merge_heads(self, learned):
        """Merge a classifier with the same head that has learned some classes."""
        for label in self.head_labels:
            if label not in self.known:
                self.rows_of_head[label] = 1
                self.known.add(label)
                self.pure.add(label)
            elif label in learned and label not in self.pure:
                self.rows_of_head[label] = self.rows_of_head.get(label, 0) + 1

    def forget(self, labels):
        for label in labels:
            self.rows_of_head.pop(label, None)
        self.pure -= set(labels)
        self.known -= set(labels)
        self.absent -= set(labels)
        self.alive = [
            alive and label not in labels
            for alive, label in zip(self.alive, self.labels, strict=True)
        ]

    @property
    def chosen_norm(self):
        """That of all samples that have weight and are not forgotten."""
        X = [
            x
            for x, weight, alive in zip(self.X, self.weights, self.alive, strict=True)
            if weight and alive
        ]
        signed_head = [self.head_is_signed[k] for k in self.rows_of_head]
        return chosen_norm(not (np.min(X, initial=0) < 0 or any(signed_head)))

    @property
    def classes(self):
        return sorted(self.known | self.absent)

    def left(self):
        """X, labels and weights of what is not forgotten."""
        left = np.flatnonzero(self.alive)
        X = np.array(self.X)[left].astype(self.dtype)
        labels = [self.labels[i] for i in left]
        return X, labels, np.array(self.weights)[left]


def _dtype_of(X):
    """The dtype of what is made of embeddings."""
    return np.dtype(np.float64 if X.dtype == np.float64 else np.float32)


class Program:
    """Draws settings and steps, takes them, and checks what comes of each.

    Parameters
    ----------
    seed : int
        Of all that is drawn.
    """

    def __init__(self, seed):
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.steps = []
        self.d = int(self.rng.integers(1, 7))
        self._draw_labels()
        self._draw_kind_of_data()
        self.params = self._draw_params()
        self.clf = ImprintClassifier(**self.params)
        self.notes = Notebook()
        self.queries = self._rows(self.pool[:1] * 3)
        # The parameters of the last fit, which what is set later does not change, and
        # whether samples were kept by them.
        self.plan_params, self.keeps_samples = None, False

    def run(self):
        try:
            self.learn("fit" if self.rng.random() < 0.5 else "partial_fit")
            for _ in range(9 + int(21 * self.rng.random() ** 4)):  # seldom many
                self.one_step()
            self.look()
            waits = self.params["generator"] in ("mean", "all")  # where parts may wait
            if self.chance(1 if waits and not self.needs_moments() else 0.15):
                self.compare_with_replay()
            if self.chance(0.8):
                self.compare_with_refit()
        except BaseException as error:
            error.add_note(f"Program {self.seed}:\n{self.code()}")
            raise

    def code(self):
        """The program, to be run by itself."""
        lines = [f"clf = ImprintClassifier({_written(self.params)})"]
        lines += [repr(step) for step in self.steps]
        lines.append(f"X = {_written({'': self.queries})[1:]}")
        return "\n".join(lines)

    # What is drawn.

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def chance(self, share):
        return self.rng.random() < share

    def _draw_labels(self):
        rng, n = self.rng, int(self.rng.integers(2, 7))
        self.label_kind = kind = self.pick(
            "small", "int", "negative", "uint64", "float", "bool", "str", "object"
        )
        numbers = rng.choice(2**30, n, replace=False) + 2**40
        self.other_label = -1
        self.label_dtype = np.dtype(np.int64)
        self.number_dtypes = [np.int64]
        if kind == "small":
            labels = rng.choice(9, n, replace=False).astype(np.int64)
            if self.chance(0.5):
                self.number_dtypes = [np.int8, np.int64, np.uint64, np.float64]
        elif kind == "int":
            labels = numbers
        elif kind == "negative":
            labels = -numbers
            self.other_label = 5
        elif kind == "uint64":
            self.label_dtype = np.dtype(np.uint64)
            labels = numbers.astype(np.uint64) + np.uint64(2**63)
            self.other_label = 7
        elif kind == "float":
            self.label_dtype = np.dtype(np.float64)
            labels = numbers.astype(np.float64)
        elif kind == "bool":
            self.label_dtype = np.dtype(bool)
            labels = np.array([False, True])
        else:
            labels = np.array([f"{number:x}" * self.pick(1, 3) for number in numbers])
            self.label_dtype = None if kind == "str" else np.dtype(object)
            self.other_label = "neither"
        self.pool = labels.tolist()
        self.centers = rng.normal(size=(len(self.pool), self.d)) * self.pick(0.3, 2)

    def _y(self, labels):
        if self.label_kind == "small":
            return np.array(labels, dtype=self.pick(*self.number_dtypes))
        return np.array(labels, dtype=self.label_dtype)

    def _draw_kind_of_data(self):
        self.shape_of_data = self.pick("clouds", "clouds", "positive", "grid", "line")
        self.constant = self.pick(None, None, None, 0.0, 1.0, 30.0)
        self.scale = self.pick(1.0, 1.0, 1.0, 1e-2, 1e2)
        self.dtypes = self.pick(
            [np.float64],
            [np.float64],
            [np.float32],
            [np.float32],
            [np.float16],
            [np.float16, np.float32, np.float64],
        )

    def _rows(self, labels):
        """Draw a row for each label."""
        rng, n = self.rng, len(labels)
        of_class = self.centers[[self.pool.index(label) for label in labels]]
        X = of_class + rng.normal(size=(n, self.d))
        if self.shape_of_data == "positive":
            X = np.abs(X)
        elif self.shape_of_data == "grid":
            X = np.round(X)
        elif self.shape_of_data == "line":
            X = X[:, :1] * np.linspace(1, 2, self.d)
        if self.constant is not None:
            X[:, -1] = self.constant
        if n > 1 and self.chance(0.3):  # copies, within a class and of others
            X[rng.integers(n)] = X[rng.integers(n)]
        if self.chance(0.05):
            X[rng.integers(n)] = 0
        return (self.scale * X).astype(self.pick(*self.dtypes))

    def _weights(self, y):
        """Draw weights of samples, of which one at least is positive."""
        if self.chance(0.6):
            return None
        rng = self.rng
        weights = 10 ** rng.uniform(-3, 3, len(y))
        weights[rng.random(len(y)) < 0.2] = 0
        if self.chance(0.2):  # a class without weight
            weights[y == y[0]] = 0
        if not weights.any():
            weights[-1] = 1
        return weights

    def _batch(self):
        """Draw X, y and sample_weight."""
        some = self.rng.permutation(len(self.pool))[: self.rng.integers(1, 4)]
        n = self.rng.integers(1, 9)
        labels = [self.pool[self.pick(*some)] for _ in range(n)]
        y = self._y(labels)
        batch = {"X": self._rows(labels), "y": y, "sample_weight": self._weights(y)}
        return {name: value for name, value in batch.items() if value is not None}

    def _draw_params(self):
        """Draw parameters that go together."""
        n_proxies = self.pick(1, 2, 3, 20)
        if self.chance(0.1):
            n_proxies = {label: int(self.rng.integers(1, 4)) for label in self.pool}
        params = {
            "generator": self.pick(
                *GENERATORS,
                *GENERATORS,
                "mean",  # whose parts may wait
                "all",
                FarthestPointProxies("random"),
                KMeansProxies(n_init=2, spherical=True),
                KMedoidsProxies("heuristic"),
                LeastSquaresProxies(alpha="auto", prior="uniform"),
                first_rows,
                KMeans(n_init=1),
            ),
            "n_proxies": n_proxies,
            "support_norm": self.pick("l2", "l2", "power", "auto", None, softened),
            "proxy_norm": self.pick("l2", "l2", None, "quantile", softened),
            "metric": self.pick(
                "dot", "cosine", "euclidean", "manhattan", "chebyshev", "mahalanobis"
            ),
            "whitening": self.pick(None, None, None, None, "auto", 0, 0.3, 1),
            "random_state": int(self.rng.integers(2**31)),
        }
        combines = self._combines(params)
        are_points = not combines and params["proxy_norm"] != "quantile"
        params["mean_weight"] = self.pick(0, 0, "auto", *[0.5] * are_points)
        params["query_norm"] = params["support_norm"]
        if self.chance(0.2):
            params["query_norm"] = self.pick("l2", "power", "auto", None, softened)
        if self.chance(0.3):
            params["temperature"] = self.pick("auto", "auto", 0.01, 1e-40, 1e3)
        if self.chance(0.3):
            params["rejection"] = self._draw_rejection()
        by_distance = params["metric"] != "dot"
        params["aggregation"] = self.pick(
            "max",
            "max",
            "mnn",
            Votes(int(self.rng.integers(1, 4))),
            Votes(3, "distance" if by_distance else "uniform"),
            means_of_classes,
        )
        if (
            params["metric"] in ("dot", "cosine")
            and params["support_norm"] in ("l2", "power", "auto")
            and params["query_norm"] in (params["support_norm"], "auto")
            and self.chance(0.5)
        ):
            params |= {"kernel_weight": 0.5, "aggregation": "max"}
        if combines or not self._norms_agree(params):
            if params.get("temperature") == "auto":
                params["temperature"] = 0.5
            if params.get("rejection") is not None:
                params["rejection"] = Rejection(self.other_label, threshold=0.5)
        if self.chance(0.1):
            params["n_jobs"] = 2
        if self.chance(0.1) and not combines:
            labels = self.pool[: self.rng.integers(1, 3)]
            params["head"] = self._rows(labels), self._y(labels)
        # By lots of its own, so that all others stay what they were.
        of_seed = np.random.default_rng([self.seed, 1])
        params["forgettable"] = ["auto", True, False][of_seed.integers(3)]
        if (
            params["metric"] == "dot"
            and not params.get("kernel_weight")
            and of_seed.random() < 0.3
        ):
            params["metric"] = products
        return params

    def _draw_rejection(self):
        return Rejection(
            self.other_label,
            threshold=self.pick("auto", "auto", 0.5, -1.0),
            rate=self.pick(0.05, 0.5),
            score=self.pick("similarity", "contrast"),
        )

    @staticmethod
    def _combines(params):
        generator = params["generator"]
        return generator == "least_squares" or isinstance(
            generator, LeastSquaresProxies
        )

    @staticmethod
    def _norms_agree(params):
        """Whether samples are normalised as queries are."""
        support = norm_of_support(params)
        return support is None or params["query_norm"] in ("auto", support)

    # Steps.

    def take(self, step, *, refused=None):
        """Take a step, or see it refused, with the classifier left as it was.

        Parameters
        ----------
        step : Step
        refused : tuple of (type, str), default=None
            The error that has to come, and what it has to say.
        """
        self.steps.append(step)
        if refused is None:
            self.clf = step(self.clf)
            return
        learns = step.name in ("fit", "partial_fit", "forget", "merge")
        before = pickle.dumps(self.clf) if learns and self.chance(0.5) else None
        with pytest.raises(refused[0], match=refused[1]):
            step(self.clf)
        assert before is None or pickle.dumps(self.clf) == before
        self.steps.pop()

    def one_step(self):
        known = self.notes.known
        choices = [
            (6, lambda: self.learn("partial_fit")),
            (1, lambda: self.learn("fit")),
            (2, self.be_refused),
            (1, lambda: self.take(Step("pickle"))),
            (1, self.clone),
            (1, self.set_params),
        ]
        if known:
            choices += [(2, self.forget), (2, self.merge), (3, self.look)]
        weights = np.array([weight for weight, _ in choices])
        number = self.rng.choice(len(choices), p=weights / weights.sum())
        choices[number][1]()
        self.check_attributes()

    def learn(self, name):
        """Learn a batch by `fit` or `partial_fit`."""
        batch = self._batch()
        if not self.notes.X or self.chance(0.5):
            self.queries = self._draw_queries(batch["X"])
        step, knows_none = Step(name, **batch), not self.notes.known
        if name == "fit" or self.plan_params is None:
            self.notes = Notebook(self.clf.head)
            self.take(step)
            self.plan_params = self.clf.get_params(deep=False)
            self.keeps_samples = self._keeps_samples(self.plan_params)
        else:
            self.take(step)
        self.notes.learn(**batch)
        if (name == "fit" or knows_none) and not self.notes.rows_of_head:
            self.check_norm(self.clf.support_norm_)

    def _draw_queries(self, X):
        """Samples, strangers and perhaps nothing at all."""
        strangers = self._rows([self.pick(*self.pool) for _ in range(3)])
        dtype = self.pick(X.dtype, strangers.dtype)
        queries = np.concatenate([X[:2], strangers]).astype(dtype)
        if self.chance(0.1):
            queries[0] = 0
        return queries

    def _keeps_samples(self, params):
        """Whether a fit keeps samples to leave out."""
        rejection = params["rejection"]
        calibrates = params["temperature"] == "auto" or (
            rejection is not None and rejection.threshold == "auto"
        )
        # What is unlike the support is not whitened.
        is_alike = params["query_norm"] in ("auto", norm_of_support(params))
        return bool(
            (params["whitening"] == "auto" and is_alike)
            or params["kernel_weight"]
            or (calibrates and self._can_leave_out(params))
        )

    def forget(self):
        """Forget a class, or several."""
        classes = self.notes.classes
        n = self.rng.integers(1, len(classes) + 1) if self.chance(0.2) else 1
        gone = [classes[i] for i in self.rng.permutation(len(classes))[:n]]
        argument = gone[0] if n == 1 and self.chance(0.5) else self._y(gone)
        if not isinstance(argument, np.ndarray) and self.label_dtype:
            argument = self._y(gone)[0]
        step = Step("forget", classes=argument)
        if (
            self.clf._fitted.state.pooled is not None
            and not self.notes.pure >= {*gone} - self.notes.absent
        ):
            assert not self.plan_params["forgettable"]
            self.take(step, refused=(ValueError, "only the sum of the scatters"))
            return
        before = self.clf.support_norm_
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.take(step)
        self.notes.forget(gone)
        self.check_nothing_is_left_of(gone)
        if self.notes.known:
            stays = any("support_norm_ stays" in str(w.message) for w in caught)
            assert not (stays and self.keeps_samples and not self.notes.head_labels)
            self.check_norm(before, may_stay=stays)

    def check_norm(self, before, *, may_stay=False):
        """See that the norm is that of all that is known, or stays if it may."""
        norm, expected = self.clf.support_norm_, norm_of_support(self.plan_params)
        if expected == "auto":
            assert norm == (before if may_stay else self.notes.chosen_norm)
            self.notes.has_changed_norm |= norm != before
        else:
            assert norm == before
            assert norm == expected

    def merge(self):
        """Merge a classifier that has learned a batch."""
        batch = self._batch()
        params = self.plan_params | {
            "temperature": self.clf.temperature,
            "rejection": self.clf.rejection,
        }
        if self.chance(0.5):
            params["random_state"] = int(self.rng.integers(2**31))
            self.notes.has_one_seed = False
        step = Step("merge", params=params, **batch)
        before, theirs = self.clf.support_norm_, step.other().support_norm_
        can_follow = [
            each and not self.notes.head_labels
            for each in (self.keeps_samples, self._keeps_samples(params))
        ]
        if before != theirs and self.is_refused(step):
            assert not any(can_follow)
            return
        self.take(step)
        self.notes.learn(**batch, merged=True)
        if before != theirs:
            self.notes.has_changed_norm = True
            norm = self.clf.support_norm_
            assert norm == self.notes.chosen_norm or not all(can_follow)
            assert norm in (before, theirs)
        self.keeps_samples &= self._keeps_samples(params)

    def is_refused(self, step):
        """Tell whether samples of two norms are not merged, and see it refused then."""
        try:
            step(copy(self.clf))
        except ValueError:
            self.take(step, refused=(ValueError, "must have the same support_norm_"))
            return True
        return False

    def set_params(self):
        """Change a parameter: temperature and rejection act at once, others do not."""
        known, kind = self.notes.known, self.pick("temperature", "rejection", "other")
        if kind == "other":
            before = self.clf.predict_proba(self.queries) if known else None
            n_proxies = self.pick(1, 2, 5)
            self.take(Step("set_params", n_proxies=n_proxies))
            if known:
                after = self.clf.predict_proba(self.queries)
                np.testing.assert_array_equal(before, after)
            return
        if kind == "temperature":
            value = self.pick("auto", 1.0, 0.05)
            is_auto = value == "auto"
        else:
            value = self.pick(None, self._draw_rejection())
            is_auto = value is not None and value.threshold == "auto"
        if is_auto and not self.may_calibrate():
            if kind == "rejection" or self.can_leave_out():
                self.refuse_to_calibrate(kind, value)
            return
        self.take(Step("set_params", **{kind: value}))

    def can_leave_out(self):
        """Whether proxies can do without a sample."""
        return self._can_leave_out(self.plan_params or self.params)

    def _can_leave_out(self, params):
        return not self._combines(params) and self._norms_agree(params)

    def may_calibrate(self):
        """Whether samples can be left out, now and after the next fit."""
        if not self.can_leave_out():
            return False
        return self.plan_params is None or self.keeps_samples

    def refuse_to_calibrate(self, name, value):
        """See what needs left-out samples refused where there are none."""
        if not self.notes.known:
            return
        before = getattr(self.clf, name)
        self.clf.set_params(**{name: value})
        look = {"temperature": "predict_proba", "rejection": "predict"}[name]
        try:
            with pytest.raises((ValueError, NotFittedError), match=NOT_LEFT_OUT):
                getattr(self.clf, look)(self.queries)
        except BaseException:
            self.steps.append(Step("set_params", **{name: value}))
            raise
        self.clf.set_params(**{name: before})

    def clone(self):
        """A clone has the parameters, and has learnt nothing."""
        copied = clone(self.clf)
        assert repr(copied.get_params()) == repr(self.clf.get_params())
        assert not copied.__sklearn_is_fitted__()

    def be_refused(self):
        """Try what must not succeed."""
        batch = self._batch()
        method = self.pick("fit", "partial_fit")
        kinds = ["nan", "weights", "length"]
        if self.plan_params is not None:
            kinds += ["width", "kind of label"]
            kinds += ["forget", "merge", "look"]
        kind = self.pick(*kinds)
        X, y = batch["X"], batch["y"]
        if kind == "nan":
            broken = X.copy()
            broken[self.rng.integers(len(X)), self.rng.integers(self.d)] = self.pick(
                np.nan, np.inf
            )
            error = ValueError, "NaN|infinity"
            self.take(Step(method, **batch | {"X": broken}), refused=error)
        elif kind == "weights":
            weights = self.pick(np.zeros(len(y)), -np.ones(len(y)))
            error = ValueError, "[Ss]ample.weight"
            self.take(Step(method, **batch | {"sample_weight": weights}), refused=error)
        elif kind == "length":
            error = ValueError, "inconsistent numbers of samples"
            self.take(Step(method, X=X, y=np.append(y, y[:1])), refused=error)
        elif kind == "width":
            error = ValueError, "features"
            self.take(
                Step("partial_fit", X=np.ones((1, self.d + 1)), y=y[:1]), refused=error
            )
        elif kind == "kind of label":
            if not self.notes.classes or not self.notes.known:
                return
            labels = ["text"] if self.label_kind not in ("str", "object") else [3]
            error = ValueError, "Labels must be of the type"
            self.take(Step("partial_fit", X=X[:1], y=np.array(labels)), refused=error)
        elif kind == "forget" and self.notes.known:
            known = sorted(self.notes.known)[0]
            unknown = "zebra" if isinstance(known, str) else 99
            labels = np.array([known, unknown], dtype=object)
            error = ValueError, "labels that the classifier knows"
            self.take(Step("forget", classes=labels), refused=error)
        elif kind == "merge" and self.notes.known:
            params = self.plan_params | {"whitening": 0.77}
            error = ValueError, "other must have"
            self.take(Step("merge", params=params, **batch), refused=error)
        elif kind == "look" and self.notes.known:
            broken = self.queries.copy()
            broken[-1, -1] = np.nan
            look = self.pick("predict", "predict_proba", "explain", "kproxies")
            self.take(Step(look, X=broken), refused=(ValueError, "NaN"))
            self.take(
                Step(look, X=self.queries[:, 1:]), refused=(ValueError, "feature")
            )

    # What must hold.

    def check_attributes(self):
        """Compare what the classifier says of itself with the notebook."""
        clf, notes = self.clf, self.notes
        if not notes.known:
            assert not clf.__sklearn_is_fitted__()
            with pytest.raises(NotFittedError):
                clf.predict(self.queries)
            return
        classes = clf.classes_
        assert classes.tolist() == notes.classes
        expected = np.unique(self._y(notes.classes))
        if self.label_kind != "object" and len(self.number_dtypes) == 1:
            assert classes.dtype == expected.dtype
        totals = dict.fromkeys(notes.classes, 0.0) | notes.rows_of_head
        rows = zip(notes.labels, notes.weights, notes.alive, strict=True)
        for label, weight, alive in rows:
            if alive:
                totals[label] += weight
        # Samples that are learnt again have the weights of proxies, in their precision.
        rounding = 1e-6 if notes.has_changed_norm else 1e-9
        np.testing.assert_allclose(
            clf.class_count_, [totals[label] for label in notes.classes], rounding
        )
        assert clf.n_samples_seen_ == len(notes.labels)
        indices, labels = clf.proxy_indices_.tolist(), clf.proxy_labels_.tolist()
        assert set(labels) == notes.known
        for i, label in zip(indices, labels, strict=True):
            if i < 0:
                assert label in notes.rows_of_head
            else:
                assert notes.labels[i] == label
                assert notes.alive[i]
                assert notes.weights[i] > 0
        assert np.isfinite(clf.proxies_).all()
        assert clf.proxies_.dtype == notes.dtype
        assert clf.proxies_.shape == (len(labels), self.d)

    def look(self):
        """Ask all there is to ask, of all queries at once and one by one."""
        if not self.notes.known:
            return
        clf, X, notes = self.clf, self.queries, self.notes
        classes = clf.classes_
        found = self.answers(X)
        scores, probabilities = found["decision_function"], found["predict_proba"]
        logarithms, why = found["predict_log_proba"], found["explain"]
        if len(classes) == 2:
            winners = (scores > 0).astype(int)
        else:
            winners = scores.argmax(axis=1)
        assert scores.dtype == probabilities.dtype == notes.dtype
        assert np.isfinite(scores).all()
        assert np.isfinite(probabilities).all()
        assert (probabilities >= 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(np.exp(logarithms), probabilities, 1e-4, 1e-6)
        np.testing.assert_array_equal(why.label, classes[winners])
        np.testing.assert_array_equal(probabilities.argmax(axis=1), winners)
        np.testing.assert_array_equal(logarithms.argmax(axis=1), winners)
        is_absent = np.array([label in notes.absent for label in classes.tolist()])
        assert (probabilities[:, is_absent] == 0).all()
        if len(classes) > 2:
            lowest = np.finfo(scores.dtype).min / 2**16
            assert ((scores == lowest).all(axis=0) == is_absent).all()
        familiarity = found["score_samples"]
        rejected = np.zeros(len(X), bool)
        if clf.rejection is not None:
            rejected = familiarity < clf.rejection_threshold_
        predicted = found["predict"]
        np.testing.assert_array_equal(predicted[~rejected], classes[winners[~rejected]])
        assert (predicted[rejected] == self.other_label).all()
        self.check_explanation(X, found)
        if self.chance(0.5):
            self.check_one_by_one(found)

    def answers(self, X):
        """Ask all that a classifier can say of queries."""
        clf = self.clf
        names = (
            "predict",
            "decision_function",
            "predict_proba",
            "predict_log_proba",
            "score_samples",
            "explain",
        )
        found = {name: getattr(clf, name)(X) for name in names}
        found["kproxies"] = clf.kproxies(X, n_neighbors=len(clf.proxies_))
        return found

    def check_explanation(self, X, found):
        """Compare explanations with what they explain."""
        clf, why = self.clf, found["explain"]
        labels, (similarities, order) = clf.proxy_labels_, found["kproxies"]
        np.testing.assert_array_equal(labels[why.proxy], why.label)
        np.testing.assert_array_equal(clf.proxy_indices_[why.proxy], why.training_row)
        np.testing.assert_array_equal(why.familiarity, found["score_samples"])
        assert (why.n_samples >= 0).all()  # of two equal proxies, one may have none
        assert (why.margin >= 0).all()
        if len(self.notes.known) > 1:
            assert (why.runner_up != why.label).all()
        assert (np.diff(similarities, axis=1) <= 0).all()
        assert (np.sort(order, axis=1) == np.arange(len(labels))).all()
        similarities = _in_order((similarities, order))
        expected = similarities.max(axis=1)
        size = np.abs(similarities).max()
        scorer = clf._fitted.scorer
        score = "auto" if clf.rejection is None else clf.rejection.score
        if score == "contrast":
            expected = self.contrast(similarities)
        elif score == "auto" and scorer.tells_by_means:
            head, rows = scorer.head, X.astype(self.notes.dtype)
            cosines = head.plan.query_norm(rows.copy()) @ head.mean_directions.T
            expected = scorer.scores(X, None).max(axis=1) + cosines.max(axis=1) / 2
            size = max(size, 1)
        size *= 50 * self.exactness()
        np.testing.assert_allclose(why.familiarity, expected, 0, size)

    def contrast(self, similarities):
        """The best class less a third of the second, each by its nearest proxies."""
        n_nearest = 2 if self.clf.generator_.selects else 1
        labels = self.clf.proxy_labels_
        by_class = [
            np.sort(similarities[:, labels == label])[:, -n_nearest:].mean(axis=1)
            for label in np.unique(labels)
        ]
        if len(by_class) == 1:
            return by_class[0]
        *_, second, first = np.sort(by_class, axis=0)
        return first - second / 3

    def exactness(self):
        """The precision of similarities; distances are roots of differences."""
        eps = np.finfo(self.notes.dtype).eps
        is_root = self.plan_params["metric"] in ("euclidean", "mahalanobis")
        return np.sqrt(eps) if is_root else eps

    def check_one_by_one(self, found):
        """Compare what is said of a query by itself with what is said of all.

        Products of matrices and of vectors round in different ways. So similarities may
        differ by what rounding of the query changes, and the scores by as much; labels
        where two scores or a threshold are that close.
        """
        clf, X = self.clf, self.queries
        all_scores, why = found["decision_function"], found["explain"]
        similarities = _in_order(found["kproxies"])
        noise = 4 * np.finfo(self.notes.dtype).eps * np.abs(X).max()
        blurred = X.astype(self.notes.dtype)
        blurred += noise * self.rng.choice([-1, 1], X.shape)
        blurred_similarities = _in_order(clf.kproxies(blurred, similarities.shape[1]))
        tolerance = self.tolerance(similarities, blurred_similarities)
        tolerance = np.maximum(
            tolerance, self.tolerance(all_scores, clf.decision_function(blurred))
        )
        tolerance = tolerance + self.lost_by_whitening(X) + self.lost_by_the_kernel()
        i = self.rng.integers(len(X))
        x, close = X[i : i + 1], 2 * tolerance[i]
        similar = _in_order(clf.kproxies(x, similarities.shape[1]))[0]
        np.testing.assert_allclose(similar, similarities[i], 0, close)
        familiarity = clf.score_samples(x)[0]
        assert abs(familiarity - found["score_samples"][i]) <= close
        of_votes = self.lost_by_votes(similarities[i], close)
        if of_votes is None:
            return
        is_close = False
        if clf.rejection is not None:
            is_close = abs(familiarity - clf.rejection_threshold_) <= close
        close += of_votes
        scores = clf.decision_function(x)[0]
        np.testing.assert_allclose(scores, all_scores[i], 0, close)
        label = clf.predict(x)[0]
        is_close |= why.margin[i] <= 2 * close
        assert label == found["predict"][i] or is_close
        probabilities = clf.predict_proba(x)[0]
        assert is_close or clf.classes_[probabilities.argmax()] == why.label[i]
        np.testing.assert_allclose(
            probabilities,
            found["predict_proba"][i],
            1e-5,
            4 * min(close / max(clf.temperature_, 1e-30), 1),
        )

    def tolerance(self, values, blurred):
        """Say how much of the values of each query is rounding: (n_queries,)."""
        # Those of absent classes are far below all others, and no scale.
        limit = np.finfo(values.dtype).max / 2**17  # of two classes, the difference
        values = np.where(np.abs(values) > limit, 0, values)
        blurred = np.where(np.abs(blurred) > limit, 0, blurred)
        changes = np.abs(blurred - values).reshape(len(values), -1)
        size = float(np.abs(values).max())
        changes = changes.max(axis=1).astype(np.float64)
        return 100 * changes + 50 * self.exactness() * size

    def lost_by_whitening(self, X):
        """Say how much of a similarity is rounding in differences from the origin.

        A query ``x`` of the space with the whitening ``W`` and the origin ``o`` may be
        close to it: of ``W (x - o)``, whose length is divided by, little is left then.
        """
        head = self.clf._fitted.scorer.head
        whitening, norm = head.whitening, head.plan.query_norm
        if whitening is None:
            return np.zeros(len(X))
        x = norm(X.astype(self.notes.dtype)).astype(np.float64)
        stretch = np.linalg.norm(whitening.apply(np.eye(len(whitening.origin))), ord=2)
        loss = np.linalg.norm(x, axis=1) + np.linalg.norm(whitening.origin)
        loss *= stretch * max(np.linalg.norm(head.proxies, axis=1).max(), 1)
        if norm.unit_length:
            left = np.linalg.norm(whitening(x), axis=1)
            loss = np.minimum(loss / np.maximum(left, 1e-100), 1e100)
        return 50 * self.exactness() * loss

    def lost_by_the_kernel(self):
        """Say how much of a score is rounding in a regression on copies of samples.

        Their weights in it are large and cancel each other.
        """
        kernel = self.clf._fitted.scorer.head.kernel
        if kernel is None:
            return 0
        eps = np.finfo(self.notes.dtype).eps
        return 10 * eps * np.abs(kernel.coefficients).sum(axis=1).max()

    def lost_by_votes(self, similarities, close):
        """Say how much of a share of votes is rounding; None if voters may change."""
        aggregation = self.plan_params["aggregation"]
        if aggregation != "mnn" and not isinstance(aggregation, Votes):
            return 0
        in_order = np.sort(similarities)
        if (np.diff(in_order) <= close).any():
            return None
        if aggregation == "mnn" or aggregation.weights == "uniform":
            return 0
        nearest = (self.plan_params["metric"] == "cosine") - in_order[-1]
        return None if nearest <= 100 * close else 4 * close / nearest

    def check_nothing_is_left_of(self, gone):
        """See that no label and no row of a forgotten class is in a pickle."""
        notes = self.notes
        blob = pickle.dumps(self.clf)
        if self.label_kind not in ("small", "bool") and not isinstance(
            self.plan_params["n_proxies"], dict
        ):  # there, and in a head, labels are parameters
            for label in set(gone) - set(notes.head_labels):
                for trace in _traces_of_label(label):
                    assert trace not in blob, label
        if self.d < 3 or self.shape_of_data not in ("clouds", "positive"):
            return  # rows of others may have the same direction
        left = [x.tobytes() for x, a in zip(notes.X, notes.alive, strict=True) if a]
        rows = zip(notes.X, notes.labels, strict=True)
        for x in [x for x, label in rows if label in gone and x.tobytes() not in left]:
            for trace in self._traces_of_row(x):
                assert trace not in blob, x

    def _traces_of_row(self, x):
        """Bytes that a row of a class might leave."""
        if not x[1:].any():
            return
        norm = self.plan_params["support_norm"]
        for dtype in (np.float32, np.float64):
            row = x.astype(dtype)[None]
            yield row.tobytes()
            norms = list(NORMS.values()) if norm == "auto" else [NORMS.get(norm, norm)]
            for normalize in filter(None, norms):
                normalized = normalize(row)
                yield normalized.tobytes()
                yield normalized.astype(np.float64).tobytes()

    def compare_with_replay(self):
        """Learn the same again, with the same bits as result.

        Without a look between, as far as each class is learnt by itself: sums over all
        classes are changed or made again, as it takes less work, and round otherwise.
        """
        clf = ImprintClassifier(**self.params)
        for step in self.steps:
            if self.needs_moments():
                clf = step(clf)
                assert not clf.__sklearn_is_fitted__() or len(clf.proxies_)
            elif step.name != "pickle":
                clf = step(clf)
        if not self.notes.known:
            return
        np.testing.assert_array_equal(clf.classes_, self.clf.classes_)
        # Which row is nearest to a mean is known of parts, so that parts matter.
        np.testing.assert_array_equal(self.clf.proxies_, clf.proxies_)
        if self.params["generator"] != "mean":
            np.testing.assert_array_equal(self.clf.proxy_indices_, clf.proxy_indices_)
        np.testing.assert_allclose(self.clf.class_count_, clf.class_count_, 1e-12)
        for look in ("decision_function", "predict_proba", "predict"):
            mine = getattr(self.clf, look)(self.queries)
            theirs = getattr(clf, look)(self.queries)
            is_temperate = look == "predict_proba" and self.clf.temperature == "auto"
            # Samples stand for weights, which are sums, and round as counts do.
            if is_temperate or (
                self.plan_params.get("kernel_weight") and look != "predict"
            ):
                rtol = 1e-9 if mine.dtype == np.float64 else 1e-6
                np.testing.assert_allclose(mine, theirs, rtol, rtol / 1000)
            else:
                np.testing.assert_array_equal(mine, theirs)

    def needs_moments(self):
        """Whether classes have means or a covariance in common."""
        params = self.params | (self.plan_params or {})
        return bool(
            self._combines(params)
            or params["whitening"] is not None
            or params["mean_weight"]
            or params["metric"] == "mahalanobis"
        )

    def compare_with_refit(self):
        """Fit what is left at once, where docs/guide/learning.md calls parts exact."""
        clf, notes, params = self.clf, self.notes, self.plan_params
        generator = params["generator"]
        is_exact = generator in ("mean", "all", "random") or (
            self._combines(params) and params["n_proxies"] == 1
        )
        if not notes.known or not is_exact or notes.head_labels:
            return
        X, labels, weights = notes.left()
        y, weights = self._y(labels), None if (weights == 1).all() else weights
        chosen = {"support_norm": clf.support_norm_}
        if params["whitening"] == "auto":  # by fewer samples than there are now
            chosen["whitening"] = getattr(clf, "whitening_", "auto")
        refit = ImprintClassifier(**params | chosen)
        refit.fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(clf.classes_, refit.classes_)
        np.testing.assert_allclose(clf.class_count_, refit.class_count_, 1e-6)
        np.testing.assert_array_equal(clf.proxy_labels_, refit.proxy_labels_)
        mine, expected = clf.proxies_, refit.proxies_
        if generator == "random" and notes.has_changed_norm:
            return  # lots are drawn by the values, to the bit
        if generator == "random" and notes.was_merged:  # in another order
            if not notes.has_one_seed or len(notes.dtypes) > 1:
                return  # lots are drawn by the seed and the values, to the bit
            mine, expected = (
                each[np.lexsort([*each.T, labels])]
                for each, labels in (
                    (mine, clf.proxy_labels_.astype(str)),
                    (expected, refit.proxy_labels_.astype(str)),
                )
            )
        if not self.needs_moments():
            if not (notes.was_merged or notes.has_changed_norm):
                np.testing.assert_array_equal(mine, expected)
                return
            rounding = 1e-4 if np.float64 not in notes.dtypes else 1e-9
            rounding = 1e-3 if len(notes.dtypes) > 1 else rounding
            np.testing.assert_allclose(mine, expected, rounding, rounding)
            return
        # Where no class varies in some direction, or nearly so, rounding decides all.
        is_regular = self.shape_of_data in ("clouds", "positive")
        is_regular &= self.constant is None and params["whitening"] != 0
        is_regular &= notes.dtypes == {np.dtype(np.float64)}
        if not is_regular or params["aggregation"] not in ("max", means_of_classes):
            return
        # What rounding of the samples changes tells what it may change here.
        blurred = X + 1e-15 * self.rng.choice([-1, 1], X.shape)
        other = clone(refit).fit(blurred, y, sample_weight=weights)
        found = [each.decision_function(self.queries) for each in (clf, refit, other)]
        tolerance = 10 * self.tolerance(*found[1:])
        difference = np.abs(found[0] - found[1]).reshape(len(tolerance), -1)
        assert (difference.max(axis=1) <= tolerance).all()


def _in_order(kproxies):
    """Similarities in the order of the proxies: (n_queries, n_proxies)."""
    similarities, indices = kproxies
    return np.take_along_axis(similarities, np.argsort(indices, axis=1), 1)


def _traces_of_label(label):
    """Bytes that a label might leave in a pickle, or in an array there."""
    if isinstance(label, str):
        return [label.encode(), label.encode("utf-32-le")]
    if isinstance(label, float):
        return [struct.pack(order + "d", label) for order in "<>"]
    n_bytes = 6 if label < 2**47 else 9
    return [label.to_bytes(n_bytes, "little", signed=True)[:8]]
