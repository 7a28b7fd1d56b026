import numpy as np
import pytest
from embedders import Lengths, embed_text, minilm, tiny_vision

from skimprint import FoundationEmbedder, _progress
from skimprint._arrays.device import is_out_of_memory
from skimprint.embedding._backbone import Backbone
from skimprint.embedding._batching import embed_batches, initial_batch_size

TEXTS = ["x" * n for n in (3, 50, 7, 12, 49, 1, 30, 8, 22, 15)]


class Small(Lengths):
    """Runs out of memory with batches of more than `room` texts."""

    def __init__(self, room, error=MemoryError):
        super().__init__()
        self.room = room
        self.error = error
        self.sizes = []

    def __call__(self, texts):
        self.sizes.append(len(texts))
        if len(texts) > self.room:
            raise self.error("DefaultCPUAllocator: can't allocate memory")
        return super().__call__(texts)


def embed(model, **parameters):
    return FoundationEmbedder(model, modality="text", **parameters)


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_out_of_memory_halves_and_remembers(error, n_workers):
    model = Small(3, error)
    embedder = embed(model, batch_size=8, n_workers=n_workers)
    rows = embedder.transform(TEXTS)
    np.testing.assert_array_equal(rows, [embed_text(text) for text in TEXTS])
    assert model.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert len(model.seen) == len(TEXTS)
    model.sizes.clear()
    embedder.transform(TEXTS)
    assert model.sizes == [2] * 5


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("n_bad", [0, 1])
def test_inputs_without_a_row_for_each_item_are_not_taken_apart(n_workers, n_bad):
    def collate(texts):
        letters = [[ord(letter) for letter in text] for text in texts]
        if any(not each for each in letters):
            raise ValueError("an empty text")
        return {"letters": np.concatenate(letters), "sizes": [*map(len, letters)]}

    def forward(model, inputs):
        ends = np.cumsum(inputs["sizes"])
        return [[part.sum()] for part in np.split(inputs["letters"], ends[:-1])]

    backbone = Backbone(model=len, modality="text", forward=forward, collate=collate)
    for texts in (["abc"], ["a", "b"], ["abc", "d", "ef"]):
        items = [*texts, *[""] * n_bad]
        for batch_size in (1, 2, 9):
            found, failures = {}, {}
            for indices, rows, failed in embed_batches(
                backbone,
                backbone.source(items),
                [*range(len(items))],
                batch_size=batch_size,
                n_workers=n_workers,
            ):
                found |= dict(zip(indices, [] if rows is None else rows, strict=True))
                failures |= failed
            assert [*failures] == [*range(len(texts), len(items))]
            assert [found[i] for i in range(len(texts))] == [
                [sum(map(ord, text))] for text in texts
            ]


def test_memory_may_run_out_at_any_batch():
    model = Small(4)
    embedder = embed(model, batch_size=4)
    embedder.transform(TEXTS)
    model.room = 1
    model.sizes.clear()
    embedder.transform(TEXTS)
    assert model.sizes == [4, 2, *[1] * 10]


def test_a_model_that_cannot_be_remembered_is_halved_too():
    class Unhashable(Small):
        __hash__ = None

        def __eq__(self, other):
            return self is other

    model = Unhashable(3)
    embed(model, batch_size=8).transform(TEXTS)
    assert model.sizes == [8, 4, 2, 2, 2, 2, 2]


def test_a_single_item_that_does_not_fit():
    with pytest.raises(MemoryError, match="runs out of memory with a single item"):
        embed(Small(0)).transform(TEXTS)


def test_a_model_that_fails_for_all_items_says_so():
    model = Lengths()

    def broken(texts):
        model(texts)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(ValueError, match=r"Item 1, .*RuntimeError: mat1 and mat2"):
        embed(broken).transform(TEXTS)
    assert len(model.seen) == len(TEXTS) + 1  # together, then the first one by itself


class Picky(Lengths):
    """Fails for a whole batch if one text in it is bad."""

    def __call__(self, texts):
        if any("bad" in text for text in texts):
            raise TypeError
        return super().__call__(texts)


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_the_item_is_blamed_not_the_batch(n_workers, cached, tmp_path):
    texts = [*TEXTS, "bad", *TEXTS, "bad too", "bad"]
    picky = embed(Picky(), n_workers=n_workers, cache_dir=tmp_path if cached else None)
    with pytest.raises(
        ValueError, match=r"Item 21, 'bad too', .*the model failed with T"
    ):
        picky.transform(texts)
    picky.set_params(on_error="skip")
    with pytest.warns(UserWarning, match=r"3 of 23 items .*\[10, 21, 22\]"):
        rows = picky.transform(texts)
    good = [row for row in range(23) if row not in (10, 21, 22)]
    np.testing.assert_array_equal(rows[good], [embed_text(texts[row]) for row in good])
    assert np.isnan(rows[[10, 21, 22]]).all()


@pytest.mark.parametrize("bad", [(3, 9, 8), (8, 8, 3), (1, 3, 8, 8)])
def test_one_tensor_of_another_shape(bad):
    torch = pytest.importorskip("torch", reason="needs torch")
    X = [torch.rand(3, 8, 8) for _ in range(5)]
    expected = FoundationEmbedder(tiny_vision()).transform(X)
    X.insert(2, torch.rand(bad))
    embedder = FoundationEmbedder(tiny_vision(), on_error="skip")
    if bad == (3, 9, 8):
        rows = embedder.transform(X)  # a shape that the model takes
    else:
        with pytest.warns(UserWarning, match=r"1 of 6 items .*\[2\].*RuntimeError"):
            rows = embedder.transform(X)
    np.testing.assert_allclose(np.delete(rows, 2, 0), expected, rtol=1e-5, atol=1e-6)


def test_a_text_that_a_tokenizer_refuses():
    embedder = FoundationEmbedder(minilm())
    with pytest.raises(ValueError, match=r"Item 1, '.ud800', .*half of a character"):
        embedder.transform(["good", "\ud800"])
    with pytest.warns(UserWarning, match=r"1 of 3 items .*\[1\]"):
        rows = embedder.set_params(on_error="skip").transform(["good", "\ud800", "b"])
    assert np.isnan(rows).all(1).tolist() == [False, True, False]


def test_errors_of_torch_and_cuda_are_known():
    torch = pytest.importorskip("torch", reason="needs torch")
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_longest_texts_come_first():
    model = Lengths()
    embed(model, batch_size=4).transform(TEXTS)
    assert [len(text) for text in model.seen] == sorted(map(len, TEXTS), reverse=True)


def test_ten_thousand_duplicates_are_embedded_once():
    model = Lengths()
    rows = embed(model).transform(["one", "two"] * 5000)
    assert sorted(model.seen) == ["one", "two"]
    assert rows.shape == (10_000, 64)
    np.testing.assert_array_equal(rows[::2], np.tile(embed_text("one"), (5000, 1)))


def test_initial_batch_size():
    torch = pytest.importorskip("torch", reason="needs torch")
    assert initial_batch_size(7, None, "image") == 7
    assert initial_batch_size("auto", None, "text") == 32
    assert initial_batch_size("auto", None, "image") == 8
    assert initial_batch_size("auto", torch.device("cuda"), "image") == 128


@pytest.mark.parametrize(
    "returned, message",
    [
        (lambda n: np.zeros(n), "one row for each item"),
        (lambda n: np.zeros((n, 3, 2)), "one row for each item"),
        (lambda n: np.zeros((n + 1, 3)), "one row for each item"),
        (lambda n: np.zeros((n, 0)), "one row for each item"),
        (lambda n: None, "array of shape"),
        (lambda n: [["a"]] * n, "array of shape"),
    ],
)
def test_results_of_a_wrong_shape(returned, message):
    with pytest.raises((ValueError, TypeError), match=message):
        embed(lambda texts: returned(len(texts))).transform(TEXTS)


def test_rows_of_different_lengths():
    lengths = iter([3, 4])
    with pytest.raises(ValueError, match="returns rows of 3 and 4 features"):
        embed(
            lambda texts: np.zeros((len(texts), next(lengths))), batch_size=5
        ).transform(TEXTS)


def test_nan_from_the_model_names_the_item():
    def bad(texts):
        return [[np.nan if len(text) == 12 else 1.0] for text in texts]

    with pytest.raises(ValueError, match=r"Item 3, 'x+', .*returned NaN"):
        embed(bad).transform(TEXTS)
    with pytest.warns(UserWarning, match=r"1 of 10 items .*\[3\]"):
        rows = embed(bad, on_error="skip").transform(TEXTS)
    assert np.flatnonzero(np.isnan(rows)).tolist() == [3]


def test_tensors_of_different_shapes_in_one_batch():
    torch = pytest.importorskip("torch", reason="needs torch")
    items = [torch.rand(3, 8, 8), torch.rand(3, 8, 9)]
    rows = FoundationEmbedder(tiny_vision()).transform(items)
    alone = FoundationEmbedder(tiny_vision(), batch_size=1).transform(items)
    np.testing.assert_array_equal(rows, alone)


def test_progress(capsys, monkeypatch):
    pytest.importorskip("tqdm", reason="needs tqdm")
    monkeypatch.setattr(_progress, "_DELAY", 0)
    embed(Lengths(), batch_size=5, verbose=1).transform(TEXTS)
    assert "10/10" in capsys.readouterr().err


@pytest.mark.parametrize(
    "message", ["CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: not enough memory"]
)
def test_ways_to_run_out_of_memory(message):
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize("n_workers", [0, 2])
def test_an_item_whose_row_has_another_length_is_named(n_workers):
    torch = pytest.importorskip("torch", reason="needs torch")
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    images = [torch.rand(3, 8, 8), torch.rand(8, 8, 3), torch.rand(3, 8, 8)]
    embedder = FoundationEmbedder(module, n_workers=n_workers)
    with pytest.raises(
        ValueError, match=r"Item 1, .* returns rows of 3 and 8 features"
    ):
        embedder.transform(images)
    with pytest.warns(UserWarning, match=r"1 of 3 items .*\[1\]"):
        rows = embedder.set_params(on_error="skip").transform(images)
    expected = embedder.transform(images[::2])
    np.testing.assert_array_equal(rows[::2], expected)
    assert np.isnan(rows[1]).all()
