import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from embedders import Lengths, embed_text
from settings import plain_classifier
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.naive_bayes import GaussianNB

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.generation import GENERATORS, ProxyGenerator, synthesized
from skimprint.methods import PUBLISHED_METHODS
from skimprint.testing import check_classifier, check_embedder

TEXTS = ["one", "one and two", "three", "four"]


def test_good_embedders_pass():
    check_embedder(FoundationEmbedder(Lengths(), modality="text"), TEXTS)


@pytest.mark.parametrize("check", ["check_classifier(0, 0, 0)", "check_embedder(0, 0)"])
def test_nothing_is_checked_without_assertions(check):
    code = f"from skimprint.testing import *\n{check}"
    command = [sys.executable, "-O", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "RuntimeError: Checks are assertions: run Python without -O." in done.stderr


def test_too_few_items():
    with pytest.raises(ValueError, match="at least 3 items"):
        check_embedder(FoundationEmbedder(Lengths(), modality="text"), TEXTS[:2])


@pytest.mark.parametrize(
    "embed, message",
    [
        (lambda texts: np.ones((len(texts), 3)), "same embedding"),
        (
            lambda texts: [row + i for i, row in enumerate(map(embed_text, texts))],
            "order matters|embedded differently",
        ),
        (
            lambda texts: np.stack([embed_text(text) for text in texts]) - len(texts),
            "embedded differently",
        ),
    ],
)
def test_embeddings_that_depend_on_the_batch(embed, message):
    with pytest.raises(AssertionError, match=message):
        check_embedder(FoundationEmbedder(embed, modality="text"), TEXTS)


def test_a_cache_does_not_hide_what_depends_on_the_batch(tmp_path):
    def embed(texts):
        return [row + i for i, row in enumerate(map(embed_text, texts))]

    embed.fingerprint = "depends on the batch"
    embedder = FoundationEmbedder(embed, modality="text", cache_dir=tmp_path)
    with pytest.raises(AssertionError, match=r"order matters|embedded differently"):
        check_embedder(embedder, TEXTS)


class Wrong(TransformerMixin, BaseEstimator):
    """An embedder with one flaw."""

    def __init__(self, flaw="none"):
        self.flaw = flaw

    def fit(self, X, y=None):
        self.n_features_out_ = 3 if self.flaw == "width" else 64
        return None if self.flaw == "fit" else self

    def transform(self, X):
        if self.flaw != "errors" and (isinstance(X, str) or len(X) == 0):
            raise ValueError("no items")
        rows = np.array([embed_text(text) for text in X]).reshape(-1, 64)
        if self.flaw == "dtype":
            return rows.astype(np.float64)
        if self.flaw == "list":
            return rows.tolist()
        if self.flaw == "parameters":
            self.flaw = str(self.flaw + " ")[:-1]
        return rows

    def get_feature_names_out(self, input_features=None):
        return [f"x{0 if self.flaw == 'names' else i}" for i in range(64)]


def test_embedders_of_other_makers_can_pass():
    check_embedder(Wrong(), TEXTS)


@pytest.mark.parametrize(
    "flaw, message",
    [
        ("width", "n_features_out_ is wrong"),
        ("fit", "fit must return self"),
        ("errors", "must raise a ValueError"),
        ("dtype", "not float32"),
        ("list", "returned list"),
        ("names", "feature names are wrong"),
        ("parameters", "changed a parameter"),
    ],
)
def test_flaws_are_found(flaw, message):
    with pytest.raises(AssertionError, match=message):
        check_embedder(Wrong("".join(flaw)), TEXTS)


class Spoils(Wrong):
    """An embedder of numbers that scales them in place."""

    def transform(self, X):
        if isinstance(X, str) or len(X) == 0:
            raise ValueError("no items")
        rows = np.array([embed_text(str(float(item.max() > 0))) for item in X])
        for row, item in zip(rows, X, strict=True):
            row[0] = np.argmax(np.asarray(item))
            item *= 2
        return rows


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_items_that_are_changed_are_found(library):
    items = [*np.eye(3, dtype=np.float32)]
    if library == "torch":
        torch = pytest.importorskip("torch", reason="needs torch")
        items = [torch.from_numpy(item) for item in items]
    with pytest.raises(AssertionError, match="transform changed item 0"):
        check_embedder(Spoils(), items)


class Wakes(Wrong):
    """An embedder that leaves its model in training mode."""

    def __init__(self, model=None):
        self.model = model
        self.flaw = "none"

    def transform(self, X):
        rows = super().transform(X)
        self.model.train()
        return rows

    def __sklearn_clone__(self):
        return type(self)(self.model)


def test_a_model_that_is_left_changed_is_found():
    nn = pytest.importorskip("torch.nn", reason="needs torch")
    with pytest.raises(AssertionError, match="transform changed the model"):
        check_embedder(Wakes(nn.Linear(2, 2).eval()), TEXTS)


class Named(Wrong):
    """An embedder by a model's name, which may keep something of torch."""

    def __init__(self, model="torchvision:resnet18", keep=False):
        super().__init__()
        self.model = model
        self.keep = keep

    def fit(self, X, y=None):
        if self.keep:
            self.device_ = pytest.importorskip("torch", reason="needs torch").device(
                "cpu"
            )
        return super().fit(X)


def test_pickles_of_named_models_do_without_torch():
    check_embedder(Named(), TEXTS)
    with pytest.raises(AssertionError, match="needs torch to be read"):
        check_embedder(Named(keep=True), TEXTS)


class Careless(Wrong):
    """An embedder with workers and `on_error`, and one flaw."""

    def __init__(self, flaw="none", on_error="raise", n_workers=0, batch_size=2):
        super().__init__(flaw)
        self.on_error = on_error
        self.n_workers = n_workers
        self.batch_size = batch_size

    def transform(self, X):
        if isinstance(X, str) or len(X) == 0:
            raise ValueError("no items")
        if self.flaw == "workers" and self.n_workers and len(X) > len({*X}):
            return super().transform(X)[::-1].copy()
        if self.flaw == "threads" and threading.current_thread().name != "MainThread":
            return super().transform(X) + np.float32(1)
        if self.flaw == "fork" and os.getpid() != PROCESS:
            raise ValueError("not here")
        bad = [index for index, text in enumerate(X) if text is None]
        if bad and (self.on_error == "raise" or self.flaw == "skip"):
            raise ValueError("Something is wrong" if self.flaw == "name" else "Item 1")
        rows = super().transform(["bad" if text is None else text for text in X])
        if bad:
            if self.flaw != "silent":
                warnings.warn("1 item skipped", UserWarning, stacklevel=2)
            rows[bad if self.flaw != "spoil" else slice(None)] = np.nan
            if self.flaw == "fill":
                rows[bad] = 0
        return rows


PROCESS = os.getpid()


def test_careful_embedders_pass():
    check_embedder(Careless(), TEXTS)


@pytest.mark.parametrize(
    "flaw, message",
    [
        ("workers", "workers matter"),
        ("threads", "disturb each other"),
        ("fork", "fails after a fork"),
        ("name", "not named"),
        ("silent", "without a warning"),
        ("spoil", "spoils good ones"),
        ("fill", "a row of NaN"),
    ],
)
def test_carelessness_is_found(flaw, message):
    with pytest.raises(AssertionError, match=message):
        check_embedder(Careless(flaw), TEXTS)


def test_bad_items_can_be_named():
    embedder = FoundationEmbedder(Lengths(), modality="text")
    check_embedder(embedder, TEXTS, bad_item=3)
    with pytest.raises(AssertionError, match="must raise a ValueError for a bad item"):
        check_embedder(embedder, TEXTS, bad_item="a good one")


@pytest.fixture(scope="module")
def some_digits(digits):
    X, y = digits
    return X[:200, ::8], y[:200]


class Centred(ProxyGenerator):
    """The mean of each class, with a flaw."""

    def __init__(self, flaw=None):
        self.flaw = flaw

    def generate(self, support, n_proxies, *, n_jobs=None, **options):
        means = np.stack([support.rows(g).mean(axis=0) for g in range(len(support))])
        if self.flaw == "others":
            means = means + means.mean(axis=0)
        if self.flaw == "threads":
            means = means + (n_jobs or 1)
        if self.flaw == "chance":
            means = means + np.random.default_rng().random()
        return synthesized(support, means, np.arange(len(means) + 1))


def minus_the_batch(X):
    return X - X.mean(axis=0)


def relative_to_the_best(queries, proxies):
    found = queries @ proxies.T
    return found / found.max()


def best_of_each_class(similarities, proxy_classes):
    of_class = [similarities[:, proxy_classes == c] for c in np.unique(proxy_classes)]
    return np.stack([found.max(axis=1) for found in of_class], axis=1)


def one_after_the_other(similarities, proxy_classes):
    best = best_of_each_class(similarities, proxy_classes)
    return best + np.arange(len(best))[:, None]


class Unreadable:
    """A metric whose pickle cannot be read."""

    def __call__(self, queries, proxies):
        return queries @ proxies.T

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return int, ("no", "number")


class TestCheckClassifier:
    @pytest.mark.parametrize("name", ["recommended", *PUBLISHED_METHODS])
    def test_parts_of_the_package_pass(self, some_digits, name):
        check_classifier(ImprintClassifier.from_method(name), *some_digits)

    def test_parts_of_users_pass(self, some_digits):
        def dot(queries, proxies):
            return queries @ proxies.T

        check_classifier(ImprintClassifier(Centred(), metric=dot), *some_digits)

    @pytest.mark.parametrize(
        "part, message",
        [
            (
                {"generator": Centred("others")},
                "proxies of class .* are others learnt later",
            ),
            ({"generator": Centred("threads")}, "n_jobs=2 does not have the same"),
            ({"generator": Centred("chance")}, "another fit does not have the same"),
            ({"support_norm": minus_the_batch}, "class .* are others learnt later"),
            ({"query_norm": minus_the_batch}, "differs for queries alone"),
            ({"metric": relative_to_the_best}, "differs for queries alone"),
            ({"aggregation": one_after_the_other}, "differs for queries alone"),
        ],
    )
    def test_flaws_are_told(self, some_digits, part, message):
        clf = plain_classifier(**{"generator": "mean"} | part)
        with pytest.raises(AssertionError, match=message):
            check_classifier(clf, *some_digits)

    @pytest.mark.parametrize("name", GENERATORS)
    def test_generators_pass(self, some_digits, name):
        check_classifier(plain_classifier(name, n_proxies=2), *some_digits)

    @pytest.mark.parametrize("name", ["cov_max", "fps", "kmedoids", "random"])
    def test_samples_are_not_taken_for_means(self, some_digits, name):
        class Silent(GENERATORS[name]):
            selects = False

        with pytest.raises(AssertionError, match="selects must be True"):
            check_classifier(plain_classifier(Silent(), n_proxies=2), *some_digits)

    def test_no_part_may_need_all_proxies(self, some_digits):
        def of_all(similarities, proxy_classes):
            if len(proxy_classes) < len(some_digits[1]):
                raise ValueError("too few proxies")
            return best_of_each_class(similarities, proxy_classes)

        clf = plain_classifier("all", aggregation=of_all)
        with pytest.raises(ValueError, match="too few proxies"):
            check_classifier(clf, *some_digits)

    def test_a_pickle_that_cannot_be_read_is_no_secret(self, some_digits):
        clf = plain_classifier("mean", metric=Unreadable())
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            check_classifier(clf, *some_digits)

    def test_too_few_classes(self, some_digits):
        X, y = some_digits
        with pytest.raises(ValueError, match="at least 3 classes, got"):
            check_classifier(ImprintClassifier(), X, y % 2)

    @pytest.mark.parametrize("wrong", [None, "mean", ImprintClassifier, GaussianNB()])
    def test_what_is_no_classifier_of_ours(self, wrong, some_digits):
        with pytest.raises(
            TypeError, match=r"^classifier must be an ImprintClassifier"
        ):
            check_classifier(wrong, *some_digits)


@pytest.mark.parametrize(
    "wrong", [None, "timm:a", len, FoundationEmbedder, ImprintClassifier()]
)
def test_what_is_no_transformer(wrong):
    with pytest.raises(TypeError, match=r"^embedder must be a transformer"):
        check_embedder(wrong, ["a", "b", "c"])
