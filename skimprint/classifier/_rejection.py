"""Reject queries that belong to no known class."""

from numbers import Real
from typing import Any, ClassVar, Literal

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from .._scoring.familiarity import FAMILIARITIES


class Rejection(BaseEstimator):
    """Reject queries that are not familiar: `predict` returns a label of its own.

    A component of `skimprint.ImprintClassifier`, whose parameters a grid reaches
    (``rejection__rate``). Those that are set after `fit` act at once.

    Parameters
    ----------
    label : label
        What `predict` returns for queries that are rejected: text if the classes are
        text, else a number. It may be that of a class: then nothing tells apart what is
        rejected and what is of that class.
    threshold : float or "auto", default="auto"
        Queries whose `score_samples` are below it are rejected. ``"auto"`` rejects the
        share `rate` of the support samples, each of them scored by the proxies as they
        would be without it, and each class having the same say. For a class of one
        sample, those of other classes speak, each scored as if one other sample were
        all that is known of its class (with Mahalanobis distances, none speak for it).
    rate : float, default=0.05
        Share of the queries of known classes that ``threshold="auto"`` rejects, where
        classes have about as many queries each.
    score : {"auto", "similarity", "contrast"}, default="auto"
        What `score_samples` returns. ``"similarity"`` is the similarity to the nearest
        proxy. ``"contrast"`` is that to the best class less a third of that to the
        second best; with proxies that are samples, the two nearest of each class count.
        ``"auto"`` is, with a whitening, the largest class score plus half the cosine to
        the nearest class mean before the whitening. A whitening makes much of
        directions in which classes hardly vary: they tell classes apart, but what is
        like no class shows in all the others, too. It is ``"similarity"`` without a
        whitening, and where scores are no cosines.

    Examples
    --------
    >>> from skimprint import ImprintClassifier, Rejection
    >>> clf = ImprintClassifier("mean", rejection=Rejection("neither", threshold=0.5))
    >>> clf.fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    ImprintClassifier(...)
    >>> clf.predict([[0.0, 2.0], [-1.0, -1.0]])
    array(['up', 'neither'], dtype='<U7')
    """

    _parameter_constraints: ClassVar[dict] = {
        "label": "no_validation",  # it is compared with the classes
        "threshold": [
            Interval(Real, None, None, closed="neither"),
            StrOptions({"auto"}),
        ],
        "rate": [Interval(Real, 0, 1, closed="left")],
        "score": [StrOptions({"auto", *FAMILIARITIES})],
    }

    def __init__(
        self,
        label: Any,
        *,
        threshold: float | Literal["auto"] = "auto",
        rate: float = 0.05,
        score: Literal["auto", "similarity", "contrast"] = "auto",
    ):
        self.label = label
        self.threshold = threshold
        self.rate = rate
        self.score = score
