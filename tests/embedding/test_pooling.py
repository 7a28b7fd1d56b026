import numpy as np
import pytest

from skimprint.embedding._pooling import output_features, pool

torch = pytest.importorskip("torch", reason="needs torch")

TOKENS = torch.arange(24.0).reshape(2, 4, 3)
MASK = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])


@pytest.mark.parametrize(
    "pooling, expected",
    [
        ("cls", torch.stack([TOKENS[0, 0], TOKENS[1, 1]])),
        ("mean", torch.stack([TOKENS[0, :3].mean(0), TOKENS[1, 1:].mean(0)])),
        ("max", torch.stack([TOKENS[0, 2], TOKENS[1, 3]])),
        ("last", torch.stack([TOKENS[0, 2], TOKENS[1, 3]])),
    ],
)
def test_tokens_with_a_mask(pooling, expected):
    np.testing.assert_allclose(pool(TOKENS, pooling, MASK), expected)


def test_tokens_without_a_mask():
    np.testing.assert_allclose(pool(TOKENS, "mean"), TOKENS.mean(1))
    np.testing.assert_allclose(pool(TOKENS, "mean", n_prefix=1), TOKENS[:, 1:].mean(1))
    np.testing.assert_allclose(pool(TOKENS, "cls"), TOKENS[:, 0])
    np.testing.assert_allclose(pool(TOKENS, "last"), TOKENS[:, -1])


def test_maps():
    maps = torch.arange(48.0).reshape(2, 3, 4, 2)
    np.testing.assert_allclose(pool(maps, "mean", n_prefix=1), maps.mean((2, 3)))
    np.testing.assert_allclose(pool(maps, "max"), maps.amax((2, 3)))


def test_rows_stay():
    rows = TOKENS[0]
    assert pool(rows, "auto") is rows


@pytest.mark.parametrize(
    "shape, pooling, cure",
    [
        ((2, 3), "mean", "leave pooling='auto'"),
        ((2, 4, 3), "auto", "'mean', 'cls', 'max' or 'last'"),
        ((2, 3, 4, 4), "auto", "'mean' or 'max'"),
        ((2, 3, 4, 4), "cls", "'mean' or 'max'"),
        ((2,), "auto", "Wrap the model"),
    ],
)
def test_pooling_that_does_not_fit(shape, pooling, cure):
    with pytest.raises(ValueError, match="does not fit") as caught:
        pool(torch.zeros(shape), pooling)
    assert cure in str(caught.value)


def test_outputs():
    output = {"last_hidden_state": TOKENS, "pooler_output": TOKENS[:, 0, :, None]}
    assert output_features(output, "mean") == (TOKENS, "mean")
    features, rest = output_features(output, "pooler")
    assert (tuple(features.shape), rest) == ((2, 3), "auto")
    of_numpy = {name: value.numpy() for name, value in output.items()}
    found, _ = output_features(of_numpy, "pooler")
    np.testing.assert_array_equal(found, features)


def test_output_without_what_is_asked_for():
    with pytest.raises(ValueError, match=r"pooled output.*\['last_hidden_state'\]"):
        output_features({"last_hidden_state": TOKENS}, "pooler")
    with pytest.raises(TypeError, match=r"returned dict with \['logits'\]"):
        output_features({"logits": TOKENS}, "auto")
    with pytest.raises(TypeError, match="returned tuple"):
        output_features((TOKENS,), "auto")
