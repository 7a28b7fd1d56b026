import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skimprint.datasets import load_digits_embeddings, load_intents
from skimprint.datasets._digits import DATA_FILE, compress, expand


def test_is_a_bunch_like_those_of_scikit_learn():
    bunch = load_digits_embeddings()
    digits = load_digits()
    assert bunch.data.shape == (1797, 1024)
    assert bunch.data.dtype == np.float32
    np.testing.assert_array_equal(bunch.target, digits.target)
    np.testing.assert_array_equal(bunch.images, digits.images)
    assert len(bunch.feature_names) == 1024
    assert bunch.frame is None
    assert "MobileNet" in bunch.DESCR


def test_as_frame():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    bunch = load_digits_embeddings(as_frame=True)
    assert bunch.frame.shape == (1797, 1025)
    X, y = load_digits_embeddings(return_X_y=True, as_frame=True)
    assert isinstance(X, pd.DataFrame)
    assert isinstance(y, pd.Series)
    assert X.shape == (1797, 1024)


@pytest.mark.parametrize("load", [load_digits_embeddings, load_intents])
def test_as_frame_without_pandas_says_what_to_install(monkeypatch, load):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'True.* needs .*pip install "pandas"'):
        load(as_frame=True)


def test_the_file_is_small_enough_to_ship():
    assert DATA_FILE.stat().st_size < 2 * 2**20


def test_one_byte_a_value_is_precise_enough():
    values = np.linspace(0, 6, 1000, dtype=np.float32)
    np.testing.assert_allclose(expand(compress(values)), values, atol=0.024)


def test_the_embeddings_are_worth_something():
    X, y = load_digits_embeddings(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X[:1000], y[:1000])
    assert model.score(X[1000:], y[1000:]) > 0.9
