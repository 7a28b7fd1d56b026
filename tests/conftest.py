"""Real embeddings for the tests."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import sklearn
from array_api_compat import array_namespace
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_info

from skimprint.datasets import load_digits_embeddings

# Before any library reads it: no test may ask a network for a model.
os.environ["HF_HUB_OFFLINE"] = "1"

# Nor a screen for a figure.
os.environ["MPLBACKEND"] = "Agg"

# No example takes too long where others keep all cores busy.
with suppress(ImportError):  # tests of a browser do without hypothesis
    from hypothesis import settings

    settings.register_profile("any load", deadline=None)
    settings.load_profile("any load")

# Scripts for type checkers, not modules with doctests.
collect_ignore = ["typing"]

SHARED = Path(__file__).parents[2] / "shared"


def pytest_addoption(parser):
    parser.addoption(
        "--programs", type=int, default=500, help="number of random programs"
    )
    parser.addoption(
        "--first-program", type=int, default=0, help="seed of the first of them"
    )


def pytest_configure(config):
    """Overlook a flag that OpenBLAS raises for what happens to lie on its stack.

    Its kernel for AVX-512 (0.3.31) multiplies a float32 matrix of five columns and a
    vector in blocks of four rows. In a last block of two or three rows it computes with
    what lies where the others would be, and drops the result. If that is a signalling
    NaN, as one pointer in some hundred is, NumPy warns of an invalid value, though all
    that came in and went out is finite.
    """
    kernels = {library.get("architecture") for library in threadpool_info()}
    if kernels & {"SkylakeX", "Cooperlake", "Sapphirerapids"}:
        message = "ignore:invalid value encountered in matmul:RuntimeWarning"
        config.addinivalue_line("filterwarnings", message)


@pytest.fixture(autouse=True)
def no_figure_is_left():
    """Close what a test has drawn: of many open figures, matplotlib warns."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def digits():
    """Embeddings of 500 digits and their labels: (500, 1024) float32, (500,) int."""
    X, y = load_digits_embeddings(return_X_y=True)
    return X[:500], y[:500]


@pytest.fixture(scope="session")
def few(digits):
    """Some 60 digits: (60, 1024) float64 and their labels."""
    X, y = digits
    order = np.argsort(y[:150], kind="stable")[::2]
    return X[order].astype(np.float64), y[order]


@pytest.fixture(scope="session")
def reference():
    """Outputs of the paper's implementation, with the data they were computed from."""
    folder = SHARED / "data" / "reference"
    if not folder.is_dir():
        pytest.skip("needs the reference outputs in ../shared/data/reference")
    with np.load(folder / "usps_mobilenet_v1_data.npz") as file:
        data = dict(file)
    with np.load(folder / "usps_mobilenet_v1_reference.npz") as file:
        reference = dict(file)
    reference["configs"] = json.loads(str(reference["configs"]))
    return data | reference


def skip_without_needs(item):
    """Skip scikit-learn's tests of other arrays, where they don't do so themselves.

    SciPy may be too old for the dispatch; and they ask whether PyTorch was built for a
    GPU, not whether there is one.
    """
    try:
        return (yield)
    except ImportError as error:
        if "to dispatch array" not in str(error):
            raise
        pytest.skip(str(error))
    except RuntimeError as error:
        if "CUDA driver" not in str(error) and "NVIDIA driver" not in str(error):
            raise
        pytest.skip("needs a GPU")


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(skip_without_needs)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(skip_without_needs)


class Arrays:
    """A kind of array to pass in place of NumPy's.

    Parameters
    ----------
    name : str
        Of the namespace.
    device : str, default=None
        Where to put the arrays.
    """

    def __init__(self, name, device=None):
        self.xp = pytest.importorskip(name, reason=f"needs {name}")
        self.is_numpy = name == "numpy"
        if name == "array_api_strict":
            if device != "CPU_DEVICE" and np.lib.NumpyVersion(np.__version__) < "2.1.0":
                pytest.skip("needs NumPy 2.1 to copy from other devices")
            device = self.xp.Device(device)
        is_gpu = name == "cupy" or device == "cuda"
        if is_gpu and not self.xp.cuda.is_available():
            pytest.skip("needs a GPU")
        self.xp = array_namespace(self.xp.asarray(0))  # with CuPy's gaps filled
        self.device = device

    def __call__(self, array):
        """The array, of this kind."""
        if self.is_numpy:
            return np.asarray(array)
        return self.xp.asarray(array, device=self.device)

    def owns(self, array):
        """Whether an array is of this kind, and on this device."""
        if self.is_numpy:
            return isinstance(array, np.ndarray)
        if type(array) is not type(self.xp.asarray(0)):
            return False
        return self.device is None or array.device == self(0).device


@pytest.fixture(
    params=[
        "numpy",
        "array_api_strict:CPU_DEVICE",
        "array_api_strict:device1",
        "torch:cpu",
        "torch:cuda",
        "cupy",
    ]
)
def xp(request, monkeypatch):
    """Arrays of a namespace and a device, with scikit-learn's dispatch switched on."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    arrays = Arrays(*request.param.split(":"))
    with sklearn.config_context(array_api_dispatch=True):
        yield arrays


@pytest.fixture
def nothing_on_host(monkeypatch):
    """Take every array that is not NumPy's for one on another device."""
    monkeypatch.setattr("skimprint._arrays.device._is_on_host", lambda X: False)


@pytest.fixture(scope="session")
def split(digits):
    """Digits to fit to, others to ask for, and the labels of both."""
    X, y = digits
    return train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
