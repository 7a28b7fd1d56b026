"""Modules are given back as they were."""

import copy

import numpy as np
import pytest
from embedders import in_threads, pictures, tiny_vision, to_tensor, vision

from skimprint import FoundationEmbedder


@pytest.mark.parametrize("training", [True, False])
def test_module_is_given_back_unchanged(training):
    torch = pytest.importorskip("torch", reason="needs torch")
    module = tiny_vision().train(training)
    before = copy.deepcopy(module.state_dict())
    flags = [parameter.requires_grad for parameter in module.parameters()]
    FoundationEmbedder(module, preprocess=to_tensor).transform(pictures())
    assert all(part.training == training for part in module.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert [parameter.requires_grad for parameter in module.parameters()] == flags
    module(torch.rand(2, 3, 32, 32)).sum().backward()  # can still be trained


def test_module_is_given_back_after_an_error():
    module = tiny_vision().train()
    embed = FoundationEmbedder(module, preprocess=to_tensor, batch_size=2)
    with pytest.raises(ValueError, match="Item 2") as caught:
        embed.transform([*pictures(2), b"no image", *pictures(2)])
    assert module.training, caught  # though the traceback is still held


def test_module_is_evaluated_not_trained():
    rows = vision().transform(pictures())
    evaluated = FoundationEmbedder(tiny_vision().eval(), preprocess=to_tensor)
    np.testing.assert_array_equal(rows, evaluated.transform(pictures()))


def test_threads_may_share_a_module_in_training_mode():
    module = tiny_vision().train()
    shared = FoundationEmbedder(module, preprocess=to_tensor, batch_size=2)
    expected = shared.transform(pictures())
    results = in_threads(lambda: shared.transform(pictures()))
    assert len(results) == 4
    for rows in results:
        np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)
    assert module.training


def test_module_is_copied_to_a_gpu_not_moved():
    torch = pytest.importorskip("torch", reason="needs torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    module = tiny_vision()
    on_gpu = FoundationEmbedder(module, preprocess=to_tensor, device="cuda")
    rows = on_gpu.set_params(output="torch").transform(pictures())
    assert rows.is_cuda
    assert not next(module.parameters()).is_cuda
    np.testing.assert_allclose(rows.cpu(), vision().transform(pictures()), rtol=1e-3)
