"""Real embeddings for the tests."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from skimprint.datasets import load_digits_embeddings

# Before any library reads it: no test may ask a network for a model.
os.environ["HF_HUB_OFFLINE"] = "1"

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def digits():
    """Embeddings of 500 digits and their labels: (500, 1024) float32, (500,) int."""
    X, y = load_digits_embeddings(return_X_y=True)
    return X[:500], y[:500]


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
