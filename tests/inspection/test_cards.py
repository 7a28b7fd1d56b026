"""Pictures and texts are shown beside their reasons, and are small."""

import json
import re

import numpy as np
import pytest
from embedders import mean_colour
from reports import Outline, fitted
from sklearn.pipeline import make_pipeline

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.inspection import _cards, report


@pytest.fixture(scope="module")
def pictures():
    pytest.importorskip("PIL", reason="needs pillow")
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(700)]


class TestPictures:
    def test_500_take_at_most_3_megabytes(self, pictures):
        rng = np.random.default_rng(1)
        X, y = rng.normal(size=(700, 4)), np.arange(700) % 4
        clf = ImprintClassifier("kmeans", n_proxies=20, random_state=0)
        clf.fit(X[:350], y[:350])
        made = report(
            clf,
            X[350:],
            y[350:],
            pictures[350:],
            X_train=X[:350],
            y_train=y[:350],
            train_items=pictures[:350],
        )
        stored = json.loads(
            re.search(r'id="pictures">(.*?)</script>', made.html, re.S)[1]
        )
        assert 100 < len(stored) <= _cards.MAX_PICTURES
        assert len(json.dumps(stored)) / len(stored) * 500 <= 3e6
        assert len(made.html) <= 3.5e6
        numbers = {*map(int, re.findall(r'<img data-picture="(\d+)"', made.html))}
        assert numbers == {*range(len(stored))}

    def test_a_picture_that_cannot_be_shown_is_named(self, data):
        pytest.importorskip("PIL", reason="needs pillow")
        made = report(
            fitted(data), data[2][:3], data[3][:3], ["bad.jpg", b"nothing", "text"]
        )
        assert "bad.jpg (cannot be shown: " in made.html

    def test_a_pipeline_takes_items(self, pictures, tmp_path):
        from PIL import Image

        paths = []
        for i, picture in enumerate(pictures[:12]):
            paths.append(tmp_path / f"picture {i}.png")
            Image.fromarray(picture // (1 + i % 2)).save(paths[-1])
        y = ["light", "dark"] * 6
        embedder = FoundationEmbedder(mean_colour, modality="image")
        model = make_pipeline(embedder, ImprintClassifier("all")).fit(paths, y)
        made = report(model, paths, y, X_train=paths, y_train=y)
        assert made.findings.accuracy == 1
        assert "Items are embedded by FoundationEmbedder." in made.html
        images = Outline(made.html).all("img", width="112")
        assert {a["alt"] for a in images} == {path.name for path in paths}
