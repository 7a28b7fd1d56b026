import copy
import threading

import numpy as np
import pytest
from embedders import pictures, tiny_vision, to_tensor

from skimprint.embedding._fingerprint import (
    UncacheableError,
    digest,
    image_preprocessing_digest,
)

torch = pytest.importorskip("torch", reason="needs torch")

from skimprint.embedding._frozen import (  # noqa: E402
    evaluating,
    module_digest,
    state_of,
)


def test_digest_tells_values_apart():
    values = [1, 1.0, "1", b"1", None, True, [1], [[1]], (), {"a": 1}, {"a": 2}]
    values += [np.ones(2), np.ones((2, 1)), torch.ones(2), torch.ones(2).half()]
    values += [["a", "bc"], ["ab", "c"], pictures(1)[0]]
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


def test_module_state_is_dropped_with_the_module():
    state = state_of(module := tiny_vision())
    assert state_of(module) is state
    copied = copy.copy(module)
    assert state_of(copied) is not state


def test_preprocessing_is_told_apart_by_what_it_does():
    def resized(size):
        return lambda image: np.asarray(image.resize((size, size)))

    digests = {image_preprocessing_digest(resized(size)) for size in (31, 32, 32)}
    assert len(digests) == 2
    assert image_preprocessing_digest(to_tensor) not in digests


def test_random_preprocessing_cannot_be_cached():
    rng = np.random.default_rng(0)
    with pytest.raises(UncacheableError, match="different results for the same image"):
        image_preprocessing_digest(lambda image: rng.standard_normal(3))


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
