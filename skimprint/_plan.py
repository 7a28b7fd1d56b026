"""What the parameters of a classifier mean together, resolved once."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array

from ._arrays.device import check_device, embedding_dtypes, to_host
from ._memory.state import Needs
from ._scoring.similarity import Similarity, make_metric
from ._space import kernel_ridge
from ._space.regularization import SAMPLE_SIZE
from ._validation import (
    check_lasting_labels,
    numbers_of,
    plain_labels,
    refuse_collections,
    seed_from,
    stacked,
    whole_labels,
)
from .aggregation import AGGREGATIONS, Aggregation, make_aggregation
from .generation import ProxyGenerator, make_generator
from .normalization import PROXY_NORMS, Norm, make_norm

# Bytes that the scatters of single classes may take, to forget classes by: those of
# 113 classes of 768 features in four bytes.
_SCATTER_BYTES = {False: 0, "auto": 2**27, True: 2**62}

# Parameters in which classifiers may differ that are merged.
MAY_DIFFER = ("device", "n_jobs", "random_state", "rejection", "temperature", "verbose")


@dataclass(frozen=True)
class Plan:
    """The parameters of a classifier, resolved, and what must be remembered for them.

    Parameters
    ----------
    generator : ProxyGenerator
        Makes the proxies.
    n_proxies : int or dict of {label: int}
        How many of each class.
    support_norm, proxy_norm, query_norm : Norm
        The three norms.
    support_norm_value : str, callable or None
        What a user would write for the first of them.
    chooses_norm : bool
        Whether it is chosen by the samples.
    norms_agree : bool
        Whether support samples, normalised, are what they would be as queries.
    aggregation : Aggregation
        From similarities to class scores.
    metric : type of Similarity
        Compares queries with proxies.
    whitening : float, "auto" or None
        Shrinkage of the covariance that whitens the space.
    mean_weight, kernel_weight : float
        Share of the class mean in proxies, and of the kernel regression in scores.
    seed : int
        Seed of the generator.
    needs : Needs
        What must be remembered of each class.
    parameters : dict
        The parameters as they were given.
    """

    generator: ProxyGenerator
    n_proxies: int | Mapping[Hashable, int]
    support_norm: Norm
    proxy_norm: Norm
    query_norm: Norm
    support_norm_value: Any
    chooses_norm: bool
    norms_agree: bool
    aggregation: Aggregation
    metric: type[Similarity]
    whitening: float | Literal["auto"] | None
    mean_weight: float
    kernel_weight: float
    seed: int
    needs: Needs
    parameters: dict[str, Any]

    @classmethod
    def of(cls, clf, is_nonnegative):
        """Resolve the parameters of a classifier.

        Parameters
        ----------
        clf : ImprintClassifier
            Has valid parameters.
        is_nonnegative : bool
            Whether no sample has a negative value. Norms are chosen by that which are
            ``"auto"``.

        Returns
        -------
        plan : Plan

        Raises
        ------
        ValueError
            If parameters do not go together.
        """
        # What was passed may be changed afterwards.
        names = ("support_norm", "query_norm", "proxy_norm", "metric", "aggregation")
        support_norm, query_norm, proxy_norm, metric, aggregation = (
            _copied(getattr(clf, name)) for name in names
        )
        support_norm = resolved_support_norm(support_norm, query_norm)
        chooses_norm = support_norm == "auto"
        if chooses_norm:
            support_norm = chosen_norm(is_nonnegative)
        if query_norm == "auto":
            query_norm = support_norm
        generator = make_generator(_copied(clf.generator))
        proxy_norm = make_norm(proxy_norm, "proxy_norm", PROXY_NORMS)
        metric, aggregation = make_metric(metric), make_aggregation(aggregation)
        aggregation.check(metric)
        check_device(clf.device)
        mean_weight = _mean_weight(clf.mean_weight, generator, proxy_norm)
        is_same_norm = same_value(query_norm, support_norm)
        query_norm = make_norm(query_norm, "query_norm")
        whitening = _whitening(
            clf.whitening, is_same_norm, generator, proxy_norm, query_norm, metric
        )
        n_proxies = clf.n_proxies
        if isinstance(n_proxies, Mapping):
            n_proxies = dict(n_proxies)
        # A subclass may have set some itself, so that its own ``__init__`` takes fewer.
        given = {name: getattr(clf, name) for name in clf._parameter_constraints}
        given |= clf.get_params() | {"n_proxies": n_proxies}
        plan = cls(
            generator=generator,
            n_proxies=generator.default_n_proxies if n_proxies is None else n_proxies,
            support_norm=make_norm(support_norm, "support_norm"),
            proxy_norm=proxy_norm,
            query_norm=query_norm,
            support_norm_value=support_norm,
            chooses_norm=chooses_norm,
            norms_agree=support_norm is None or is_same_norm,
            aggregation=aggregation,
            metric=metric,
            whitening=whitening,
            mean_weight=mean_weight,
            kernel_weight=clf.kernel_weight,
            seed=seed_from(clf.random_state),
            needs=generator.needs,
            parameters=given,
        )
        if clf.kernel_weight:
            plan.check_kernel()
        return plan.with_needs(plan._all_needs(clf))

    def _all_needs(self, clf):
        """Say what must be remembered for the generator, and for all else."""
        needs, needs_covariance = self.needs, self.metric.needs_covariance
        if self.mean_weight:  # chosen samples do not average to the class mean
            needs |= Needs(moments=1)
        if needs_covariance or self.whitening is not None:
            needs |= Needs(moments=2)
        if needs.moments == 2:
            # Ledoit and Wolf's shrinkage needs scatters of single classes.
            forgettable = True if needs_covariance else clf.forgettable
            needs |= Needs(scatter_bytes=_SCATTER_BYTES[forgettable])
        if self.chosen_by_samples(clf) is not None or self.whitening == "auto":
            needs |= Needs(samples=SAMPLE_SIZE)
        if self.kernel_weight:
            needs |= Needs(samples=kernel_ridge.SAMPLE_SIZE)
        return needs

    @property
    def compares_means(self):
        """Whether class means before a whitening tell how familiar queries are, too.

        Scores and their cosines are of the same kind then.
        """
        return (
            self.whitening is not None
            and self.metric.is_product
            and self.query_norm.unit_length
            and self.norms_agree
            and isinstance(self.aggregation, type(AGGREGATIONS["max"]))
        )

    @property
    def can_leave_out(self):
        """Whether samples can be scored as queries, by proxies made without them."""
        return self.norms_agree and not self.generator.combines

    def chosen_by_samples(self, clf):
        """Tell what a classifier chooses by samples that are left out.

        Parameters
        ----------
        clf : ImprintClassifier
            Has the parameters.

        Returns
        -------
        what : str or None
            The parameter, as a user writes it; None if there is none.

        Raises
        ------
        ValueError
            If a threshold is, and samples cannot be left out.
        """
        if clf.rejection is not None and clf.rejection.threshold == "auto":
            self.check_left_out()
            return "Rejection(threshold='auto')"
        if clf.temperature == "auto" and self.can_leave_out:
            return "temperature='auto'"
        return None

    def n_proxies_of(self, labels):
        """Look up the number of proxies of each class: ints of shape (n_classes,)."""
        return numbers_of(self.n_proxies, labels, "n_proxies")

    def with_needs(self, needs):
        """Make the same plan, with other needs."""
        return self if needs == self.needs else replace(self, needs=needs)

    def check_kernel(self):
        """Refuse parameters that a kernel regression does not go together with."""
        given = self.parameters
        if given["aggregation"] != "max" or not self.metric.is_product:
            raise ValueError(
                "kernel_weight needs similarities of the best proxies: aggregation="
                "'max' and metric='dot' or 'cosine'; got aggregation="
                f"{given['aggregation']!r} and metric={given['metric']!r}. Pass "
                "kernel_weight=0, or these."
            )
        if not (self.support_norm.unit_length and self.norms_agree):
            raise ValueError(
                "kernel_weight needs support embeddings and queries of unit length, "
                "normalised alike: support_norm='l2', 'power' or 'auto', and the same "
                "for query_norm, or 'auto'; got support_norm="
                f"{self.support_norm_value!r} and query_norm={given['query_norm']!r}. "
                "Pass kernel_weight=0, or these."
            )

    def check_left_out(self):
        """Refuse parameters that samples cannot be left out of."""
        if not self.norms_agree:
            raise ValueError(
                "Rejection(threshold='auto') takes support samples for queries, so "
                f"query_norm must be the support_norm, {self.support_norm_value!r}; "
                f"got {self.parameters['query_norm']!r}. Pass the same for both, or "
                "query_norm='auto'."
            )
        if self.generator.combines:
            raise ValueError(
                "Rejection(threshold='auto') needs proxies that can do without a "
                f"sample; those of {type(self.generator).__name__} depend on all "
                "samples of all classes. Pass a number, or another generator."
            )


def resolved_support_norm(support_norm, query_norm):
    """Find the norm of the support: for ``"auto"``, that of the queries if it is named.

    Queries of another norm would fall short of all that compares them with samples. Raw
    ones have the directions of those of unit length.

    Parameters
    ----------
    support_norm, query_norm : str, callable or None
        As users pass them.

    Returns
    -------
    support_norm : str, callable or None
        ``"auto"`` where the samples are to choose it.
    """
    if isinstance(support_norm, str) and support_norm == "auto":
        return query_norm if isinstance(query_norm, str) else "l2"
    return support_norm


def _mean_weight(value, generator, proxy_norm):
    """Find the share of the class mean in proxies that a parameter stands for."""
    are_points = proxy_norm.is_pointwise and not generator.combines
    if value == "auto":
        return 2 / 3 if are_points else 0.0
    if value and not are_points:
        raise ValueError(
            "mean_weight needs proxies that are points of the normalised space, unlike "
            "those of 'least_squares' or proxy_norm='quantile': pass mean_weight=0, or "
            "'auto'."
        )
    return value


def _whitening(value, is_same_norm, generator, proxy_norm, query_norm, metric):
    """Find the whitening that a parameter stands for: None where "auto" makes none."""
    if isinstance(value, bool | np.bool_):  # False would be a shrinkage of 0
        raise ValueError(
            "whitening must be a number, 'auto' or None, which does not whiten; got "
            f"{value}."
        )
    # Where queries get unit length again but proxies do not, which are many times as
    # long once whitened, the shortest would be nearest to all.
    shortest_wins = (
        query_norm.unit_length
        and not (proxy_norm.unit_length or proxy_norm.is_callable)
        and not (metric.is_product or metric.is_callable)
    )
    # Queries of another norm would be seen from an origin that is not theirs; and a
    # regression looks at the covariance itself, with an alpha that is made for the
    # space as it was.
    if value == "auto" and (not is_same_norm or generator.combines or shortest_wins):
        return None
    return value


def chosen_norm(is_nonnegative):
    """Choose the norm of samples of which no value is negative, or some are."""
    return "power" if is_nonnegative else "l2"


def checked_head(head):
    """Validate the weights and the labels of a linear classifier."""
    if len(head) != 2:
        raise ValueError(
            "head must be a tuple (weight, classes), with None for classes to be "
            f"numbered; got {len(head)} items."
        )
    weight, classes = head
    refuse_collections(weight, classes)
    weight = stacked(getattr(weight, "weight", weight))
    is_array = hasattr(weight, "__len__") or hasattr(weight, "shape")
    if isinstance(weight, str | bytes) or not is_array:
        raise TypeError(
            "head must be an array of shape (n_classes, n_features), or a module "
            f"that has it as its weight; got {type(weight).__name__}. Of a linear "
            "model of scikit-learn, pass coef_ and classes_; of a file, what it holds."
        )
    weight = to_host(weight)
    weight = check_array(weight, dtype=embedding_dtypes(weight), input_name="head")
    if classes is None and len(weight) == 1:  # 0 would get the weights of class 1
        raise ValueError(
            "head has one row and no labels. Of a linear model of two classes, pass "
            "np.concatenate([-coef_, coef_]); of a single class, pass its label."
        )
    classes = np.arange(len(weight)) if classes is None else to_host(classes)
    classes = np.asarray(whole_labels(classes))
    if classes.ndim:  # it is no set, say
        check_lasting_labels(classes, "classes")
        classes = plain_labels(classes)
    if classes.shape != (len(weight),) or len(np.unique(classes)) != len(weight):
        raise ValueError(
            f"head must have a different label for each of its {len(weight)} rows; "
            f"got labels of shape {classes.shape}, "
            f"{len(np.unique(classes))} of them different. (Of a linear model of two "
            "classes, pass np.concatenate([-coef_, coef_]).)"
        )
    return weight, classes


def first_difference(mine, theirs):
    """Say which parameter of two classifiers differs that must not; None for none."""
    # Without a number, a generator has its own, which is the same.
    first, second = (
        plan.parameters | {"n_proxies": plan.n_proxies} for plan in (mine, theirs)
    )
    for name in sorted(first.keys() | second.keys()):
        if name.split("__")[0] in MAY_DIFFER:
            continue
        pair = first.get(name), second.get(name)
        # As they were at the fit, parameters of components follow one by one.
        if type(pair[0]) is type(pair[1]) and hasattr(pair[0], "get_params"):
            continue
        is_same = same_value(*pair)
        if name == "head" and not is_same and None not in pair:
            # Of copies, modules are others.
            is_same = same_value(*map(checked_head, pair))
        if not is_same and name == "head":  # arrays would say too much
            return "head is another one. Start both from the same weights and labels."
        if not is_same:
            return f"{name} is {pair[1]!r} instead of {pair[0]!r}."
    return None


def same_value(first, second):
    """Tell whether two values of a parameter mean the same.

    Numbers and text do if they are equal, of whatever type: grids in arrays have those
    of NumPy. Components do if they are of one type and their parameters do, so that a
    clone is what it was made from.
    """
    first, second = (
        each.item() if isinstance(each, np.generic) else each
        for each in (first, second)
    )
    if {type(first), type(second)} == {int, float}:
        return first == second
    if type(first) is not type(second):
        return False
    if hasattr(first, "get_params") and not isinstance(first, type):
        first, second = first.get_params(deep=False), second.get_params(deep=False)
    if isinstance(first, partial):
        first, second = (
            (each.func, each.args, each.keywords) for each in (first, second)
        )
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            same_value(first[name], second[name]) for name in first
        )
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(same_value, first, second))
    return first is second or np.array_equal(first, second)


def _copied(value):
    """Copy a component with parameters, as scikit-learn does."""
    has_parameters = hasattr(value, "get_params") and not isinstance(value, type)
    return clone(value) if has_parameters else value
