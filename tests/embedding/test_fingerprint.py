import copy
import functools
import importlib
import inspect
import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from embedders import pictures, tiny_vision, to_tensor

from skimprint import FoundationEmbedder
from skimprint.embedding._backbone import Options
from skimprint.embedding._fingerprint import (
    UncacheableError,
    code_digest,
    digest,
    preprocessing_digest,
    structure_digest,
    weights_digest,
)
from skimprint.embedding._loaders import backbone_for

torch = pytest.importorskip("torch", reason="needs torch")

from skimprint.embedding._frozen import (  # noqa: E402
    evaluating,
    module_digest,
    notes_of,
    on_device,
)


def test_digest_tells_values_apart():
    values = [1, 1.0, "1", b"1", None, True, [1], [[1]], (), {"a": 1}, {"a": 2}]
    values += [np.ones(2), np.ones((2, 1)), torch.ones(2), torch.ones(2).half()]
    values += [["a", "bc"], ["ab", "c"]]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_same_weights_same_digest():
    module = tiny_vision()
    assert module_digest(module) == module_digest(tiny_vision())
    assert module_digest(module) == module_digest(copy.deepcopy(module))
    assert module_digest(module) == module_digest(module.train())


def add_in_place(module):
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] += 1


def write_to_data(module):
    module[0].weight.data[0, 0, 0, 0] += 1


def swap_values(module):
    weight = module[0].weight.data
    weight[0], weight[1] = weight[1].clone(), weight[0].clone()


def write_through_numpy(module):
    module[0].weight.detach().numpy()[0, 0, 0, 0] += 1


def change_buffer(module):
    module[1].running_mean += 1


def load_weights(module):
    module.load_state_dict(tiny_vision(seed=1).state_dict())


def change_setting(module):
    module[0].stride = (2, 2)


def add_layer(module):
    module.append(torch.nn.ReLU())


CHANGES = [
    add_in_place,
    write_to_data,
    swap_values,
    write_through_numpy,
    change_buffer,
    load_weights,
    change_setting,
    add_layer,
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_changes_the_digest(change):
    module = tiny_vision()
    before = module_digest(module)
    change(module)
    assert module_digest(module) != before


def test_attributes_and_code_are_part_of_the_digest():
    class Scaled(torch.nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def forward(self, x):
            return x * self.scale

    first = module_digest(Scaled(1.0))
    assert module_digest(Scaled(2.0)) != first
    Scaled.forward = lambda self, x: x + self.scale
    assert module_digest(Scaled(1.0)) != first


class Holder(torch.nn.Module):
    """Holds anything, and nothing else."""

    def __init__(self, held):
        super().__init__()
        self.held = held

    def forward(self, x):
        return x


class Plain:
    """An object that is no module."""

    def __init__(self, value):
        self.value = value


def closure(value):
    """Make a function that differs from others by its closure only."""
    return lambda x: x * value


def with_default(value):
    """Make a function that differs from others by a default only."""

    def scale(x, factor=value):
        return x * factor

    return scale


@pytest.mark.parametrize(
    "first, second",
    [
        (torch.relu, torch.tanh),
        ([1], [5]),
        ({"a": [1]}, {"a": [2]}),
        ({1}, {2}),
        (torch.ones(2), torch.zeros(2)),
        (np.ones(2), np.zeros(2)),
        (closure(1), closure(2)),
        (with_default(1), with_default(2)),
        (Plain(1), Plain([2])),
        ([torch.nn.ReLU()], [torch.nn.Tanh()]),
        ([tiny_vision(seed=0)], [tiny_vision(seed=1)]),
        (torch.float32, torch.float16),
    ],
)
def test_whatever_a_module_holds_is_part_of_the_digest(first, second):
    assert structure_digest(Holder(first)) != structure_digest(Holder(second))
    copied = copy.deepcopy(Holder(first))
    assert structure_digest(Holder(first)) == structure_digest(copied)


def test_inherited_code_and_hooks_are_part_of_the_digest():
    class Base(torch.nn.Module):
        scale = 1

        @property
        def offset(self):
            return 1

        def forward(self, x):
            return x * self.scale + self.offset

    class Sub(Base):
        pass

    digests = [structure_digest(Sub())]
    Base.forward = lambda self, x: x + self.scale
    digests.append(structure_digest(Sub()))
    Base.scale = 2
    digests.append(structure_digest(Sub()))
    Base.offset = property(lambda self: 2)
    digests.append(structure_digest(Sub()))
    module = Sub()
    module.register_forward_hook(lambda module, args, output: output + 1)
    digests.append(structure_digest(module))
    assert len(set(digests)) == len(digests)


def decorated(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args)

    return call


# What a class may define, where `value` is all that tells one from the other.
DEFINED = {
    "default": "def forward(self, x, factor=value): return x * factor",
    "keyword": "def forward(self, x, *, factor=value): return x * factor",
    "closure": "def forward(self, x): return x * value",
    "static": "f = staticmethod(lambda x, factor=value: x * factor)",
    "property": "f = property(lambda self: value)",
    "decorated": "@decorated\n  def f(self): return value",
    "no_grad": "@torch.no_grad()\n  def f(self): return value",
    "cached": "f = functools.cache(lambda self: value)",
    "cached property": "f = functools.cached_property(lambda self: value)",
    "partial": "f = functools.partialmethod(torch.nn.Module.train, value)",
    "tuple": "f = (value,)",
    "list": "f = [1, [value]]",
    "dict": "f = {'a': value}",
    "set": "f = {value}",
    "array": "f = np.array([value])",
    "tensor": "f = torch.tensor([value])",
}


@pytest.mark.parametrize("body", DEFINED.values(), ids=DEFINED)
def test_all_that_a_class_defines_is_part_of_the_digest(body):
    def digest_with(value):
        code = (
            f"def make(value):\n class Mine(torch.nn.Module):\n  {body}\n return Mine"
        )
        exec(code, names := globals() | {"__name__": "of_mine"})
        return structure_digest(names["make"](value)())

    assert digest_with(1) == digest_with(1)
    assert digest_with(1) != digest_with(2)


def test_annotations_and_places_of_a_class_do_not_show():
    """Since Python 3.14, a function that makes annotations knows the class's line."""
    source = (
        "class Annotated(torch.nn.Module):\n"
        "    scale: float = 2.0\n"
        "    def forward(self, x: torch.Tensor) -> torch.Tensor: return x\n"
    )
    digests = set()
    for text in (source, "# a comment\n\n" + source):
        names = {"torch": torch, "__name__": "model_of_mine"}
        exec(compile(text, "model_of_mine.py", "exec"), names)
        module = names["Annotated"]()
        digests.add(structure_digest(module))
        inspect.get_annotations(type(module))  # which may be kept
        digests.add(structure_digest(module))
    assert len(digests) == 1


def test_a_logger_is_told_by_its_name():
    before = structure_digest(Holder(logging.getLogger("skimprint.one")))
    logging.getLogger("skimprint.another").setLevel("ERROR")  # all know each other
    assert structure_digest(Holder(logging.getLogger("skimprint.one"))) == before


def test_variables_that_are_deleted_are_no_obstacle():
    kept = deleted = 1

    def function(x):
        return x * kept if x else x * deleted  # noqa: F821

    before = structure_digest(Holder(function))
    del deleted
    assert structure_digest(Holder(function)) != before


@pytest.mark.parametrize(
    "call",
    [
        "scaled(x)",
        "helpers.scaled(x)",
        "getattr(helpers, 'scaled')(x)",
        "helpers.TABLE['scale'](x)",
        "x * helpers.FACTORS[0]",
        "x * __import__('helpers_of_mine').FACTORS[0]",
    ],
)
def test_helpers_from_other_files_of_the_user_are_followed(tmp_path, monkeypatch, call):
    """However they are reached, by what the module makes of probe items."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "model_of_mine.py").write_text(
        "import helpers_of_mine as helpers\n"
        "import torch\n"
        "from helpers_of_mine import scaled\n"
        "class Mine(torch.nn.Module):\n"
        f"    def forward(self, x): return {call}\n"
    )

    def digest_with(body):
        for name in ("model_of_mine", "helpers_of_mine"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        # A file of the same size and second would be taken for the old one.
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        (tmp_path / "helpers_of_mine.py").write_text(body)
        importlib.invalidate_caches()
        module = importlib.import_module("model_of_mine").Mine()
        return FoundationEmbedder(module).fit(torch.eye(3)).fingerprint_

    deep = (
        "FACTORS = [{}]\n"
        "def factor(): return FACTORS[0]\n"
        "def scaled(x): return factor() * x\n"
        "TABLE = dict(scale=scaled)\n"
    )
    digests = [digest_with(deep.format(number)) for number in (2, 3, 2)]
    assert digests[0] == digests[2] != digests[1]


def test_modules_that_refer_to_themselves_have_a_digest():
    module = Holder([])
    module.held.append(module)
    module.held.append(module.forward)
    assert structure_digest(module) == structure_digest(copy.deepcopy(module))


def test_what_holds_no_settings_is_no_obstacle(tmp_path):
    module = Holder(threading.Lock())
    assert structure_digest(module) == structure_digest(Holder(threading.Lock()))
    FoundationEmbedder(module, cache_dir=tmp_path).transform(torch.eye(3))


FACTOR = 2


def scaled(x):
    """Scale by what stands elsewhere."""
    return x * FACTOR


class Scaling(torch.nn.Module):
    """Calls a function by its global name."""

    def forward(self, x):
        return scaled(x)


@pytest.mark.parametrize("name", ["scaled", "FACTOR"])
def test_what_a_module_calls_by_name_shows_in_its_fingerprint(monkeypatch, name):
    def fingerprint(items, **parameters):
        embedder = FoundationEmbedder(Scaling(), **parameters)
        return embedder.fit(items).fingerprint_

    before = fingerprint(torch.eye(3)), fingerprint(pictures(), preprocess=to_flat)
    assert before[0] == fingerprint(torch.eye(5))  # not by what is embedded
    monkeypatch.setitem(globals(), name, 3 if name == "FACTOR" else lambda x: x * 3)
    after = fingerprint(torch.eye(3)), fingerprint(pictures(), preprocess=to_flat)
    assert not {*before} & {*after}


def to_flat(image):
    """Preprocess an image to one row."""
    return to_tensor(image).flatten()


def test_rounding_does_not_show_in_a_fingerprint():
    module = tiny_vision()
    noisy = copy.deepcopy(module)
    noisy.register_forward_hook(lambda module, args, rows: rows * NOISE)
    module.register_forward_hook(lambda module, args, rows: rows * ONE)
    outputs = [
        backbone_for(each, Options(), to_tensor)._outputs() for each in (module, noisy)
    ]
    assert outputs[0] == outputs[1]


ONE, NOISE = 1, 1 + 1e-7


def test_sets_in_code_do_not_depend_on_the_hash_seed():
    code = (
        "from skimprint.embedding._fingerprint import _code_parts, digest\n"
        "def f(x): return x in {'mean', 'avg', 'average', 'm'}\n"
        "print(digest(_code_parts(f.__code__)))"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in range(4)
    }
    assert len(names) == 1


class AtOnePlace:
    """Objects of which a set is in the order in which they came."""

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return 0


@pytest.mark.parametrize("kind", [set, frozenset])
@pytest.mark.parametrize("held", ["set", "sets in a set", "defaults"])
def test_sets_whose_members_are_seen_again_do_not_depend_on_their_order(kind, held):
    def name_of(order):
        listed = [AtOnePlace(name) for name in "abc"]
        some = kind([listed[i] for i in order])
        assert [each.name for each in some] == ["abc"[i] for i in order]
        if held == "sets in a set":
            some = {frozenset(some), "d"}
        if held == "defaults":
            return structure_digest(Holder([lambda x, some=some: x, listed]))
        return structure_digest(Holder([some, listed]))

    names = {name_of(order) for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0])}
    assert len(names) == 1


@pytest.mark.parametrize("shape", [(4, 4), (4, 3), (2, 8, 2)])
def test_digest_tells_the_order_of_values(shape):
    module = Holder(None)
    module.register_buffer("rows", torch.arange(float(np.prod(shape))).reshape(shape))
    before = weights_digest(module)
    rows = module.rows.data
    rows[0], rows[1] = rows[1].clone(), rows[0].clone()
    assert weights_digest(module) != before


def test_copies_on_a_device_follow_the_structure():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    first = on_device(module, torch.device("meta"))
    assert on_device(module, torch.device("meta")) is first
    module[1] = torch.nn.Tanh()
    assert isinstance(on_device(module, torch.device("meta"))[1], torch.nn.Tanh)


def test_text_preprocessing_is_told_apart_on_long_texts():
    def cut(length):
        return lambda text: [ord(letter) for letter in text[:length]]

    lengths = (20, 64, 512, 4096)
    assert len({preprocessing_digest(cut(length), "text") for length in lengths}) == 4


def test_text_preprocessing_may_refuse_texts_but_not_be_random():
    def picky(text):
        if not text:
            raise RuntimeError("no text")
        return len(text)

    assert preprocessing_digest(picky, "text") != preprocessing_digest(len, "text")
    with pytest.raises(UncacheableError, match="fails for each text"):
        preprocessing_digest(lambda text: text.no_such_method(), "text")
    rng = np.random.default_rng(0)
    with pytest.raises(UncacheableError, match="for the same text"):
        preprocessing_digest(lambda text: rng.random(2), "text")


def test_notes_of_a_module_are_dropped_with_the_module():
    notes = notes_of(module := tiny_vision())
    assert notes_of(module) is notes
    copied = copy.copy(module)
    assert notes_of(copied) is not notes


def test_preprocessing_is_told_apart_by_what_it_does():
    def resized(size):
        return lambda image: np.asarray(image.resize((size, size)))

    digests = {preprocessing_digest(resized(size), "image") for size in (31, 32, 32)}
    assert len(digests) == 2
    assert preprocessing_digest(to_tensor, "image") not in digests


class Padded:
    """A preprocessing that does something about some texts only."""

    def __init__(self, sign, width=3):
        self.sign = sign
        self.width = width

    def __call__(self, text):
        if "~" in text:  # probe items have none
            text = self.pad(text)
        return torch.tensor([float(len(text))])

    def pad(self, text):
        return text.ljust(self.width, self.sign)


def lengths_of(text):
    return torch.tensor([float(len(text))])


def with_rules(replaced, by=""):
    """Make a preprocessing that differs by what is around it."""

    def clean(text, mark="~"):
        return text.replace(mark + replaced, by)

    return lambda text: lengths_of(clean(text))


@pytest.mark.parametrize(
    "first, second",
    [
        (lengths_of, lambda text: lengths_of(text.replace("~", ""))),
        (with_rules("a"), with_rules("b")),
        (with_rules("a"), with_rules("a", "b")),
        (Padded(" ", 3), Padded(" ", 4)),
        (Padded(" ").__call__, Padded(" ", 4).__call__),
        (functools.partial(Padded(" ")), functools.partial(Padded(" ", 4))),
        (functools.cache(with_rules("a")), functools.cache(with_rules("b"))),
    ],
)
def test_preprocessing_is_told_apart_by_its_code_too(first, second, tmp_path):
    module = Holder(None)
    texts = ["~a", "~b", "c"]

    def rows(preprocess, cache_dir):
        embedder = FoundationEmbedder(
            module, preprocess=preprocess, modality="text", cache_dir=cache_dir
        )
        return embedder.transform(texts), embedder.fit(texts).fingerprint_

    expected, name = rows(second, None)
    assert rows(first, tmp_path)[1] != name == rows(second, None)[1]
    np.testing.assert_array_equal(rows(second, tmp_path)[0], expected)


def test_helpers_and_values_of_a_preprocessing_are_followed():
    def digest_with(body, value):
        names = {"__name__": "of_mine", "functools": functools}
        exec(
            f"VALUE = {value}\ndef helper(x): {body}\ndef f(x): return helper(x)", names
        )
        return code_digest(names["f"])

    first = digest_with("return x + VALUE", 1)
    assert digest_with("return x + VALUE", 1) == first
    assert len({first, digest_with("return x + VALUE", 2)}) == 2
    assert digest_with("return x - VALUE", 1) != first
    # What changes in place may be a memory of what was done.
    assert digest_with("return VALUE", []) == digest_with("return VALUE", [1])
    assert code_digest(np.sin) == code_digest(len)


def shrunk(image, size):
    image = image.copy()
    image.thumbnail((size, size))
    return np.asarray(image.resize((8, 8)))


@pytest.mark.parametrize(
    "modality, limited, limits",
    [
        ("image", shrunk, [512, 768, 1024, 512]),
        (
            "audio",
            lambda sound, n: sound["array"][:n],
            [80_000, 160_000, 480_000, 80_000],
        ),
        ("text", lambda text, n: text[:n], [2000, 4000, 8000, 2000]),
    ],
)
def test_limits_of_a_preprocessing_show_on_large_items(modality, limited, limits):
    first, *others = (
        preprocessing_digest(lambda item, n=n: limited(item, n), modality)
        for n in limits
    )
    assert len({first, *others}) == 3
    assert others[-1] == first


def test_random_preprocessing_cannot_be_cached():
    rng = np.random.default_rng(0)
    with pytest.raises(UncacheableError, match="different results for the same image"):
        preprocessing_digest(lambda image: rng.standard_normal(3), "image")


def test_preprocessing_of_sounds_is_told_apart_too(tmp_path):
    def first(n_samples):
        return lambda sound: torch.as_tensor(sound["array"][:n_samples])

    sounds = [(np.sin(np.arange(1000.0) * number), 16_000) for number in range(3)]
    for n_samples in (8, 9):
        embedder = FoundationEmbedder(
            Holder(None), preprocess=first(n_samples), modality="audio"
        ).set_params(cache_dir=tmp_path)
        for _ in range(2):
            assert embedder.transform(sounds).shape == (3, n_samples)
        assert embedder.cache_info()[:3:2] == (3 * (n_samples - 7), 3 * (n_samples - 7))


def test_a_preprocessing_that_fails_is_told_so(tmp_path):
    embedder = FoundationEmbedder(
        tiny_vision(), preprocess=lambda image: image, cache_dir=tmp_path
    )
    with pytest.raises(
        UncacheableError, match=r"each image.*return one tensor, got Image"
    ):
        embedder.transform(pictures())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_compiled_modules_cannot_be_cached(tmp_path):
    module = torch.nn.Sequential(torch.jit.script(torch.nn.LayerNorm(3, eps=0.1)))
    embedder = FoundationEmbedder(module).fit(torch.eye(3))
    assert embedder.fingerprint_ is None
    with pytest.raises(UncacheableError, match=r"LayerNorm, compiled by torch\.jit"):
        embedder.set_params(cache_dir=tmp_path).transform(torch.eye(3))


def test_eval_mode_is_given_back_part_by_part():
    module = tiny_vision().train()
    module[1].eval()
    before = [part.training for part in module.modules()]
    with evaluating(module):
        assert not any(part.training for part in module.modules())
        with evaluating(module):
            pass
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == before


def test_eval_mode_is_held_until_the_last_thread_is_done():
    module = tiny_vision().train()
    first_in, second_out = threading.Event(), threading.Event()
    modes = []

    def first():
        with evaluating(module):
            first_in.set()
            second_out.wait(10)
            modes.append(module.training)

    thread = threading.Thread(target=first)
    thread.start()
    first_in.wait(10)
    with evaluating(module):
        pass
    second_out.set()
    thread.join()
    assert modes == [False]
    assert module.training
