"""Modules of torch say what the classifier says."""

import numpy as np
import pytest
from exported import classifier_of
from settings import plain_classifier

from skimprint import ImprintClassifier, export
from skimprint._scoring.similarity import METRICS
from skimprint.normalization import NORMS


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_modules_in_another_precision(data, dtype):
    torch = pytest.importorskip("torch", reason="needs torch")
    X, y, queries = data
    numbers = {label: 1 + label for label in range(10)}
    clf = plain_classifier("kmeans", numbers, random_state=0).fit(X, y)
    module = export.to_torch(clf).to(getattr(torch, dtype))
    scores = module(torch.from_numpy(queries))
    assert scores.dtype == getattr(torch, dtype)
    expected = clf.decision_function(queries)
    np.testing.assert_allclose(scores.double().numpy(), expected, atol=0.02)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("norm", [*NORMS, None])
@pytest.mark.parametrize("whitening", [None, "auto"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_finite(data, metric, norm, whitening, dtype):
    torch = pytest.importorskip("torch", reason="needs torch")
    clf, X = classifier_of(
        data, {"metric": metric, "norm": norm, "whitening": whitening, "n_proxies": 2}
    )
    X = np.abs(X[:4])  # of one sign, as square roots are for
    X[0] = 0
    X[1, ::2] = 0
    X[2] = clf.proxies_[0]  # with no distance from it, where there is no norm
    module = export.to_torch(clf).to(getattr(torch, dtype))
    queries = torch.from_numpy(X).to(getattr(torch, dtype)).requires_grad_()
    module(queries).sum().backward()
    assert torch.isfinite(queries.grad).all()
    assert queries.grad[1:].any()


def test_torch_programs_and_linear_heads(data):
    torch = pytest.importorskip("torch", reason="needs torch")
    clf, X = classifier_of(data, {"metric": "manhattan", "aggregation": "mnn"})
    module, X = export.to_torch(clf), torch.from_numpy(X)
    any_size = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (X,), dynamic_shapes=any_size)
    for n in (3, 50):
        torch.testing.assert_close(program.module()(X[:n]), module(X[:n]))
    assert module.labels == clf.classes_.tolist()
    assert module.temperature == clf.temperature_
    with pytest.raises(AttributeError, match="weight exists only where a score is a"):
        _ = module.weight

    clf, _ = classifier_of(data, {"generator": "mean", "labels": "text"})
    head = export.to_torch(clf)
    again = ImprintClassifier.from_head(head, head.labels, generator="mean")
    np.testing.assert_allclose(again.proxies_, clf.proxies_, atol=1e-6)
    np.testing.assert_array_equal(again.predict(X.numpy()), clf.predict(X.numpy()))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("whitening", [None, "auto"])
def test_queries_of_another_shape_are_refused(data, metric, whitening):
    """torch would stretch one column over all features, and score that."""
    torch = pytest.importorskip("torch", reason="needs torch")
    clf, X = classifier_of(data, {"metric": metric, "whitening": whitening})
    module, n_features = export.to_torch(clf), X.shape[1]
    assert module(torch.from_numpy(X[:0])).shape == (0, len(module.labels))
    for shape in [(2, 1), (2, n_features + 1), (n_features,), (2, 3, n_features), ()]:
        with pytest.raises(ValueError, match=rf"shape \(n, {n_features}\).*; got \("):
            module(torch.zeros(shape))
