"""A module that is borrowed: evaluated, fingerprinted, and given back as it was."""

import contextlib
import copy
from itertools import chain

from .._arrays.threads import after_fork
from ._backbone import _NOTES, notes_of
from ._fingerprint import structure_digest, weights_digest


@contextlib.contextmanager
def evaluating(module):
    """Hold a module in eval mode; the last of its users restores the training mode.

    Parameters
    ----------
    module : torch.nn.Module
        Left as it was found, part by part.
    """
    notes = notes_of(module)
    with notes.lock:
        if notes.users == 0:
            notes.was_training = [part for part in module.modules() if part.training]
            for part in notes.was_training:
                part.training = False
        notes.users += 1
    try:
        yield
    finally:
        with notes.lock:
            notes.users -= 1
            if notes.users == 0:
                for part in notes.was_training:
                    part.training = True
                notes.was_training = []


@after_fork
def _restore_all():
    """Give modules back that another thread was evaluating when we were forked."""
    for notes in [*_NOTES.values()]:
        for part in notes.was_training:
            part.training = True
        notes.users, notes.was_training = 0, []


def module_digest(module):
    """Digest a module: structure, parameters and buffers."""
    return structure_digest(module) + weights_digest(module)


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
    notes = notes_of(module)
    stamp = module_digest(module)
    with notes.lock:
        if device not in notes.copies or notes.copies[device][0] != stamp:
            notes.copies[device] = stamp, copy.deepcopy(module).to(device)
        return notes.copies[device][1]


def module_device(module):
    """Device of a module's first parameter or buffer, or None if it has neither."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return None if tensor is None else tensor.device


def probe_tensors(module):
    """Make tensors of shapes that a module without preprocessing may take."""
    import torch

    weight = next((weight for weight in module.parameters() if weight.ndim > 1), None)
    width = 3 if weight is None else weight.shape[1]
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(shape, generator=generator)
        for shape in ((width, 224, 224), (width, 32, 32), (width,))
    ]
