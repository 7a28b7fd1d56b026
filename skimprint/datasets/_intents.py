"""Load what customers of a grocery delivery write, and what about."""

import csv
from importlib import resources
from typing import Any, Literal, get_args, overload

import numpy as np
from sklearn.utils import Bunch

from ..embedding._extras import require

_OUT_OF_SCOPE = "out_of_scope"
_Subset = Literal["in_scope", "out_of_scope", "all"]
_SUBSETS = get_args(_Subset)

_DESCRIPTION = """\
Customer intents of Larder, an imaginary grocery delivery.

480 sentences as customers would type them, 20 for each of 24 intents (to track an
order, to report a missing item, to pause the membership, ...), and 100 sentences that
have nothing to do with groceries, for testing whether a classifier notices. All were
written by hand for this package and are in English.
"""


@overload
def load_intents(
    *, subset: _Subset = ..., return_X_y: Literal[False] = ..., as_frame: bool = ...
) -> Bunch: ...
@overload
def load_intents(
    *, subset: _Subset = ..., return_X_y: Literal[True], as_frame: bool = ...
) -> tuple[Any, Any]: ...
def load_intents(*, subset="in_scope", return_X_y=False, as_frame=False):
    """Load sentences of customers of a grocery delivery, by intent.

    Parameters
    ----------
    subset : {"in_scope", "out_of_scope", "all"}, default="in_scope"
        The 480 sentences with one of 24 intents, the 100 sentences about other things,
        whose target is ``"out_of_scope"``, or both.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a `~sklearn.utils.Bunch`.
    as_frame : bool, default=False
        Return data and target as pandas Series.

    Returns
    -------
    data : Bunch
        With these attributes:

        data : ndarray of shape (n_sentences,) or Series
            The sentences, as strings, those of an intent one after another.
        target : ndarray of shape (n_sentences,) or Series
            The intents, as strings.
        target_names : list of str
            The intents that occur in ``target``.
        frame : DataFrame or None
            Columns ``text`` and ``intent``; `None` unless ``as_frame``.
        DESCR : str
            Description of the data set.
    (data, target) : tuple
        If ``return_X_y``.

    Raises
    ------
    ValueError
        If there is no such subset.
    ImportError
        If ``as_frame=True`` and pandas is not installed.

    See Also
    --------
    skimprint.FoundationEmbedder : Turns sentences into embeddings.

    Examples
    --------
    >>> from skimprint.datasets import load_intents
    >>> intents = load_intents()
    >>> len(intents.data), len(intents.target_names)
    (480, 24)
    >>> intents.data[0], intents.target[0]
    ('where is my shopping right now', 'track_order')
    """
    if subset not in _SUBSETS:
        raise ValueError(f"subset={subset!r} is not known: expected one of {_SUBSETS}.")
    texts, intents = _read()
    out_of_scope = intents == _OUT_OF_SCOPE
    keep = {
        "in_scope": ~out_of_scope,
        "out_of_scope": out_of_scope,
        "all": np.ones(len(intents), dtype=bool),
    }[subset]
    data, target = texts[keep], intents[keep]
    bunch = Bunch(
        data=data,
        target=target,
        target_names=np.unique(target).tolist(),
        frame=None,
        DESCR=_DESCRIPTION,
    )
    if as_frame:
        pd = require("pandas", "load_intents(as_frame=True)", "pandas")
        bunch.frame = pd.DataFrame({"text": data, "intent": target})
        bunch.data, bunch.target = bunch.frame["text"], bunch.frame["intent"]
    return (bunch.data, bunch.target) if return_X_y else bunch


def _read():
    file = resources.files(__package__) / "data" / "intents.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    texts = np.array([row["text"] for row in rows], dtype=object)
    return texts, np.array(
        [row["intent"] or _OUT_OF_SCOPE for row in rows], dtype=object
    )
