"""What displays hold, and that it is what they draw."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from embedders import Lengths
from settings import plain_classifier
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skimprint import (
    AdaptedClassifier,
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint.aggregation import Votes
from skimprint.inspection import (
    CollapseDisplay,
    ExplanationDisplay,
    FamiliarityDisplay,
    ProxyDisplay,
)
from skimprint.metrics import neural_collapse_score

matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("matplotlib.pyplot")  # an attribute of it from then on


@pytest.fixture(scope="module")
def fitted(digits):
    X, y = digits
    clf = ImprintClassifier(
        n_proxies=3,
        kernel_weight=0.5,
        whitening=0.5,
        rejection=Rejection(-1, threshold=0.5),
        random_state=0,
    )
    return clf.fit(X[y < 8][:200], y[y < 8][:200])


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


class TestExplanation:
    def test_it_holds_and_shows_what_explain_returns(self, fitted, digits):
        X, y = digits[0][:3], digits[1][:3]
        items = [f"digit $ {i}" for i in range(3)]
        train = [np.full((8, 8), i % 256, np.uint8) for i in range(200)]
        display = ExplanationDisplay.from_estimator(
            fitted, X, y, items=items, train_items=train, n_reasons=2
        )
        why = fitted.explain(X, n_reasons=2)
        for name, values in why.items():
            np.testing.assert_array_equal(display.explanation[name], values)
        assert display.ax_.shape == (3, 3)
        assert display.y == y.tolist()
        for i, row in enumerate(display.ax_):
            assert texts_of(row[0]) == [items[i]]
            assert f"found: {why.label[i]}" in row[0].get_title()
            for j in range(2):
                (shown,) = row[1 + j].images
                assert shown.get_array()[0, 0, 0] == why.rows[i, j]
                share, score = why.shares[i, j], why.score[i]
                assert f"{share:.2g} of {score:.2g}" in row[1 + j].get_title()
        display.figure_.canvas.draw()

    def test_a_reason_without_an_item_is_an_error(self, fitted, digits):
        why = fitted.explain(digits[0][:3])
        last = max(why.rows.max(), why.training_row.max())
        for n in (1, last):
            with pytest.raises(ValueError, match=f"got {n} items, and row {last} is"):
                ExplanationDisplay.from_predictions(why, train_items=["a"] * n)
        ExplanationDisplay.from_predictions(why, train_items=["a"] * (last + 1))

    def test_items_come_in_any_container_in_their_order(self, fitted, digits):
        """A Series whose index is something else showed other items."""
        pandas = pytest.importorskip("pandas", reason="needs pandas")
        why, names = fitted.explain(digits[0][:2]), [f"row {i}" for i in range(200)]
        wanted = [name for row in why.rows for name in np.array(names)[row]]
        for given in (
            names,
            np.array(names),
            pandas.Series(names, index=range(199, -1, -1)),
            pandas.DataFrame({"item": names}, index=range(300, 500)),
        ):
            shown = ExplanationDisplay.from_predictions(why, train_items=given)
            texts = [texts_of(cell)[0] for row in shown.ax_[:, 1:] for cell in row]
            assert texts == wanted
        for wrong in ("row" * 100, dict(enumerate(names)), 5, iter(names)):
            with pytest.raises(
                (TypeError, ValueError), match=r"^train_items cannot be"
            ):
                ExplanationDisplay.from_predictions(why, train_items=wrong)

    @pytest.mark.parametrize("wrong", [None, {}, "why", np.eye(2)], ids=str)
    def test_what_is_no_explanation(self, wrong):
        with pytest.raises(TypeError, match="explanation must be what explain of an"):
            ExplanationDisplay.from_predictions(wrong)

    def test_without_items_rows_are_shown(self, fitted, digits):
        display = ExplanationDisplay.from_estimator(fitted, digits[0][:2])
        assert texts_of(display.ax_[1, 0]) == ["query 1"]
        row = display.explanation.rows[1, 0]
        assert texts_of(display.ax_[1, 1]) == [f"training row {row}"]
        assert len(display.ax_[0, 0].figure.axes) == 1 + display.ax_.size

    def test_axes_of_the_users_are_divided(self, fitted, digits):
        figure, axes = matplotlib.pyplot.subplots(1, 2)
        display = ExplanationDisplay.from_estimator(fitted, digits[0][:2], ax=axes[1])
        assert display.figure_ is figure
        left = min(cell.get_position().x0 for cell in display.ax_.flat)
        assert left >= axes[0].get_position().x1

    @pytest.mark.parametrize("is_part", [False, True])
    def test_axes_outside_of_a_grid_are_divided(self, fitted, digits, is_part):
        figure = matplotlib.pyplot.figure()
        figure = figure.subfigures(1, 2)[1] if is_part else figure
        axes = figure.add_axes([0.6, 0.5, 0.3, 0.4])
        display = ExplanationDisplay.from_estimator(fitted, digits[0][:2], ax=axes)
        assert display.figure_ is figure
        ends = [cell.get_position().extents for cell in display.ax_.flat]
        np.testing.assert_allclose(np.min(ends, axis=0)[:2], [0.6, 0.5])
        np.testing.assert_allclose(np.max(ends, axis=0)[2:], [0.9, 0.9])

    @pytest.mark.parametrize("layout", [None, "constrained"])
    @pytest.mark.parametrize("is_placed", [False, True])
    def test_titles_leave_the_cells_above_alone(
        self, fitted, digits, layout, is_placed
    ):
        figure = matplotlib.pyplot.figure(figsize=(12, 9), layout=layout)
        sides = [0.1, 0.1, 0.8, 0.8]
        axes = figure.add_axes(sides) if is_placed else figure.subplots()
        why = fitted.explain(digits[0][:4])
        why.label = np.array(["a digit with a name of several lines"] * 4)
        display = ExplanationDisplay.from_predictions(why, why.label, ax=axes)
        figure.canvas.draw()
        for above, below in pairwise(display.ax_):
            for upper, lower in zip(above, below, strict=True):
                title = lower.title.get_window_extent()
                assert title.y1 <= upper.get_window_extent().y0

    def test_a_function_has_no_shares_but_a_nearest_proxy(self, digits):
        X, y = digits

        def means(similarities, codes):
            return np.stack(
                [similarities[:, codes == c].mean(axis=1) for c in range(10)], axis=1
            )

        clf = ImprintClassifier("mean", aggregation=means).fit(X[:100], y[:100])
        display = ExplanationDisplay.from_estimator(clf, X[:1])
        assert display.ax_[0, 1].get_title() == "nearest proxy"

    def test_a_pipeline_takes_items(self):
        items = ["one", "two", "three", "four", "five"]
        model = make_pipeline(FoundationEmbedder(Lengths()), ImprintClassifier("all"))
        model.fit(items, list("abcab"))
        display = ExplanationDisplay.from_estimator(
            model, ["three"], train_items=items, n_reasons=1
        )
        assert texts_of(display.ax_[0, 0]) == texts_of(display.ax_[0, 1]) == ["three"]

    def test_a_broken_picture_is_named(self, fitted, digits):
        display = ExplanationDisplay.from_estimator(
            fitted, digits[0][:1], items=["missing.jpg"]
        )
        assert texts_of(display.ax_[0, 0]) == ["missing.jpg"]


class TestFamiliarity:
    def test_it_holds_what_score_samples_returns(self, fitted, digits):
        X, y = digits
        display = FamiliarityDisplay.from_estimator(fitted, X, y)
        scores = fitted.score_samples(X)
        np.testing.assert_array_equal(display.known, scores[y < 8])
        np.testing.assert_array_equal(display.unknown, scores[y >= 8])
        assert display.threshold == 0.5
        assert 0.5 < display.auroc <= 1

    def test_bars_sum_to_one_and_the_threshold_is_where_it_is(self):
        display = FamiliarityDisplay.from_predictions(
            [1, 2, 2, 3], [0, 1], threshold=1.5
        )
        heights = [sum(bar.get_height() for bar in c) for c in display.ax_.containers]
        np.testing.assert_allclose(heights, [1, 1])
        (line,) = display.ax_.lines
        assert line.get_xdata() == [1.5, 1.5]

    def test_of_one_kind_only(self, digits):
        display = FamiliarityDisplay.from_predictions([1.0, 2.0])
        assert display.auroc is None
        clf = ImprintClassifier("mean").fit(*digits)
        display = FamiliarityDisplay.from_estimator(clf, *digits)
        assert display.threshold is None
        assert len(display.unknown) == 0

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("size", [1, -0.3, 0, 1e-20, -1e20])
    def test_all_are_alike(self, digits, dtype, size):
        eps = np.finfo(dtype).eps
        known = size * np.array([1, 1 - eps, 1 + eps], dtype)
        display = FamiliarityDisplay(known, known[:1]).plot()
        display.figure_.canvas.draw()
        heights = [sum(bar.get_height() for bar in c) for c in display.ax_.containers]
        np.testing.assert_allclose(heights, [1, 1])

        X, y = digits[0].astype(dtype)[:50], digits[1][:50]
        clf = ImprintClassifier("all", whitening=None, mean_weight=0.0).fit(X, y)
        display = FamiliarityDisplay.from_estimator(clf, X, y)
        heights = [bar.get_height() for bar in display.ax_.containers[0]]
        assert sum(heights) == pytest.approx(1)


class TestProxies:
    def test_each_class_is_drawn_where_it_is(self, fitted, digits):
        X, y = digits
        X, y = X[y < 8][200:], y[y < 8][200:]
        display = ProxyDisplay.from_estimator(fitted, X, y)
        assert display.proxies.shape == (24, 2)
        assert display.queries.shape == (len(X), 2)
        drawn = [
            np.asarray(each.get_offsets())
            for each in display.ax_.collections
            if str(each.get_label()) == "3"
        ]
        np.testing.assert_allclose(drawn[0], display.proxies[fitted.proxy_labels_ == 3])
        means = np.stack([display.proxies[k::3] for k in range(3)]).mean(axis=0)
        nearest = np.square(display.queries[:, None] - means).sum(axis=2).argmin(axis=1)
        assert np.mean(nearest == y) > 0.3  # in a plane; chance is 0.125

    def test_queries_meet_proxies_in_their_space(self, fitted, digits):
        queries = digits[0][:5]
        moved = fitted._fitted.scorer.in_space_of_proxies(queries)
        similarities, _ = fitted.kproxies(queries, n_neighbors=24)
        found = -np.sort(-moved @ fitted.proxies_.T, axis=1)
        np.testing.assert_allclose(found, similarities, atol=1e-5)

    def test_the_plane_is_that_of_principal_components(self, fitted, digits):
        X, y = digits
        display = ProxyDisplay.from_estimator(fitted, X, y)
        pca = PCA(2).fit(fitted.proxies_)
        queries = fitted._fitted.scorer.in_space_of_proxies(X)
        for found, points in (
            (display.proxies, fitted.proxies_),
            (display.queries, queries),
        ):
            expected = pca.transform(points)
            signs = np.sign((found * expected).sum(axis=0))
            np.testing.assert_allclose(found, expected * signs, atol=1e-4)

    @pytest.mark.parametrize(
        "X", [np.eye(5)[:1], np.ones((2, 1)), np.eye(2), np.eye(3)[:2]], ids=np.shape
    )
    def test_few_proxies_and_few_features(self, X):
        y = np.arange(len(X))
        clf = plain_classifier("mean").fit(X, y)
        display = ProxyDisplay.from_estimator(clf, X, y)
        np.testing.assert_allclose(display.proxies, display.queries, atol=1e-12)
        assert display.proxies.shape == (len(X), 2)

    def test_another_projection_gets_proxies_and_queries_together(self, fitted, digits):
        X, y = digits[0][:9], digits[1][:9]
        projection = FunctionTransformer(lambda points: points[:, :2] - points.mean())
        display = ProxyDisplay.from_estimator(fitted, X, y, projection=projection)
        points = [fitted.proxies_, fitted._fitted.scorer.in_space_of_proxies(X)]
        mean = np.concatenate(points).mean()
        np.testing.assert_allclose(display.proxies, points[0][:, :2] - mean, atol=1e-6)
        np.testing.assert_allclose(display.queries, points[1][:, :2] - mean, atol=1e-6)

    def test_without_queries(self, fitted):
        display = ProxyDisplay.from_estimator(fitted)
        assert display.queries is None
        assert len(display.ax_.collections) == 8

    def test_neighbours_differ_by_more_than_colour(self):
        points = np.random.default_rng(0).normal(size=(40, 2))
        display = ProxyDisplay.from_predictions(points, np.arange(40))
        looks = [
            (mark.get_facecolor().tobytes(), mark.get_paths()[0].vertices.tobytes())
            for mark in display.ax_.collections
        ]
        assert len(set(looks)) == 40
        for (color, mark), (other_color, other_mark) in pairwise(looks):
            assert color != other_color
            assert mark != other_mark

    def test_of_more_classes_those_that_look_alike_are_drawn_at_once(self):
        labels = np.repeat([f"class {i:03d}" for i in range(100)], 3)
        points = np.random.default_rng(0).normal(size=(300, 2))
        queries = [*labels[::2], "another", "yet another"]
        display = ProxyDisplay.from_predictions(
            points, labels, points[: len(queries)], queries
        )
        *drawn, others = display.ax_.collections
        assert len(drawn) == 80
        assert len(others.get_offsets()) == 2
        small, large = drawn[::2], drawn[1::2]
        for i in range(40):
            like_this = np.repeat(np.arange(100), 3) % 40 == i
            np.testing.assert_array_equal(large[i].get_offsets(), points[like_this])
            of_queries = np.flatnonzero(like_this[::2])
            np.testing.assert_array_equal(small[i].get_offsets(), points[of_queries])
        assert display.ax_.get_legend_handles_labels() == ([], [])

    def test_thousands_of_marks_are_smaller(self):
        points = np.random.default_rng(0).normal(size=(4000, 2))
        for n, expected in ((400, 70), (4000, 7)):
            some = points[:n]
            labels = np.arange(n) % 10
            display = ProxyDisplay.from_predictions(some, labels, some, labels)
            of_queries, of_proxies = display.ax_.collections[:2]
            assert of_proxies.get_sizes() == pytest.approx(expected)
            assert of_queries.get_sizes() == pytest.approx(min(10, expected))

    def test_queries_of_other_classes_are_drawn(self, fitted, digits):
        X, y = digits
        display = ProxyDisplay.from_estimator(fitted, X[200:], y[200:])
        drawn = [len(each.get_offsets()) for each in display.ax_.collections]
        assert sum(drawn) == len(display.proxies) + len(display.queries)
        assert drawn[-1] == np.sum(y[200:] >= 8) > 0
        (*_, last) = display.ax_.get_legend().get_texts()
        assert last.get_text() == "unknown"

    def test_queries_need_labels(self, fitted, digits):
        with pytest.raises(ValueError, match="X and y go together"):
            ProxyDisplay.from_estimator(fitted, digits[0])

    @pytest.mark.parametrize(
        "labels, queries, query_labels, message",
        [
            ([0], None, None, "2 proxies with 1 labels, and no queries with no"),
            ([0, 1], np.ones((3, 2)), None, "2 labels, and 3 queries with no"),
            ([0, 1], np.ones((3, 2)), [0, 1], "2 labels, and 3 queries with 2"),
            ([0, 1], None, [0, 1], "2 labels, and no queries with 2"),
            (None, None, None, "2 proxies with no labels"),
            (5, None, None, "2 proxies with 1 labels"),
            (np.eye(2), None, None, "must have a label"),
        ],
    )
    def test_each_point_needs_a_label(self, labels, queries, query_labels, message):
        with pytest.raises(ValueError, match=message):
            ProxyDisplay.from_predictions(np.eye(2), labels, queries, query_labels)

    def test_no_proxies_have_no_labels(self):
        with pytest.raises(ValueError, match="got no proxies with no labels"):
            ProxyDisplay.from_predictions(None, None)

    @pytest.mark.parametrize(
        "wrong, message",
        [
            ("pca", "must be a transformer to two dimensions, .*got 'pca'"),
            (ImprintClassifier(), "must be a transformer to two dimensions"),
            (PCA, r"must be an instance; .*projection=PCA\(\)"),
            (PCA(1), r"must return an array of shape \(\d+, 2\); got \(\d+, 1\)"),
            (PCA(3), r"must return an array of shape \(\d+, 2\); got \(\d+, 3\)"),
        ],
        ids=str,
    )
    def test_what_projects_to_no_plane(self, wrong, message, fitted, digits):
        with pytest.raises((TypeError, ValueError), match=f"^projection {message}"):
            ProxyDisplay.from_estimator(fitted, *digits, projection=wrong)

    @pytest.mark.parametrize("proxies", [np.eye(3), np.ones(2), np.ones((2, 1))])
    def test_what_is_drawn_lies_in_a_plane(self, proxies):
        labels, plane = np.arange(len(proxies)), np.ones((2, 2))
        with pytest.raises(ValueError, match=r"shape \(n, 2\).* `from_estimator`"):
            ProxyDisplay.from_predictions(proxies, labels)
        with pytest.raises(ValueError, match=r"shape \(n, 2\).* `from_estimator`"):
            ProxyDisplay.from_predictions(plane, [0, 1], proxies, labels)


class TestCollapse:
    def test_gain_is_that_of_cross_validation(self, digits):
        X, y = digits
        clf = ImprintClassifier("kmeans", n_proxies=5, random_state=0)
        folds = [
            (np.arange(250, 500), np.arange(250)),
            (np.arange(250), np.arange(250, 500)),
        ]
        display = CollapseDisplay.from_estimator(clf, X, y, cv=folds)
        right = np.zeros((2, 500))
        for number, generator in enumerate(["kmeans", "mean"]):
            for train, test in folds:
                clf = ImprintClassifier(generator, n_proxies=5, random_state=0)
                right[number, test] = (
                    clf.fit(X[train], y[train]).predict(X[test]) == y[test]
                )
        several, one = ([row[y == c].mean() for c in range(10)] for row in right)
        np.testing.assert_allclose(display.gain, np.subtract(several, one))
        np.testing.assert_allclose(
            display.collapse, neural_collapse_score(X, y, average=None)
        )
        assert display.names == texts_of(display.ax_) == [*"0123456789"]
        drawn = np.asarray(display.ax_.collections[0].get_offsets())
        expected = np.stack([display.collapse, 100 * display.gain], axis=1)
        np.testing.assert_allclose(drawn, expected)

    def test_data_sets_by_name(self):
        display = CollapseDisplay.from_predictions(
            [0.1, 0.5], [0.0, 0.1], ["a$b", "c$"]
        )
        assert texts_of(display.ax_) == ["a$b", "c$"]
        display.figure_.canvas.draw()
        with pytest.raises(ValueError, match="same length; got 2, 1 and 2"):
            CollapseDisplay.from_predictions([0.1, 0.5], [0.0])

    def test_of_many_those_that_gain_or_lose_most_have_names(self):
        names = [f"{i}: {'long ' * 20}" for i in range(100)]
        gain = np.linspace(-0.3, 0.2, 100)
        for values, expected in ((gain, range(20)), (gain * (gain > 0.19), [98, 99])):
            display = CollapseDisplay.from_predictions(np.arange(100), values, names)
            shown = texts_of(display.ax_)
            assert shown
            assert {int(text.split(":")[0]) for text in shown} <= {*expected}
            assert max(map(len, "\n".join(shown).splitlines())) < 30

    @pytest.mark.parametrize("names", [None, [f"number {i}" for i in range(300)]])
    def test_of_many_no_name_covers_another(self, names):
        rng = np.random.default_rng(0)
        # Of ten queries each: many classes gain the same.
        gain = rng.choice([-0.2, -0.1, 0, 0.1, 0.2], 300)
        display = CollapseDisplay.from_predictions(rng.random(300), gain, names)
        display.figure_.canvas.draw()
        assert 4 <= len(display.ax_.texts) <= 20
        places = [text.get_window_extent() for text in display.ax_.texts]
        assert not any(a.overlaps(b) for a, b in combinations(places, 2))
        apart = CollapseDisplay.from_predictions(
            np.arange(300) % 20, np.linspace(-1, 1, 300), 300 * ["a"]
        )
        assert len(apart.ax_.texts) == 20

    @pytest.mark.parametrize("aggregation", ["max", "mnn", Votes(5, "distance")])
    def test_pipelines_searches_and_few_classes(self, digits, aggregation):
        X, y = digits[0][digits[1] < 3], digits[1][digits[1] < 3]
        clf = ImprintClassifier(n_proxies=2, aggregation=aggregation, random_state=0)
        clf.set_params(metric="euclidean")
        expected = CollapseDisplay.from_estimator(clf, X, y, cv=2)
        search = ImprintClassifierCV(clf, {"n_proxies": [2]}, cv=2)
        negative = FunctionTransformer(np.negative)
        for model in (
            clf.fit(X, y),
            search.fit(X, y),
            make_pipeline(negative, clf).fit(-X, y),
            GridSearchCV(make_pipeline(negative, search), {}, cv=2).fit(-X, y),
        ):
            given = X if model in (clf, search) else -X
            display = CollapseDisplay.from_estimator(model, given, y, cv=2)
            np.testing.assert_allclose(display.gain, expected.gain)
            np.testing.assert_allclose(display.collapse, expected.collapse, rtol=1e-5)

    def test_what_is_no_classifier(self, digits):
        with pytest.raises(TypeError, match=r"fitted .* with one; got GridSearchCV"):
            CollapseDisplay.from_estimator(GridSearchCV(None, {}), *digits)


@pytest.mark.parametrize("style", ["default", "dark_background", "Solarize_Light2"])
def test_they_can_be_read_on_any_ground(style, fitted, digits):
    def contrast(color, ground):
        high, low = sorted(map(lightness, (color, ground)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    def lightness(color):
        return np.dot(matplotlib.colors.to_rgb(color), [0.2126, 0.7152, 0.0722]) ** 2.2

    X, y = digits[0][:4], digits[1][:4]
    with matplotlib.pyplot.style.context(style):
        plane = ProxyDisplay.from_predictions(np.eye(10)[:, :2], np.arange(10))
        ground = plane.ax_.get_facecolor()
        for mark in plane.ax_.collections:
            assert contrast(mark.get_facecolor()[0], ground) > 1.1
            np.testing.assert_array_equal(mark.get_edgecolor()[0], ground)
        (line,) = FamiliarityDisplay.from_predictions([1], [0], threshold=0.5).ax_.lines
        assert contrast(line.get_color(), ground) > 3
        for labels in (fitted.predict(X), (y + 1) % 8):
            display = ExplanationDisplay.from_estimator(fitted, X, labels)
            ground = display.figure_.get_facecolor()
            for cell in display.ax_.flat:
                assert contrast(cell.title.get_color(), ground) > 3
                for text in cell.texts:
                    assert contrast(text.get_color(), cell.get_facecolor()) > 4.5


def test_wide_characters_fit_beside_each_other(fitted, digits):
    """A Chinese text has no spaces, and its characters are twice as wide."""
    items = ["我想知道我的新卡什么时候会寄到我的家里" * 4, "word " * 30]
    display = ExplanationDisplay.from_estimator(fitted, digits[0][:2], items=items)
    for (text,), most in zip(map(texts_of, display.ax_[:, 0]), (13, 26), strict=True):
        assert max(map(len, text.splitlines())) <= most


@pytest.mark.parametrize(
    "label",
    ["", " ", "_hidden", r"$\foo$", "5 $ to 10 $", "two\nlines", "long " * 20, "ש"],
)
def test_labels_of_all_kinds_are_whole_in_a_figure(label):
    """A legend takes dollars for formulas, and leaves out what opens with "_"."""
    display = ProxyDisplay.from_predictions([[0.0, 1.0], [1.0, 0.0]], [label, "b"])
    display.figure_.canvas.draw()
    legend = display.ax_.get_legend()
    shown = [text.get_text().rstrip("…") for text in legend.get_texts()]
    words = " ".join(label.split())
    assert words.startswith(" ".join(shown[label > "b"].split()))
    assert len(shown) == 2
    width, height = display.figure_.canvas.get_width_height()
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= width
    assert 0 <= box.y0 < box.y1 <= height


def test_a_column_of_labels_is_taken_as_by_fit(digits):
    X, y = digits[0][:60], digits[1][:60] % 3
    clf = ImprintClassifier("all").fit(X, y)
    for display in (CollapseDisplay, FamiliarityDisplay, ProxyDisplay):
        with pytest.warns(UserWarning, match="column-vector"):
            found = display.from_estimator(clf, X, y[:, None])
        if display is CollapseDisplay:
            expected = display.from_estimator(clf, X, y)
            np.testing.assert_array_equal(found.gain, expected.gain)


def test_half_a_surrogate_pair_is_drawn_as_an_escape():
    """A name of a file that is no UTF-8 has one, where Python reads it."""
    display = ProxyDisplay.from_predictions([[0.0, 1.0], [1.0, 0.0]], ["a\udcff", "b"])
    display.figure_.canvas.draw()
    first, _ = display.ax_.get_legend().get_texts()
    assert first.get_text() == r"a\udcff"


def test_familiarities_are_columns_or_lists():
    display = FamiliarityDisplay.from_predictions([[0.5], [0.7]], [0.1])
    assert display.auroc == 1
    with pytest.raises(ValueError, match="1d array"):
        FamiliarityDisplay.from_predictions(np.eye(2), [0.1])


def test_a_threshold_and_bars_are_numbers():
    for wrong in ("auto", [0.5]):
        with pytest.raises(TypeError, match=r"^threshold must be a number"):
            FamiliarityDisplay.from_predictions([0.5], [0.1], threshold=wrong)
    display = FamiliarityDisplay.from_predictions([0.5], threshold=np.float32(0.2))
    for wrong in (0, -1, 1.5, "auto", None):
        with pytest.raises(ValueError, match="n_bins must be an int of at least 1"):
            display.plot(n_bins=wrong)


@pytest.mark.parametrize(
    "display", [ExplanationDisplay, FamiliarityDisplay, ProxyDisplay]
)
def test_labels_of_another_type_are_refused(display, digits):
    """All of them would be taken for wrong or unknown."""
    X, y = digits[0][:60], digits[1][:60]
    clf = ImprintClassifier("mean").fit(X, y)
    with pytest.raises(ValueError, match=r"type of those .*, such as 0; got '0'"):
        display.from_estimator(clf, X[:3], y[:3].astype(str))


def test_what_has_no_classifier_is_refused(digits):
    with pytest.raises(
        TypeError,
        match=r"^estimator must be .* ends with one; got FoundationEmbedder\.$",
    ):
        FamiliarityDisplay.from_estimator(FoundationEmbedder(Lengths()), *digits)


def test_an_adapted_classifier_has_a_part_to_inspect(digits):
    X, y = digits[0][:100], digits[1][:100]
    clf = AdaptedClassifier(ImprintClassifier("mean").fit(X, y)).fit(X, y)
    with pytest.raises(TypeError, match=r"got AdaptedClassifier\. Pass its imprint_"):
        FamiliarityDisplay.from_estimator(clf, X, y)
    assert FamiliarityDisplay.from_estimator(clf.imprint_, X, y).auroc is None


@pytest.mark.parametrize("search", [ImprintClassifierCV, GridSearchCV])
def test_searches_have_a_classifier_once_they_have_refitted_it(search, digits):
    X, y = digits[0][:60], digits[1][:60]
    search = search(ImprintClassifier("mean"), {"metric": ["dot"]}, cv=2)
    for _ in range(2):
        with pytest.raises(TypeError, match="once it has been fitted with refit=True"):
            FamiliarityDisplay.from_estimator(search, X, y)
        search.set_params(refit=False).fit(X, y)
    search.set_params(refit=True).fit(X, y)
    assert FamiliarityDisplay.from_estimator(search, X, y).auroc is None
