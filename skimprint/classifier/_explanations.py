"""Say what the classes of queries come from, and what proxies stand for."""

from numbers import Integral

import numpy as np
from sklearn.utils import Bunch

from .._arrays.groups import GroupedRows
from .._memory.points import nearest_to
from ._calibration import familiarity_kind, temperature_of
from ._checks import finite, known_codes


def explanation_of(clf, X, *, n_reasons=0, y=None, with_probabilities=False):
    """Explain the class of each query.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.
    X, n_reasons, y
        As in `ImprintClassifier.explain`.
    with_probabilities : bool, default=False
        Whether to tell how probable each class is, for which a temperature is needed.

    Returns
    -------
    explanation : Bunch
        As `ImprintClassifier.explain` returns it, and the ``probability`` of the class
        if it is asked for.
    """
    if not (isinstance(n_reasons, Integral) and n_reasons >= 0):
        raise ValueError(f"n_reasons must be an int of at least 0; got {n_reasons!r}.")
    scorer, queries, refuse = clf._ready(X)
    head, kind = scorer.head, familiarity_kind(clf, scorer)
    codes = None if y is None else known_codes(head.classes, y, len(queries))
    temperature = temperature_of(clf, scorer) if with_probabilities else None
    found = scorer.explain(queries, kind, n_reasons, codes, temperature)
    finite(found["score"], queries, refuse)
    finite(found["familiarity"], queries, refuse)
    return Bunch(
        label=head.classes[found.pop("explained")],
        runner_up=head.classes[found.pop("runner_up")],
        training_row=head.indices[found["proxy"]],
        n_samples=head.counts[found["proxy"]],
        rest=found["score"] - found["shares"].sum(axis=1),
        **found,
    )


def proxies_of_samples(scorer, state, samples, y):
    """Find the proxy that stands for each sample: the nearest one of its class.

    Parameters
    ----------
    scorer : Scorer
        Has the head.
    state : State
        Has the proxies as they were before any whitening.
    samples : ndarray or DeviceArray of shape (n_samples, n_features)
        Validated samples.
    y : array-like of shape (n_samples,)
        Their labels.

    Returns
    -------
    proxies : ndarray of shape (n_samples,)
        Rows of the proxies of all classes.
    """
    head, proxies = scorer.head, state.column(lambda block: block.proxies)
    codes = known_codes(head.classes, y, len(samples))
    rows = GroupedRows(
        samples, codes, len(head.classes), transform=scorer.plan.support_norm
    )
    found = np.empty(len(samples), np.intp)
    for code, of_class in enumerate(proxies):
        found[rows.indices(code)] = head.offsets[code] + nearest_to(
            rows.rows(code), of_class.vectors
        )
    return found
