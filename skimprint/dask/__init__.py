"""Learn from and predict dask collections: larger than memory, on several machines.

A class is looked at alone, so rows are moved until each class is whole in one place and
learnt there by the code of one machine. What is learnt is joined to a plain classifier,
with the bits of one `ImprintClassifier.fit` where classes are independent, and up to
rounding what all of them share. Only counts of labels and what is known of classes
reach the client, never rows.

Functions use the `client` that is passed, or the one that has been started last, or
else dask's own threads.
"""

from ..embedding._extras import require

require("dask.array", __name__)  # says what to install

from ._fit import fit, partial_fit  # noqa: E402
from ._queries import (  # noqa: E402
    decision_function,
    embed,
    explain,
    predict,
    predict_proba,
    score_samples,
)

__all__ = [
    "decision_function",
    "embed",
    "explain",
    "fit",
    "partial_fit",
    "predict",
    "predict_proba",
    "score_samples",
]
