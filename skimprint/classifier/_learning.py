"""How an ImprintClassifier learns and forgets."""

import warnings
from types import MappingProxyType

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_array
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_X_y,
    validate_data,
)

from .._arrays.device import embedding_dtypes, readable, to_device, to_host
from .._arrays.groups import GroupedRows
from .._memory.learner import (
    NOTHING,
    SAMPLE_SIZE,
    Batch,
    Learner,
    Learnt,
    Memories,
    Pending,
    common_label_dtype,
    head_memory,
    merged,
)
from .._progress import fit_progress
from .._scoring.similarity import METRICS
from .._space import kernel_ridge as _kernel_ridge
from .._validation import DTYPES, check_labels, seed_from, shortened
from ..generation import make_generator

# Bytes of embeddings that may wait to be learnt.
_MAX_PENDING = 2**24


class LearningMixin:
    """Learning in parts, forgetting and merging: a part of `ImprintClassifier`.

    What is known is a `Learnt` in ``_learnt``; ``_made`` is the head that predictions
    were last made by, or `None`. Both are replaced in one step, never changed, so that
    an error or an interrupt leaves the classifier as it was.
    """

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Imprint new classes, and learn more of known ones.

        A new class gets the proxies that `fit` would give it. Of a known class, points
        that stand for its samples, weighted by them, join the new samples, and the
        generator is applied to both. Points are proxies, or a summary of up to 20
        samples or local means for each of them (30 for k-medoids). This gives what
        `fit` gives to all samples at once for the generators ``"mean"``,
        ``"least_squares"`` with one proxy, ``"all"`` and ``"random"``; with the others
        it is an approximation whose memory stays bounded.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            More support embeddings.
        y : array-like of shape (n_samples,)
            Their labels, known or new.
        classes : array-like of shape (n_classes,), default=None
            The labels to expect. New labels are welcome at any time, so this is never
            needed; if it is passed, other labels in ``y`` are an error.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights, as in `fit`.

        Returns
        -------
        self : ImprintClassifier
            The classifier. An error or an interrupt leaves it as it was.

        Raises
        ------
        ValueError
            If the embeddings, the labels or the weights are not valid.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> clf = ImprintClassifier("mean")
        >>> clf.partial_fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"]).classes_
        array(['right', 'up'], dtype='<U5')
        >>> clf.partial_fit([[-1.0, 0.0]], ["left"]).predict([[-3.0, 1.0]])
        array(['left'], dtype='<U5')
        """
        self._check_combinations()
        is_first = not hasattr(self, "_learnt")
        learnt = self._start() if is_first else self._learnt
        learnt = self._learn(learnt, X, y, sample_weight, classes)
        self._commit(learnt, features_of(X) if is_first else {})
        return self

    def forget(self, classes):
        """Forget classes, as if they had never been seen.

        Neither predictions nor pickles hold anything of them. Proxies of other classes
        stay as they are, to the bit, where the generator looks at each class alone;
        what classes have in common (least squares, covariances, whitening) is what it
        were without them, but for rounding.

        Parameters
        ----------
        classes : label or array-like of shape (n_classes,)
            The labels to forget.

        Returns
        -------
        self : ImprintClassifier
            The classifier. If it has no classes left, it can learn but not predict.

        Raises
        ------
        ValueError
            If a label is not known; nothing is forgotten then.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> X = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
        >>> clf = ImprintClassifier("mean").fit(X, ["up", "right", "both"])
        >>> clf.forget("both").classes_
        array(['right', 'up'], dtype='<U5')
        """
        self._check_is_fitted()
        classes = np.atleast_1d(np.asarray(to_host(classes)))
        labels = classes.tolist()
        learnt = self._learnt.settled()
        memory = learnt.memory
        unknown = [label for label in labels if label not in memory]
        if classes.dtype.kind == "b" != learnt.label_dtype.kind:
            unknown = labels  # a mask, whose True would be found as 1
        if unknown:
            raise ValueError(
                f"classes must be labels that the classifier knows; {unknown} are not "
                f"among {shortened(sorted(memory))}."
            )
        memory = memory.with_changes(dict.fromkeys(labels))
        self._commit(learnt._replace(memory=memory))
        return self

    def merge(self, other):
        """Take in what another classifier has learnt.

        For training in parts, on several machines say. Classes that only one of both
        knows are taken as they are. Of a class that both know, the proxies are
        generated again from what both remember of its samples;
        the result is that of one `fit` for the generators of which `partial_fit`
        says so.

        Parameters
        ----------
        other : ImprintClassifier
            Fitted with the same parameters; only ``random_state``, ``n_jobs`` and
            ``verbose`` may differ. It stays as it is.

        Returns
        -------
        self : ImprintClassifier
            The classifier. Training rows of ``other`` are numbered after its own.

        Raises
        ------
        ValueError
            If the classifiers have different parameters or features; the message
            names the first that differs.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> here = ImprintClassifier("mean").fit([[0.0, 1.0]], ["up"])
        >>> there = ImprintClassifier("mean").fit([[1.0, 0.0]], ["right"])
        >>> here.merge(there).classes_
        array(['right', 'up'], dtype='<U5')
        """
        self._check_is_fitted()
        _check_mergeable(self, other)
        mine, theirs = self._learnt.settled(), other._learnt.settled()
        learner = self._learner(mine.generator)
        self._commit(merged(learner, mine, theirs))
        return self

    @classmethod
    def from_head(cls, weight, classes=None, **params):
        """Start from the weights of a linear classifier, to add classes beside its own.

        The setting of Qi et al. [2]_: a network's last layer keeps its classes, and
        new ones are imprinted next to them with `partial_fit`.

        Parameters
        ----------
        weight : array-like of shape (n_classes, n_features) or module
            A row per class, or something that has them as its attribute ``weight``,
            such as a ``torch.nn.Linear``. A bias is left out: proxies have none.
        classes : array-like of shape (n_classes,), default=None
            The labels of the rows; by default their numbers.
        **params : dict
            Parameters of the classifier.

        Returns
        -------
        classifier : ImprintClassifier
            It knows the classes of the head and can predict them.

        Raises
        ------
        ValueError
            If the weights or the labels are not valid.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> weight = [[0.0, 1.0], [1.0, 0.0]]
        >>> clf = ImprintClassifier.from_head(weight, ["up", "right"], generator="mean")
        >>> clf.partial_fit([[-1.0, 0.1]], ["left"]).predict([[-2.0, 0.0], [0.0, 3.0]])
        array(['left', 'up'], dtype='<U5')
        """
        clf = cls(head=(weight, classes), **params)
        clf._check_params()
        learnt = clf._start()
        a_row = next(iter(learnt.memory.values())).vectors
        clf._adopt(learnt, features_of(a_row), clf._make_head(learnt))
        return clf

    def _check_is_fitted(self):
        """Refuse to go on without classes, and say why there are none."""
        msg = None
        if hasattr(self, "_learnt"):
            msg = "%(name)s has forgotten all classes: learn some with partial_fit."
        check_is_fitted(self, msg=msg)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_learnt") and bool(self._learnt.memory)

    def _learn(self, learnt, X, y, sample_weight, classes=None, *, callbacks=False):
        """What is known after more samples.

        Parameters
        ----------
        learnt : Learnt
            What is known before. It is not changed.
        X, y, sample_weight, classes
            As in `partial_fit`.
        callbacks : bool, default=False
            Whether scikit-learn's callbacks are told of the classes.

        Returns
        -------
        learnt : Learnt
            What is known after.
        """
        batch, labels, norm = self._checked(learnt, X, y, sample_weight, classes)
        learner = self._learner(make_generator(self.generator))
        if learnt.memory and not callbacks:
            self._n_proxies_of(labels)
            waiting = self._put_off(learnt, learner, batch, norm)
            if waiting is not None:
                return waiting
        report = fit_progress(
            self, len(labels), X=batch.X, y=batch.y, callbacks=callbacks
        )
        with report as progress:
            learner = learner._replace(progress=progress)
            transform = self._support_norm(norm)
            return learner.learn(learnt.settled(), batch, transform, norm)

    def _checked(self, learnt, X, y, sample_weight, classes=None):
        """Valid samples as a batch, their labels, and the norm that "auto" stands for.

        The parameters are those of `_learn`.
        """
        dtypes = embedding_dtypes(X)
        y, sample_weight = to_host(y), to_host(sample_weight)
        if learnt is not getattr(self, "_learnt", None):
            X, y = check_X_y(X, y, dtype=dtypes, estimator=self)
        elif not (_are_plain(X, y, learnt) and not hasattr(self, "feature_names_in_")):
            X, y = validate_data(self, X, y, dtype=dtypes, reset=False)
        X = to_device(readable(X), self.device)
        check_labels(y)
        classes_of_y, codes = np.unique(y, return_inverse=True)
        labels = classes_of_y.tolist()
        if classes is not None:
            _check_expected(labels, classes)
        sample_weight = _check_weights(sample_weight, codes, classes_of_y)
        norm = self._choose_norm(learnt, X)
        if learnt.memory:
            _check_width(X, learnt)
            common_label_dtype(learnt, labels, classes_of_y.dtype)
        return Batch(X, y, sample_weight), labels, norm

    def _put_off(self, learnt, learner, batch, norm):
        """What is known if a batch is to be learnt later; None if it must be now.

        That is for generators whose result is the same, to the bit, and no function
        of the user's may raise an error then. Other devices' memory is not filled.
        """
        if (
            not learner.generator.learns_in_order
            or callable(self.support_norm)
            or not isinstance(batch.X, np.ndarray)
        ):
            return None
        settings = (
            batch.kind,
            type(learner.generator),
            self.support_norm,
            norm,
            learner.with_moments,
            learner.sample_size,
        )
        pending = learnt.pending
        # They are None once they are learnt, which another thread may see to any time.
        batches = None if pending is None else pending.batches
        if batches is None or pending.settings != settings:
            learnt, batches = learnt.settled(), ()
        n_bytes = sum(each.X.nbytes for each in batches) + batch.X.nbytes
        if n_bytes > _MAX_PENDING:
            return None
        batches = (*batches, batch.copies())
        transform = self._support_norm(norm)
        pending = Pending(learner, settings, batches, transform, norm)
        return learnt._replace(pending=pending)

    def _learner(self, generator):
        """What turns samples into memories."""
        return Learner(
            generator,
            self._n_proxies_of,
            seed=seed_from(self.random_state),
            n_jobs=self.n_jobs,
            with_moments=self._uses_moments(generator),
            sample_size=self._sample_size(generator),
        )

    def _uses_moments(self, generator):
        """Whether moments of the classes are needed."""
        return (
            generator.uses_moments
            or METRICS[self.metric].needs_covariance
            or self.shrinkage is not None
            # Chosen samples do not average to the class mean.
            or self._mean_weight() > 0
        )

    def _sample_size(self, generator):
        """How many samples of each class are kept, at most."""
        if self.kernel_weight:
            return _kernel_ridge.SAMPLE_SIZE
        leaves_out = self._calibrates() or self.shrinkage == "auto"
        return SAMPLE_SIZE if generator.uses_sample or leaves_out else 0

    def _start(self):
        """What is known before any sample: nothing, or the classes of the head."""
        if self.head is None:
            return NOTHING
        if len(self.head) != 2:
            raise ValueError(
                "head must be a tuple (weight, classes), with None for classes to be "
                f"numbered; got {len(self.head)} items."
            )
        generator = make_generator(self.generator)
        if generator.uses_moments:
            raise ValueError(
                f"{type(generator).__name__} cannot start from a head: it needs the "
                "samples of all classes. Use another generator, such as 'mean'."
            )
        weight, classes = self.head
        weight = getattr(weight, "weight", weight)
        if not hasattr(weight, "__len__"):
            raise TypeError(
                "head must be an array of shape (n_classes, n_features), or a module "
                f"that has it as its weight; got {type(weight).__name__}. Of a linear "
                "model of scikit-learn, pass coef_ and classes_."
            )
        weight = check_array(to_host(weight), dtype=DTYPES, input_name="head")
        classes = np.arange(len(weight)) if classes is None else to_host(classes)
        classes = np.asarray(classes)
        if classes.shape != (len(weight),) or len(np.unique(classes)) != len(weight):
            raise ValueError(
                f"head must have a different label for each of its {len(weight)} rows; "
                f"got labels of shape {classes.shape}, "
                f"{len(np.unique(classes))} of them different."
            )
        norm = self._choose_norm(NOTHING, weight)
        rows = GroupedRows(
            weight,
            np.arange(len(weight)),
            len(weight),
            transform=self._support_norm(norm),
        )
        return Learnt(
            Memories(head_memory(classes.tolist(), rows.take(rows.order))),
            generator,
            classes.dtype,
            rows.dtype,
            weight.shape[1],
            norm=norm,
        )

    def _adopt(self, learnt, features, head):
        """Be fitted: know what was learnt, and predict by a head made of it."""
        if self.aggregation == "mnn" and self.n_neighbors > head.n_proxies:
            warnings.warn(
                f"n_neighbors={self.n_neighbors} is more than the {head.n_proxies} "
                "proxies there are: all of them vote.",
                UserWarning,
                stacklevel=3,
            )
        if self.outlier_threshold is not None:
            self._labels_of(head, np.empty(0, np.intp), np.empty(0, bool))
        if self._calibrates():
            self._calibrated(head)
        self._commit(learnt, features, head=head)

    def _commit(self, learnt, features=MappingProxyType({}), *, head=None):
        """Replace what is known, in one step that no interrupt can cut in two.

        Parameters
        ----------
        learnt : Learnt
            What is known from now on.
        features : dict, default={}
            Of `features_of`, if what is known is of other samples.
        head : Head, default=None
            Of ``learnt``, if it has been made.
        """
        made = head or getattr(self, "_made", None)
        state = {"_learnt": learnt, "_made": made}
        if features and "feature_names_in_" not in features:
            vars(self).pop("feature_names_in_", None)  # of an earlier fit
        vars(self).update(state | features)

    def __getstate__(self):
        # Of forgotten classes nothing may remain.
        if self.__sklearn_is_fitted__():
            self._head()
        elif hasattr(self, "_made"):
            self._made = None
        state = super().__getstate__().copy()
        if "_learnt" in state:
            state["_learnt"] = state["_learnt"].settled()
        return state


def features_of(X):
    """The attributes that say how many features samples have, and their names."""
    notebook = BaseEstimator()
    validate_data(notebook, X, skip_check_array=True)
    return vars(notebook)


def _are_plain(X, y, learnt):
    """Whether samples are arrays that validation would neither refuse nor change.

    Of a small part, validation takes longer than all the rest.
    """
    return (
        type(X) is type(y) is np.ndarray
        and X.ndim == 2
        and len(X) == len(y) > 0
        and y.ndim == 1
        and X.shape[1] == learnt.n_features
        and X.dtype in DTYPES
        and y.dtype.kind in "biuU"
        and bool(np.isfinite(X).all())
    )


def _check_weights(sample_weight, codes, classes):
    """Valid weights, some of them positive in each class, or None."""
    if sample_weight is None:
        return None
    sample_weight = _check_sample_weight(sample_weight, codes, ensure_non_negative=True)
    totals = np.bincount(codes, weights=sample_weight)
    if not totals.all():
        raise ValueError(
            "sample_weight must be positive for at least one sample of each class; "
            f"it is zero for all of {classes[totals == 0].tolist()}."
        )
    return sample_weight


def _check_expected(labels, classes):
    """Refuse labels that are not among the announced ones."""
    expected = set(np.asarray(to_host(classes)).ravel().tolist())
    unexpected = [label for label in labels if label not in expected]
    if unexpected:
        raise ValueError(
            f"y has labels that are not in classes: {shortened(unexpected)}. Add them "
            "there, or leave classes out: new labels are welcome at any time."
        )


def _check_width(X, learnt):
    """Refuse samples of another width than what is known."""
    if X.shape[1] != learnt.n_features:
        raise ValueError(
            f"X has {X.shape[1]} features, but the head has {learnt.n_features}."
        )


def _check_mergeable(first, second):
    """Refuse to merge what was learnt in different ways."""
    if not isinstance(second, LearningMixin):
        raise TypeError(
            f"other must be an ImprintClassifier; got {type(second).__name__}."
        )
    check_is_fitted(second)
    if first.n_features_in_ != second.n_features_in_:
        raise ValueError(
            f"other must have {first.n_features_in_} features; it has "
            f"{second.n_features_in_}."
        )
    mine, theirs = first.get_params(), second.get_params()
    for name in sorted(mine.keys() | theirs.keys()):
        if name in ("device", "n_jobs", "random_state", "verbose"):
            continue
        if not _same(mine.get(name), theirs.get(name)):
            raise ValueError(
                f"other must have the same parameters; {name} is {theirs.get(name)!r} "
                f"instead of {mine.get(name)!r}."
            )
    if first.support_norm_ != second.support_norm_:
        raise ValueError(
            f"other must have the same support_norm_; it is {second.support_norm_!r} "
            f"instead of {first.support_norm_!r}: pass one of them to both."
        )


def _same(first, second):
    """Whether two values of a parameter mean the same."""
    if type(first) is not type(second):
        return False
    if hasattr(first, "get_params"):
        return True  # their own parameters are compared one by one
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return first is second or bool(np.all(first == second))
