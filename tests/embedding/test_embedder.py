import copy
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import sklearn
from embedders import (
    SHARED,
    Lengths,
    embed_text,
    mean_colour,
    minilm,
    mobilenet,
    pictures,
    tiny_vision,
    to_tensor,
)
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import (
    check_estimator_cloneable,
    check_estimator_repr,
    check_estimator_tags_renamed,
    check_mixin_order,
    check_no_attributes_set_in_init,
    check_valid_tag_types,
)
from sklearn.utils.fixes import parse_version

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.embedding import _pipeline
from skimprint.embedding._items import ItemError
from skimprint.methods import RECOMMENDED
from skimprint.testing import check_embedder

TEXTS = [f"sentence number {number}" for number in range(12)]
EXPECTED = np.array([embed_text(text) for text in TEXTS])


def embedder(model=None, **parameters):
    """Make an embedder of texts that needs no library."""
    return FoundationEmbedder(model or Lengths(), modality="text", **parameters)


def vision(**parameters):
    """Make an embedder of images by a small module."""
    return FoundationEmbedder(tiny_vision(), preprocess=to_tensor, **parameters)


@pytest.mark.parametrize(
    "check",
    [
        check_estimator_cloneable,
        check_estimator_repr,
        check_estimator_tags_renamed,
        check_mixin_order,
        check_no_attributes_set_in_init,
        check_valid_tag_types,
    ],
)
def test_scikit_learn_checks(check):
    check("FoundationEmbedder", embedder())
    check("FoundationEmbedder", FoundationEmbedder())


def test_tags():
    tags = embedder().__sklearn_tags__()
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.requires_fit
    assert tags.no_validation


def test_transform_works_unfitted():
    np.testing.assert_array_equal(embedder().transform(TEXTS), EXPECTED)


def test_fit_notes_facts_and_embeds_one_item():
    model = Lengths()
    fitted = embedder(model).fit(TEXTS)
    assert model.seen == TEXTS[:1]
    assert fitted.n_features_out_ == 64
    assert fitted.modality_ == "text"
    assert fitted.fingerprint_ == embedder().fit(TEXTS).fingerprint_
    assert fitted.device_ is None


def test_facts_about_a_module():
    torch = pytest.importorskip("torch", reason="needs torch")
    fitted = vision().fit(pictures())
    assert fitted.device_ == torch.device("cpu")
    assert (fitted.dtype_, fitted.pooling_) == ("float32", "auto")
    assert len(fitted.fingerprint_) == 64


def test_fingerprint_tells_settings_apart():
    def fingerprint(**parameters):
        return vision(**parameters).fit(pictures()).fingerprint_

    same = {fingerprint(), fingerprint(batch_size=1), fingerprint(n_workers=1)}
    assert len(same) == 1
    other = {fingerprint(dtype="bfloat16"), fingerprint(dtype="float16")}
    assert len(same | other) == 3
    other_module = FoundationEmbedder(tiny_vision(seed=1), preprocess=to_tensor)
    assert other_module.fit(pictures()).fingerprint_ not in same


def test_fingerprint_is_unknown_before_fit_and_for_unnamed_callables():
    with pytest.raises(NotFittedError):
        _ = embedder().fingerprint_
    assert not hasattr(embedder(), "fingerprint_")
    unnamed = FoundationEmbedder(lambda items: [[1.0, 2.0]] * len(items))
    assert unnamed.fit(TEXTS).fingerprint_ is None


def test_fit_transform_embeds_once():
    model = Lengths()
    rows = embedder(model).fit_transform(TEXTS)
    np.testing.assert_array_equal(rows, EXPECTED)
    assert len(model.seen) == len(TEXTS)


def test_feature_names_and_set_output():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    pl = pytest.importorskip("polars", reason="needs polars")
    unfitted = embedder()
    with pytest.raises(NotFittedError):
        unfitted.get_feature_names_out()
    names = unfitted.fit(TEXTS).get_feature_names_out()
    assert names[0] == "foundationembedder0"
    assert len(names) == 64
    for container, frame in (("pandas", pd.DataFrame), ("polars", pl.DataFrame)):
        for output in (
            embedder().set_output(transform=container).transform(TEXTS),
            embedder().set_output(transform=container).fit_transform(TEXTS),
            clone(embedder().set_output(transform=container)).transform(TEXTS),
        ):
            assert isinstance(output, frame)
            assert list(output.columns) == list(names)
            np.testing.assert_array_equal(output.to_numpy(), EXPECTED)


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.7"),
    reason="scikit-learn 1.6 takes the index of data frames only",
)
def test_series_keep_their_index():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    texts = pd.Series(TEXTS, index=np.arange(len(TEXTS)) + 100)
    output = embedder().set_output(transform="pandas").transform(texts)
    assert list(output.index) == list(texts.index)


def test_clone_shares_the_model():
    module = tiny_vision()
    original = FoundationEmbedder(module, preprocess=to_tensor, model_kwargs={"a": [1]})
    cloned = clone(original)
    assert cloned.model is module
    assert cloned.preprocess is to_tensor
    assert cloned.model_kwargs == {"a": [1]}
    assert cloned.model_kwargs["a"] is not original.model_kwargs["a"]


class Counts(BaseEstimator):
    """A callable with a parameter: how many letters it counts."""

    def __init__(self, letters="ab"):
        self.letters = letters

    @property
    def fingerprint(self):
        return self.letters

    def __call__(self, texts):
        return [[text.count(letter) for letter in self.letters] for text in texts]


def test_a_search_in_the_parameters_of_a_model_leaves_others_alone(tmp_path):
    model = Counts()
    model.loaded = object()
    original = embedder(model, cache_dir=tmp_path)
    set_otherwise = clone(original).set_params(model__letters="abcd")
    assert original.model.letters == "ab"
    assert set_otherwise.model.loaded is model.loaded
    assert original.transform(["abc"]).shape == (1, 2)
    assert set_otherwise.transform(["abc"]).shape == (1, 4)
    texts = ["xa", "xb", "xab", "ya", "yb", "yab"]
    search = GridSearchCV(
        make_pipeline(original, ImprintClassifier("mean", whitening=None)),
        {"foundationembedder__model__letters": ["xy", "ab"]},
        cv=2,
    ).fit(texts, [0, 0, 0, 1, 1, 1])
    assert search.best_params_ == {"foundationembedder__model__letters": "xy"}
    assert search.best_estimator_[0].model.letters == "xy"
    assert original.model.letters == "ab"
    check_embedder(original, texts)


def test_html_repr():
    assert "FoundationEmbedder" in estimator_html_repr(embedder().fit(TEXTS))
    assert "FoundationEmbedder" in repr(vision().fit(pictures()))


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
    results = []

    def work():
        results.append(shared.transform(pictures()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for rows in results:
        np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)
    assert module.training


def test_pickle_of_a_named_model_holds_no_weights(tmp_path):
    named = FoundationEmbedder(minilm(), cache_dir=tmp_path).fit(TEXTS)
    rows = named.transform(TEXTS)
    pickled = pickle.dumps(named)
    assert len(pickled) < 2000
    np.testing.assert_array_equal(pickle.loads(pickled).transform(TEXTS), rows)


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


def test_pickle_of_a_module():
    torch = pytest.importorskip("torch", reason="needs torch")
    rows = vision().transform(pictures())
    copied = pickle.loads(pickle.dumps(vision().fit(pictures())))
    assert isinstance(copied.model, torch.nn.Module)
    np.testing.assert_array_equal(copied.transform(pictures()), rows)


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


@pytest.mark.parametrize(
    "dtype", ["float64", "longdouble", "object", "torch.float64", "list"]
)
@pytest.mark.parametrize("value", [1e39, -1e300])
def test_what_float32_cannot_hold_is_told_item_by_item(dtype, value):
    def large(texts):
        rows = [[value if text == "b" else 1.0] for text in texts]
        if dtype.startswith("torch"):
            torch = pytest.importorskip("torch", reason="needs torch")
            return torch.tensor(rows, dtype=torch.float64)
        return rows if dtype == "list" else np.array(rows, dtype=dtype)

    embedder = FoundationEmbedder(large, modality="text")
    with pytest.raises(ValueError, match=r"Item 1, 'b', .*more than float32 can hold"):
        embedder.transform(["a", "b", "c"])
    with pytest.warns(UserWarning, match=r"\[1\].*item 1, 'b': .*float32") as caught:
        rows = embedder.set_params(on_error="skip").transform(["a", "b", "c"])
    assert len(caught) == 1
    np.testing.assert_array_equal(rows, [[1], [np.nan], [1]])


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    "row", [[1j], np.complex64([1]), [np.complex128(1)], [10**400], "torch"]
)
def test_what_is_no_real_number_is_the_models_fault(row, on_error):
    def strange(texts):
        if not isinstance(row, str):
            return [row] * len(texts)
        torch = pytest.importorskip("torch", reason="needs torch")
        return torch.ones(len(texts), 1, dtype=torch.complex64)

    embedder = FoundationEmbedder(strange, modality="text", on_error=on_error)
    message = "strange must return .*(return real numbers|int too large)"
    with pytest.raises(TypeError, match=message):
        embedder.transform(["a", "b"])


def test_float32_is_float32_whatever_the_caller_runs_under():
    torch = pytest.importorskip("torch", reason="needs torch")
    expected = vision().transform(pictures())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = vision().transform(pictures())
    np.testing.assert_array_equal(rows, expected)


def test_output_torch():
    torch = pytest.importorskip("torch", reason="needs torch")
    expected = vision().transform(pictures())
    rows = vision(output="torch").transform(pictures())
    assert isinstance(rows, torch.Tensor)
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(rows.numpy(), expected)


def test_output_torch_does_not_pass_the_host(monkeypatch, nothing_on_host):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    items, labels = [*pictures(), *pictures()], torch.arange(10) % 5
    expected = ImprintClassifier("mean").fit(vision().transform(items), labels.numpy())
    expected = expected.decision_function(vision().transform(items))
    monkeypatch.setattr("skimprint.embedding._pipeline.to_host", None)
    with sklearn.config_context(array_api_dispatch=True):
        model = make_pipeline(vision(output="torch"), ImprintClassifier("mean"))
        scores = model.fit(items, labels).decision_function(items)
        assert torch.equal(model.predict(items), labels)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_output_torch_with_cache_duplicates_and_skipped_items(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    items = [*pictures(), None, *pictures()]
    embed = vision(output="torch", cache_dir=tmp_path, on_error="skip")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 of 11 items .*\[5\]"):
            rows = embed.transform(items)
        assert isinstance(rows, torch.Tensor)
        assert rows.isnan().all(1).nonzero().tolist() == [[5]]
        np.testing.assert_array_equal(rows[:5], vision().transform(pictures()))


def test_output_cupy_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r'pip install "skimprint\[cuda12'):
        vision(output="cupy").transform(pictures())


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"on_error": "ignore"}, "'on_error' parameter of .* Got 'ignore'"),
        ({"output": "jax"}, "'output' parameter of .* Got 'jax'"),
        ({"modality": "sound"}, "'modality' parameter of .* Got 'sound'"),
        ({"n_workers": -1}, "'n_workers' parameter of .* Got -1"),
        ({"batch_size": 0}, "'batch_size' parameter of .* Got 0"),
        ({"batch_size": 2.5}, "'batch_size' parameter of .* Got 2.5"),
        ({"batch_size": "big"}, "'batch_size' parameter of .* Got 'big'"),
        ({"dtype": "int8"}, "dtype='int8' is not supported"),
        ({"device": "abacus"}, "device='abacus' cannot be used here"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used here"),
    ],
)
def test_settings_that_are_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        vision(**parameters).transform(pictures())


def test_device_that_is_not_there():
    torch = pytest.importorskip("torch", reason="needs torch")
    if torch.cuda.is_available():
        pytest.skip("needs a machine without CUDA")
    with pytest.raises(ValueError, match="use device='cpu' or 'auto', or install"):
        vision(device="cuda").transform(pictures())
    with pytest.raises(ValueError, match="cannot be used here"):
        vision(device="mps").transform(pictures())


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


def test_skipped_items_are_listed_once_and_nothing_is_lost(tmp_path):
    items = [b"bad", *pictures(3), "no such file", b"bad", *pictures(1)]
    expected = FoundationEmbedder(mean_colour, modality="image").transform(pictures(3))
    for cache_dir in (None, tmp_path):
        skipping = FoundationEmbedder(
            mean_colour, modality="image", on_error="skip", cache_dir=cache_dir
        )
        with pytest.warns(UserWarning, match=r"3 of 7 items .*\[0, 4, 5\]") as caught:
            rows = skipping.transform(items)
        assert len(caught) == 1
        assert "no such file" in str(caught[0].message)
        np.testing.assert_array_equal(rows[[1, 2, 3, 6]], expected[[0, 1, 2, 0]])
        assert np.isnan(rows[[0, 4, 5]]).all()


def test_an_error_loses_nothing_that_was_embedded(tmp_path):
    raising = FoundationEmbedder(mean_colour, modality="image", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="Item 3"):
        raising.transform([*pictures(3), "no such file"])
    # The key of a file is its content, so that is found out before anything else.
    assert raising.cache_info().items == 0
    with pytest.raises(ValueError, match="Item 3"):
        raising.transform([*pictures(3), b"no image", *pictures(2, seed=1)])
    assert raising.cache_info().items == 5


@pytest.mark.parametrize(
    "modality, good, bad, message",
    [
        ("text", "a text", None, "expected a text"),
        ("image", None, "missing.png", "no such file"),
        ("image", None, Path(), "a directory"),
    ],
)
def test_what_can_be_told_without_a_cache_is_told_first(
    tmp_path, monkeypatch, modality, good, bad, message
):
    monkeypatch.setattr(_pipeline, "WINDOW", 4)
    if modality == "image":
        good = tmp_path / "good.png"
        pictures(1)[0].save(good)
    seen = []

    def model(items):
        seen.extend(items)
        return [[len(seen)] for _ in items]

    model.fingerprint = "seen"
    items = [good] * 9 + [bad]
    embedder = FoundationEmbedder(model, modality=modality)
    for some in (items, np.array(items, object)):
        with pytest.raises(ItemError, match=rf"Item 9, .*{message}"):
            embedder.transform(some)
    assert seen == []
    embedder.set_params(cache_dir=tmp_path / "cache")
    with pytest.raises(ItemError, match=rf"Item 9, .*{message}"):
        embedder.transform(items)
    assert len(seen) == 1  # which is kept


def test_all_items_are_bad():
    pytest.importorskip("PIL", reason="needs pillow")
    skipping = FoundationEmbedder(mean_colour, modality="image", on_error="skip")
    for method in (skipping.transform, skipping.fit, skipping.fit_transform):
        with (
            pytest.warns(UserWarning, match=r"2 of 2 .* item 1, bytes of length 5"),
            pytest.raises(ValueError, match="None of the items"),
        ):
            method([b"bad", b"worse"])


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("cached", [False, True])
def test_bad_items_alone_have_rows_of_nan_after_fit(output, cached, tmp_path):
    pytest.importorskip("PIL", reason="needs pillow")
    if output == "torch":
        pytest.importorskip("torch", reason="needs torch")
    skipping = FoundationEmbedder(
        mean_colour,
        modality="image",
        on_error="skip",
        output=output,
        cache_dir=tmp_path if cached else None,
    ).fit(pictures())
    with pytest.warns(UserWarning, match=r"2 of 2 .* item 1, bytes of length 5"):
        rows = np.asarray(skipping.transform([b"bad", b"worse"]))
    assert rows.shape == (2, 5)
    assert np.isnan(rows).all()
    assert rows.dtype == np.float32


def test_fit_looks_for_an_item_that_is_good():
    skipping = FoundationEmbedder(mean_colour, modality="image", on_error="skip")
    assert skipping.fit([b"bad", *pictures()]).n_features_out_ == 5


@pytest.mark.parametrize(
    "cached, n_embedded", [(False, 20_400), (True, 400)], ids=["no cache", "cache"]
)
def test_items_that_a_grid_search_embeds(cached, n_embedded, tmp_path):
    texts = [f"{'good' if number % 2 else 'bad'} {number}" for number in range(400)]
    y = np.arange(400) % 2
    model = Lengths()
    search = GridSearchCV(
        make_pipeline(
            embedder(model, cache_dir=tmp_path if cached else None),
            KNeighborsClassifier(),
        ),
        {"kneighborsclassifier__n_neighbors": list(range(1, 11))},
        cv=5,
    )
    search.fit(texts, y)
    assert len(model.seen) == n_embedded
    if cached:
        info = search.best_estimator_[0].cache_info()
        assert (info.items, info.misses) == (400, 400)
        assert info.hits + info.misses == 20_400


def hymenoptera(subset):
    """Paths and labels of the photographs of ants and bees."""
    folder = SHARED / "data" / "hymenoptera" / subset
    if not folder.is_dir():
        pytest.skip("needs the photographs in ../shared/data/hymenoptera")
    paths = sorted(folder.glob("*/*.jpg"))
    return paths, [path.parent.name for path in paths]


def test_ants_and_bees_from_paths_to_predictions(tmp_path):
    ImageOps = pytest.importorskip("PIL.ImageOps", reason="needs pillow")
    network = mobilenet()

    def preprocess(image):
        # As in most evaluations on ImageNet: the middle, without distortion.
        image = ImageOps.fit(image, (256, 256), method=2).crop((16, 16, 240, 240))
        return network.preprocess(image)

    model = make_pipeline(
        FoundationEmbedder(network.load(), preprocess=preprocess, cache_dir=tmp_path),
        ImprintClassifier(random_state=0),
    )
    model.fit(*hymenoptera("train"))
    paths, labels = hymenoptera("val")
    paths = [str(path) for path in paths]
    # One seed of k-means: sixty give from 0.89 to 0.93, and 0.917 on average.
    assert model.score(paths, labels) >= 0.92
    for seed in range(3):
        best = ImprintClassifier(**RECOMMENDED, random_state=seed)
        best = make_pipeline(model[0], best).fit(*hymenoptera("train"))
        assert best.score(paths, labels) >= 0.92
    again = clone(model).fit(*hymenoptera("train"))
    assert model[0].cache_info().misses == 245 + 153
    assert again[0].cache_info().hits >= 245


def banking(subset):
    """Texts and intents of Banking77."""
    pd = pytest.importorskip("pandas", reason="needs pandas")
    file = SHARED / "data" / "banking77" / f"{subset}.csv"
    if not file.is_file():
        pytest.skip("needs the texts in ../shared/data/banking77")
    frame = pd.read_csv(file)
    return frame["text"].to_numpy(dtype=object), frame["category"].to_numpy()


def some_of_each(labels, count):
    """Indices of some random samples of each class."""
    rng = np.random.default_rng(0)
    indices = [
        rng.choice(np.flatnonzero(labels == label), count, replace=False)
        for label in np.unique(labels)
    ]
    return np.concatenate(indices)


def test_banking_intents_at_ten_shots():
    texts, intents = banking("train")
    shots = some_of_each(intents, 10)
    model = make_pipeline(
        FoundationEmbedder(minilm()), ImprintClassifier(random_state=0)
    )
    model.fit(texts[shots], intents[shots])
    texts, intents = banking("test")
    queries = some_of_each(intents, 8)
    assert model.score(texts[queries], intents[queries]) >= 0.75


@pytest.mark.slow
def test_banking_intents_with_all_training_texts(tmp_path):
    """Embeds 13,083 texts, which takes minutes: see ``make test-slow``."""
    embed = FoundationEmbedder(minilm(), cache_dir=tmp_path)
    texts, intents = banking("train")
    queries, expected = banking("test")
    X, queries = embed.transform(texts), embed.transform(queries)
    assert np.isfinite(X).all()
    assert embed.cache_info().items == len({*texts, *banking("test")[0]})
    shots = some_of_each(intents, 10)
    all_texts, ten_shots = {}, {}
    for k in (1, 5, 10):
        classifier = ImprintClassifier(n_proxies=k, random_state=0)
        all_texts[k] = classifier.fit(X, intents).score(queries, expected)
        classifier.fit(X[shots], intents[shots])
        ten_shots[k] = classifier.score(queries, expected)
    print("all training texts:", all_texts, "10 shots:", ten_shots)  # noqa: T201
    assert max(all_texts.values()) >= 0.90
    assert max(ten_shots.values()) >= 0.75


def test_clone_keeps_callbacks():
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    original = embedder()
    original._skl_callbacks = [object()]
    assert clone(original)._skl_callbacks is original._skl_callbacks


def test_a_class_of_modules_is_no_module():
    torch = pytest.importorskip("torch", reason="needs torch")
    embedder = FoundationEmbedder(torch.nn.Flatten)
    with pytest.raises(TypeError, match=r"class Flatten\. Write model=Flatten\("):
        embedder.transform(np.ones((2, 3)))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_no_item_is_blamed_for_a_setting(on_error):
    torch = pytest.importorskip("torch", reason="needs torch")
    embedder = FoundationEmbedder(
        torch.nn.Identity(), pooling="cls", on_error=on_error, modality="image"
    )
    with pytest.raises(ValueError, match=r"^pooling='cls' does not fit what the model"):
        embedder.transform(torch.ones(3, 4))
