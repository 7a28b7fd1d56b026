"""Make the data file of `skimprint.datasets.load_digits_embeddings`.

Embeds scikit-learn's digits with an ImageNet-pretrained MobileNet v1, whose Python
module (`load()` and `preprocess(image)`) is named on the command line:

    python tools/embed_digits.py ../shared/foundation_models/mobilenet_v1.py

Needs torch, safetensors and pillow. Takes about a minute on two cores.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from skimprint.datasets._digits import DATA_FILE, compress, expand

BATCH_SIZE = 64


def embed(module_path, images):
    """Embed images with values from 0 to 16: (n_images, 1024)."""
    spec = importlib.util.spec_from_file_location("foundation_model", module_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load()
    pictures = [Image.fromarray(image) for image in np.uint8(images * (255 / 16))]
    batches = []
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH_SIZE):
            batch = [module.preprocess(p) for p in pictures[start : start + BATCH_SIZE]]
            batches.append(model(torch.stack(batch)).numpy())
    return np.concatenate(batches)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="Python file with load, preprocess")
    digits = load_digits()
    embeddings = embed(parser.parse_args().model, digits.images)
    codes = compress(embeddings)
    np.savez_compressed(DATA_FILE, codes=codes, target=digits.target.astype(np.uint8))

    norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(expand(codes), axis=1)
    cosines = np.einsum("ij,ij->i", embeddings, expand(codes)) / norms
    print(f"{DATA_FILE}: {DATA_FILE.stat().st_size / 2**20:.2f} MiB")
    print(f"smallest cosine with the exact embeddings: {cosines.min():.6f}")


if __name__ == "__main__":
    main()
