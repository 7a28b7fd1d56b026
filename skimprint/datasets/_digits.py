"""Load scikit-learn's digits as a foundation model sees them."""

from importlib import resources
from typing import Any, Literal, overload

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from ..embedding._extras import require

DATA_FILE = resources.files(__package__) / "data" / "digits_mobilenet_v1.npz"

# The model's activations are clipped at 6, and their averages crowd near zero.
_LARGEST = 6.0

_DESCRIPTION = """\
Embeddings of the digits of scikit-learn
----------------------------------------

:Samples: 1797 handwritten digits, about 180 per class
:Features: 1024, float32, from 0 to 6
:Classes: 10
:Model: MobileNet v1 (width 1.0, 224 px), pretrained on ImageNet

The 8x8 images of `sklearn.datasets.load_digits` were enlarged to 224x224 and embedded
by the pretrained network, without any training on digits: its features before the
last layer, averaged over positions. They are stored in one byte each, as square
roots; the cosine between a stored and an exact embedding is above 0.9999.

The digits are by E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository, 1998 (CC BY 4.0). The network is Google
Coral's `mobilenet_v1_1.0_224_quant_embedding_extractor` (Apache-2.0), dequantised.
"""


@overload
def load_digits_embeddings(
    *, return_X_y: Literal[False] = ..., as_frame: bool = ...
) -> Bunch: ...
@overload
def load_digits_embeddings(
    *, return_X_y: Literal[True], as_frame: bool = ...
) -> tuple[Any, Any]: ...
def load_digits_embeddings(*, return_X_y=False, as_frame=False):
    """Load scikit-learn's digits, embedded by a pretrained MobileNet v1.

    Real images through a real foundation model that has never seen digits, without
    a network connection.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether ``data`` is a pandas DataFrame and ``target`` a Series.

    Returns
    -------
    data : Bunch
        With the attributes

        - ``data`` : {ndarray, DataFrame} of shape (1797, 1024), float32
          The embeddings.
        - ``target`` : {ndarray, Series} of shape (1797,), int64
          The digits.
        - ``images`` : ndarray of shape (1797, 8, 8)
          The pictures themselves, with values from 0 to 16.
        - ``feature_names`` : list of str
        - ``target_names`` : ndarray of shape (10,)
        - ``frame`` : DataFrame of shape (1797, 1025) or None
          Data and target; only with ``as_frame=True``.
        - ``DESCR`` : str
          Where the data come from.
    (data, target) : tuple
        Only with ``return_X_y=True``.

    Raises
    ------
    ImportError
        If ``as_frame=True`` and pandas is not installed.

    See Also
    --------
    sklearn.datasets.load_digits : The images.

    Examples
    --------
    >>> from skimprint.datasets import load_digits_embeddings
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> X.shape, X.dtype
    ((1797, 1024), dtype('float32'))
    """
    with DATA_FILE.open("rb") as file, np.load(file) as stored:
        data = expand(stored["codes"])
        target = stored["target"].astype(np.int64)
    feature_names = [f"mobilenet_v1_{i}" for i in range(data.shape[1])]
    frame = None
    if as_frame:
        pd = require("pandas", "load_digits_embeddings(as_frame=True)", "pandas")
        frame = pd.DataFrame(data, columns=feature_names)
        data = frame.copy()
        frame["target"] = target
        target = frame["target"]
    if return_X_y:
        return data, target
    digits = load_digits()
    return Bunch(
        data=data,
        target=target,
        images=digits.images,
        feature_names=feature_names,
        target_names=digits.target_names,
        frame=frame,
        DESCR=_DESCRIPTION,
    )


def compress(embeddings):
    """Store a byte per value, as a square root: precision goes where values are."""
    return np.rint(np.sqrt(embeddings / _LARGEST) * 255).astype(np.uint8)


def expand(codes):
    """Restore what `compress` stored, as float32."""
    return np.square(codes.astype(np.float32) / 255) * np.float32(_LARGEST)
