"""
Deploy: a folder without pickle, and one file for any language
==============================================================

What was learnt in a notebook should run in a service. A folder of JSON and safetensors
goes on learning elsewhere; a file of ONNX predicts in any language, without Python.
"""

import tempfile
from pathlib import Path
from time import perf_counter

import joblib
import matplotlib.pyplot as plt
import numpy as np
import onnx
import onnxruntime

from skimprint import ImprintClassifier, export, persistence
from skimprint.datasets import load_digits_embeddings

X, y = load_digits_embeddings(return_X_y=True)
X, queries, y = X[:1000], X[1000:], y[:1000]
clf = ImprintClassifier.from_method(
    "westerhoff", n_proxies=5, temperature="auto", random_state=0
).fit(X, y)

# %%
# Four forms
# ----------

folder = Path(tempfile.mkdtemp())
persistence.save(clf, folder / "all")
persistence.save(clf, folder / "predicts only", learning=False)
joblib.dump(clf, folder / "pickle")
onnx.save(export.to_onnx(clf), folder / "ONNX")

# %%
# They agree
# ----------

again = persistence.load(folder / "all")
print(
    "folder, same bits:",
    np.array_equal(again.predict_proba(queries), clf.predict_proba(queries)),
)
session = onnxruntime.InferenceSession(
    folder / "ONNX", providers=["CPUExecutionProvider"]
)
label, probabilities = session.run(["label", "probabilities"], {"X": queries})
print("ONNX, same labels:", (label == clf.predict(queries)).all())
difference = np.abs(probabilities - clf.predict_proba(queries)).max()
print(f"ONNX, largest difference of a probability: {difference:.0e}")

# %%
# The folder goes on learning; the file does not.

print(again.forget(9).classes_)

# %%
# How large, how fast
# -------------------
#
# Measured on whatever machine built this page: the order says more than the numbers.
# See :doc:`/benchmarks/deploy` for careful ones.


def size(path):
    """Add up the bytes of a file or a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def microseconds(predict):
    """Time one query, as the median of many."""
    times = []
    for row in range(300):
        start = perf_counter()
        predict(queries[row : row + 1])
        times.append(1e6 * (perf_counter() - start))
    return np.median(times)


forms = ["all", "predicts only", "pickle", "ONNX"]
times = {
    "skimprint": microseconds(clf.predict),
    "ONNX Runtime": microseconds(lambda X: session.run(["label"], {"X": X})),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3))
left.barh(forms, [size(folder / form) / 1e6 for form in forms])
left.set(xlabel="megabytes", title="size")
left.invert_yaxis()
right.barh(list(times), list(times.values()), color="tab:orange")
right.set(xlabel="microseconds", title="one query")
right.invert_yaxis()
figure.tight_layout()
