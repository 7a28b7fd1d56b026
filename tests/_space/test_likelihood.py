"""The temperature that makes the true classes most likely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from skimprint._space import likelihood
from skimprint._space.likelihood import balanced, fit_temperature


@pytest.mark.parametrize("signal", [0.3, 3.0])
def test_likelihood_is_the_best_over_temperatures(signal):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, 200)
    scores = rng.normal(size=(200, 5)) + signal * np.eye(5)[codes]
    weight = rng.uniform(size=200)

    def loss(log_inverse):
        log_p = log_softmax(np.exp(log_inverse) * scores, axis=1)
        return -np.average(log_p[np.arange(200), codes], weights=weight)

    best = minimize_scalar(loss, bounds=(-6, 6), method="bounded")
    value, temperature = fit_temperature(scores, codes, weight)
    assert value == pytest.approx(-best.fun, abs=1e-5)
    assert temperature == pytest.approx(np.exp(-best.x), rel=1e-2)
    scaled, _ = fit_temperature(100 * scores - 3, codes, weight)
    assert scaled == pytest.approx(value, abs=1e-5)


def test_likelihood_of_no_information_is_chance():
    codes = np.arange(12) % 3
    wrong = -np.eye(3)[codes]
    for scores in (np.zeros((12, 3)), wrong):
        value, _ = fit_temperature(scores, codes)
        assert value == pytest.approx(-np.log(3), abs=1e-3)


@pytest.mark.parametrize("start", [None, 1e-9, 1.0, 1e9])
@pytest.mark.parametrize("no_gain", [1e-7, 1e-15, 0.0])
def test_likelihood_of_separated_classes_is_nearly_zero(start, no_gain):
    """The temperature is bounded, wherever the search starts."""
    codes = np.arange(12) % 3
    scores = np.eye(3)[codes]
    value, temperature = fit_temperature(scores, codes, start=start, no_gain=no_gain)
    assert value == pytest.approx(0, abs=1e-6)
    spread = (scores - 1).std()
    assert abs(np.log(spread / temperature)) <= 8 + 1e-12


def test_more_classes_than_are_looked_at_together(monkeypatch):
    rng = np.random.default_rng(0)
    scores, codes = rng.normal(size=(20, 5)), rng.integers(0, 5, 20)
    expected = fit_temperature(scores, codes)
    monkeypatch.setattr(likelihood, "_AT_A_TIME", 3)
    np.testing.assert_allclose(fit_temperature(scores, codes), expected)


@pytest.mark.parametrize("inverse", [1e-3, 0.5, 30.0])
def test_temperature_of_scores_drawn_from_it(inverse):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 5))
    codes = (inverse * scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    _, temperature = fit_temperature(scores, codes, bound=np.log(1e6), no_gain=1e-15)
    assert 1 / temperature == pytest.approx(inverse, rel=0.05, abs=0.03)
    _, scaled = fit_temperature(1e-4 * scores, codes, bound=np.log(1e6), no_gain=1e-15)
    assert scaled == pytest.approx(1e-4 * temperature, rel=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_classes_that_a_row_cannot_have(dtype):
    """Their scores are minus infinity: as if the class were not there."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 200)
    scores = (rng.normal(size=(200, 3)) + np.eye(3)[codes]).astype(dtype)
    expected = fit_temperature(scores, codes, no_gain=1e-15)
    gone = np.full((200, 2), -np.inf, dtype)
    found = fit_temperature(np.hstack([scores, gone]), codes, no_gain=1e-15)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scores_that_do_not_differ_have_any_temperature():
    codes = np.arange(12) % 3
    scores = np.repeat(np.arange(12.0), 3).reshape(12, 3)
    value, temperature = fit_temperature(scores, codes)
    assert value == pytest.approx(-np.log(3))
    assert temperature == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_no_difference(dtype):
    """Such as the step by which the nearest voter wins of equal shares."""
    codes = np.arange(12) % 3
    scores = np.full((12, 3), 1 / 3, dtype)
    scores[np.arange(12), codes] = np.nextafter(scores[0, 0], dtype(1))
    assert fit_temperature(scores, codes)[1] == np.inf


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**16),
    n=st.integers(2, 30),
    signal=st.sampled_from([0.0, 0.5, 2.0]),
    deviation=st.sampled_from([0.4, 2.0, np.inf]),
)
def test_no_temperature_is_better(seed, n, signal, deviation):
    rng = np.random.default_rng(seed)
    codes = np.append([0, 1], rng.integers(0, 2, n))
    scores = rng.normal(size=(n + 2, 2)) + signal * np.eye(2)[codes]
    margins = scores - scores[np.arange(n + 2), codes][:, None]
    options = {"prior": (1.0, deviation), "no_gain": 1e-15}
    value, temperature = fit_temperature(scores, codes, **options)
    steps = np.geomspace(1e-4, 1, 30)
    others = np.log(margins.std() / temperature) + np.append(-steps, steps)
    for u in others[np.abs(others) <= 8]:  # as far as it looks
        loss = logsumexp(np.exp(u) * margins / margins.std(), axis=1).mean()
        loss += (u - 1) ** 2 / 2 / deviation**2 / (n + 2)
        assert -value <= loss + 1e-12


def test_a_step_that_raises_the_loss_is_halved():
    """As few do: those of scores with long tails."""
    rng = np.random.default_rng(3477)
    codes, scores = rng.integers(0, 3, 6), rng.standard_t(1.2, size=(6, 3))
    options = {"bound": np.log(1e6), "no_gain": 1e-15}
    value, temperature = fit_temperature(scores, codes, **options)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2):
        of_class = log_softmax(scores / temperature / factor, axis=1)
        assert value > of_class[np.arange(6), codes].mean()


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    start=st.sampled_from([None, 1e-9, 1.0, 1e9, np.inf]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_start_scale_and_dtype_find_the_same(seed, scale, start, dtype):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, 100)
    scores = rng.normal(size=(100, 4)) + 2 * np.eye(4)[codes]
    expected = fit_temperature(scores, codes, no_gain=1e-15)
    start = None if start is None else scale * start
    found = fit_temperature(
        (scale * scores).astype(dtype), codes, start=start, no_gain=1e-15
    )
    assert found[0] == pytest.approx(expected[0], abs=1e-4)
    assert found[1] == pytest.approx(scale * expected[1], rel=1e-2)


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    codes, weights = rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    scores = rng.normal(size=(60, 3)) + np.eye(3)[codes]
    found = fit_temperature(scores, codes, weights.astype(float), no_gain=1e-15)
    rows = np.repeat(np.arange(60), weights)
    expected = fit_temperature(scores[rows], codes[rows], no_gain=1e-15)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("n_heavy", [2, 30])
def test_a_prior_yields_to_as_many_rows_as_have_a_say(n_heavy):
    """Rows that hardly weigh anything are as good as absent, however many."""
    rng = np.random.default_rng(0)
    # Light ones as heavy ones are, so that differences of scores are as large.
    codes = rng.integers(0, 3, n_heavy)
    scores = np.eye(3)[codes] + rng.normal(size=(n_heavy, 3))
    codes, scores = np.tile(codes, 101), np.tile(scores, (101, 1))
    weights = np.where(np.arange(len(codes)) < n_heavy, 5.0, 1e-9)
    options = {"prior": (1.0, 0.4), "no_gain": 1e-15}
    found = fit_temperature(scores, codes, weights, **options)
    expected = fit_temperature(scores[:n_heavy], codes[:n_heavy], **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("codes", [[0, 1, 2, 0], [1, 2, 0, 2]])
def test_with_a_prior_the_most_probable_temperature(codes):
    """Rows that are all right, or all wrong, have no most likely one."""
    scores = np.eye(3)[[0, 1, 2, 0]] * 0.3
    codes, prior = np.array(codes), (1.0, 0.4)
    value, temperature = fit_temperature(scores, codes, prior=prior, no_gain=1e-15)
    spread = (scores - scores[np.arange(4), codes][:, None]).std()

    def loss(u):
        of_class = log_softmax(scores * np.exp(u) / spread, axis=1)
        return -of_class[np.arange(4), codes].mean() + (u - 1) ** 2 / 2 / 0.16 / 4

    found = minimize_scalar(loss, bounds=(-5, 5), method="bounded")
    np.testing.assert_allclose(temperature, spread / np.exp(found.x), rtol=1e-4)
    np.testing.assert_allclose(value, -found.fun, rtol=1e-9)


@pytest.mark.parametrize("least", [1, 1e-300, 1e-310])
def test_balanced_classes_weigh_the_same_and_as_much_in_all(least):
    rng = np.random.default_rng(0)
    codes, weights = rng.integers(0, 5, 60) * 2, rng.uniform(0.1, 3, 60)  # none is odd
    weights[codes == 2] *= least
    found = balanced(weights, codes)
    sums = np.bincount(codes, found)
    np.testing.assert_allclose(sums[::2], weights.sum() / 5)
    of_class = codes == 4
    np.testing.assert_allclose(
        found[of_class] / found[of_class].sum(),
        weights[of_class] / weights[of_class].sum(),
    )
