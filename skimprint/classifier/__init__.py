"""The estimators: parameters, learning and predictions.

From `fit` to ``proxies_``:

1. `checked_batch` validates ``X`` and ``y``: a `Batch`.
2. `plan_and_state` resolves the parameters, a `Plan`, and starts from nothing or from a
   head.
3. `learn` groups the samples by class. The generator's `learn_each` makes proxies and
   what it has to remember, an `Imprint`; `blocks_of` adds moments and samples as far as
   the plan needs them: the blocks of a `State`.
4. `Fitted` holds plan and state. Its `scorer` is made when something asks for it: the
   `Space` finds means and the whitening, and `make_proxies` of the `Head` whitens,
   normalises and blends what was generated.

From `predict` to a label:

1. `_ready` takes the `Scorer`, and `checked_queries` validates the queries.
2. `winners` of the scorer takes them block by block: a `Similarity` normalises and
   whitens them (`prepare`) and compares them with the proxies (`raw`), and an
   `Aggregation` finds the class. With a kernel regression, `with_kernel` lets both have
   their share.
3. With a `Rejection`, their `familiarities` are compared with the threshold that
   `threshold_of` finds, and `rejected_labels` has the last word.
"""

from ._adapted_classifier import AdaptedClassifier
from ._classifier import ImprintClassifier
from ._classifier_cv import ImprintClassifierCV
from ._rejection import Rejection

__all__ = ["AdaptedClassifier", "ImprintClassifier", "ImprintClassifierCV", "Rejection"]

for _cls in (AdaptedClassifier, ImprintClassifier, ImprintClassifierCV, Rejection):
    _cls.__module__ = "skimprint"  # files name it, wherever its code stands
