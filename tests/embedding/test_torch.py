"""Modules of torch: their devices and precision."""

import subprocess
import sys

import numpy as np
import pytest
from embedders import pictures, tiny_vision, to_tensor, vision

from skimprint import FoundationEmbedder


def test_facts_about_a_module():
    fitted = vision().fit(pictures())
    assert fitted.device_ == "cpu"
    assert (fitted.dtype_, fitted.pooling_) == ("float32", "auto")
    assert len(fitted.fingerprint_) == 64


@pytest.mark.skipif(sys.platform != "linux", reason="needs a safe fork")
def test_a_module_runs_after_a_fork():
    code = (
        "import os, signal, torch, warnings\n"
        "from skimprint import FoundationEmbedder\n"
        "warnings.simplefilter('ignore')  # there are threads\n"
        "torch.set_num_threads(2)\n"
        "module = torch.nn.Sequential(torch.nn.LayerNorm(224), torch.nn.Flatten())\n"
        "embedder = FoundationEmbedder(module)\n"
        "items = [torch.rand(3, 224, 224) for _ in range(8)]\n"
        "expected = embedder.transform(items)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(30)\n"
        "    same = (abs(embedder.transform(items) - expected) < 1e-4).all()\n"
        "    os._exit(0 if same else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert torch.get_num_threads() == 2\n"
    )
    pytest.importorskip("torch", reason="needs torch")
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_is_close_and_float32(dtype):
    torch = pytest.importorskip("torch", reason="needs torch")
    exact = vision().transform(pictures())
    for name in (dtype, getattr(torch, dtype)):
        rows = vision(dtype=name).transform(pictures())
        assert rows.dtype == np.float32
        assert not np.array_equal(rows, exact)
        np.testing.assert_allclose(rows, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_modules_of_any_precision_take_items_as_they_are(tmp_path, dtype):
    torch = pytest.importorskip("torch", reason="needs torch")
    module = tiny_vision().to(getattr(torch, dtype))
    exact, tensors = vision().transform(pictures()), [*map(to_tensor, pictures())]
    embedder = FoundationEmbedder(module, preprocess=to_tensor, cache_dir=tmp_path)
    doubles = [tensor.double() for tensor in tensors]
    for items in (pictures(), tensors, doubles, [tensor.half() for tensor in tensors]):
        rows = embedder.fit_transform(items)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, exact, rtol=0.1, atol=0.1)
    np.testing.assert_allclose(vision().transform(doubles), exact, rtol=1e-5)
    assert next(module.parameters()).dtype == getattr(torch, dtype)


def test_modules_of_several_precisions_see_to_themselves():
    torch = pytest.importorskip("torch", reason="needs torch")

    class Halves(torch.nn.Linear):
        def forward(self, x):
            assert x.dtype == torch.float32
            return self.last(super().forward(x).half())

    module = Halves(3, 3)
    module.last = torch.nn.Linear(3, 2).half()
    rows = FoundationEmbedder(module).transform(torch.eye(3))
    assert rows.shape == (3, 2)


def test_float32_is_float32_whatever_the_caller_runs_under():
    torch = pytest.importorskip("torch", reason="needs torch")
    expected = vision().transform(pictures())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = vision().transform(pictures())
    np.testing.assert_array_equal(rows, expected)


def test_device_that_is_not_there():
    torch = pytest.importorskip("torch", reason="needs torch")
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(ValueError, match="use device='cpu' or 'auto', or install"):
        vision(device="cuda").transform(pictures())
    with pytest.raises(ValueError, match="cannot be used here"):
        vision(device="mps").transform(pictures())
