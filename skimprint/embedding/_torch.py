"""Modules of torch as backbones: their devices, precision and names."""

import contextlib
import sys
from dataclasses import dataclass, replace

import numpy as np

from .._arrays.threads import after_fork
from . import _frozen
from ._backbone import Backbone
from ._extras import require
from ._fingerprint import digest, probe_items

DTYPES = ("float32", "bfloat16", "float16")


_has_run = False  # whether torch may have started threads of its own here


@after_fork
def _use_one_thread():
    """Do without torch's threads, which a forked process would wait for for ever."""
    if _has_run:
        sys.modules["torch"].set_num_threads(1)


@dataclass(eq=False)
class TorchBackbone(Backbone):
    """A backbone whose model is a ``torch.nn.Module``."""

    @contextlib.contextmanager
    def running(self):
        """Hold the module ready to embed: on its device, in eval mode."""
        global _has_run
        _has_run = True
        module = _frozen.on_device(self.model, self.device)
        with contextlib.nullcontext() if self.owned else _frozen.evaluating(module):
            yield module

    def run(self, model, inputs):
        """Run the module on one batch, without gradients and in its precision."""
        import torch

        # A tensor made in inference mode must not stay behind in a user's module.
        no_grad = torch.inference_mode if self.owned else torch.no_grad
        # float32 means float32, whatever the caller's code runs under.
        autocast = torch.autocast(
            self.device.type,
            dtype=None if self.dtype == "float32" else getattr(torch, self.dtype),
            enabled=self.dtype != "float32",
        )
        # A module in half precision takes nothing else; one of several sees to itself.
        dtypes = {each.dtype for each in model.parameters() if each.is_floating_point()}
        dtype = dtypes.pop() if len(dtypes) == 1 else None
        with no_grad(), autocast:
            return super().run(model, to_device(inputs, self.device, dtype))

    def model_digest(self):
        """Digest the module, and what it does where others may change its code."""
        made = _frozen.module_digest(self.model)
        return made if self.owned else digest(made, self._outputs())

    def _outputs(self):
        """Describe what the module makes of probe items, up to about a hundredth.

        The code that a module calls may be anywhere. What it does shows in its results,
        which are the same on all machines up to rounding only: so they are reduced to
        a few coarse numbers.
        """
        single = replace(self, dtype="float32", truncate_dim=None)
        probes = probe_items(self.modality)[:2]
        described = []
        with self.running() as module:
            for probe in [*probes, *_frozen.probe_tensors(self.model)]:
                try:
                    inputs = self.collate([self.load(probe)])
                    output = single.run(module, inputs)
                    rows = single.as_rows(output, 1)
                except Exception:  # not what this module takes
                    continue
                described.append(_coarse(rows.cpu().numpy()[0]))
                if self.modality != "text":
                    break
        return described


def _coarse(row, n_directions=8):
    """Round a row's length and its direction, seen from a few fixed sides."""
    length = np.linalg.norm(row)
    if not 0 < length < np.inf:
        return [str(length)]
    sides = np.random.default_rng(0).choice([-1.0, 1.0], (n_directions, len(row)))
    return [
        round(float(part), 2) for part in [50 * np.log(length), *sides @ row / length]
    ]


def to_device(inputs, device, dtype=None):
    """Move a tensor, or the tensors in a dict, to a device, and floats to a dtype."""
    if hasattr(inputs, "items"):
        return {key: to_device(value, device, dtype) for key, value in inputs.items()}
    if not hasattr(inputs, "to"):
        return inputs
    inputs = inputs.to(device)
    if dtype is not None and inputs.is_floating_point():
        inputs = inputs.to(dtype)
    return inputs


def resolve(options, module=None):
    """Settle on which device and in which precision a module runs.

    Parameters
    ----------
    options : Options
        Device and dtype among them.
    module : torch.nn.Module, default=None
        A module that somebody has put somewhere already.

    Returns
    -------
    options : Options
        With a ``torch.device`` and the name of a precision.
    """
    dtype = str(options.dtype).removeprefix("torch.")
    dtype = "float32" if dtype == "auto" else dtype
    if dtype not in DTYPES:
        raise ValueError(
            f"dtype={options.dtype!r} is not supported: expected 'auto', 'float32', "
            "'bfloat16' or 'float16'."
        )
    return replace(options, device=_device(options.device, module), dtype=dtype)


def _device(device, module):
    """Turn a name into a device that is there: "auto" is the module's, or the best."""
    torch = require("torch", "Running a model")
    if isinstance(device, str) and device == "auto":
        if module is not None:
            return _frozen.module_device(module) or torch.device("cpu")
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here: {str(error).splitlines()[0]}. "
            "Expected 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or the like: use "
            "device='cpu' or 'auto', or install a build of torch that supports this "
            "machine's GPU."
        ) from error
