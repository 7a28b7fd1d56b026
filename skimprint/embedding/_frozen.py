"""A module that is borrowed: evaluated, fingerprinted, and given back as it was."""

import contextlib
import copy
import threading
import weakref
from itertools import chain

from ._fingerprint import (
    UncacheableError,
    structure_digest,
    weights_digest,
    weights_stamp,
)

_STATES = weakref.WeakKeyDictionary()
_STATES_LOCK = threading.Lock()


class ModuleState:
    """What is remembered of a module, or of any model, for as long as it lives."""

    def __init__(self):
        self.lock = threading.Lock()
        self.users = 0
        self.was_training = []
        self.stamp = None
        self.weights = None
        self.digest = None
        self.copies = {}
        self.batch_limit = None
        self.warned = False


def state_of(model):
    """Return what is remembered of a model; nothing if it cannot be kept track of."""
    try:
        with _STATES_LOCK:
            return _STATES.setdefault(model, ModuleState())
    except TypeError:  # neither hashable nor open to weak references
        return ModuleState()


@contextlib.contextmanager
def evaluating(module):
    """Hold a module in eval mode; the last of its users restores the training mode.

    Parameters
    ----------
    module : torch.nn.Module
        Left as it was found, part by part.
    """
    state = state_of(module)
    with state.lock:
        if state.users == 0:
            state.was_training = [part for part in module.modules() if part.training]
            for part in state.was_training:
                part.training = False
        state.users += 1
    try:
        yield
    finally:
        with state.lock:
            state.users -= 1
            if state.users == 0:
                for part in state.was_training:
                    part.training = True
                state.was_training = []


def module_digest(module, changes=True):
    """Digest a module: structure, parameters and buffers.

    Parameters
    ----------
    module : torch.nn.Module
        Its weights are read in full when they have changed since the last time.
    changes : bool, default=True
        Whether somebody else holds the module and may change it.

    Returns
    -------
    name : str
        Hexadecimal digest.
    """
    state = state_of(module)
    stamp = weights_stamp(module) if changes or state.digest is None else state.stamp
    with state.lock:
        if state.stamp != stamp:
            state.weights, state.stamp = weights_digest(module), stamp
        if changes or state.digest is None:
            state.digest = structure_digest(module) + state.weights
        return state.digest


def on_device(module, device):
    """Return the module if it is on the device, else a copy of it there.

    Parameters
    ----------
    module : torch.nn.Module
        Stays where it is.
    device : torch.device
        Where it is needed.

    Returns
    -------
    module : torch.nn.Module
        To be used in place of the one given.
    """
    if module_device(module) in (None, device):
        return module
    state = state_of(module)
    try:
        stamp = structure_digest(module), weights_stamp(module)
    except UncacheableError:
        stamp = object()  # equal to none, so that each time makes its own copy
    with state.lock:
        if device not in state.copies or state.copies[device][0] != stamp:
            state.copies[device] = stamp, copy.deepcopy(module).to(device)
        return state.copies[device][1]


def module_device(module):
    """Device of a module's first parameter or buffer, or None if it has neither."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return None if tensor is None else tensor.device
