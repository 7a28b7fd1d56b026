"""A stand-in for a GPU: the kernels, compiled for the host and run thread by thread."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from skimprint.cluster._kmeans.cuda import source

_KERNEL = (
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)'
)


def kernels():
    """The parameters of each kernel, by its name."""
    return dict(re.findall(_KERNEL, source()))


class Emulated:
    """Launches kernels as `cuda.Cupy` does, on NumPy arrays."""

    xp = np

    # Whether threads and blocks go in reverse, which must change nothing.
    reverse = False

    def __init__(self, folder):
        self.compiler = shutil.which("g++") or pytest.skip("needs g++")
        self.folder = Path(folder)
        self.libraries = {}
        self.launches = []

    def __call__(self, name, grid, threads, *args, shared=0, shape=(1, 1)):
        self.launches.append(name)
        if shape not in self.libraries:
            self.libraries[shape] = self._compile(shape)
        args = map(_as_argument, args)
        launch = getattr(self.libraries[shape], f"launch_{name}")
        launch.restype = ctypes.c_char_p
        error = launch(*grid, threads, shared, self.reverse, *args)
        assert error is None, f"{name}: {error.decode()}"

    def _compile(self, shape):
        path = self.folder / "kernels_{}_{}.so".format(*shape)
        code = [f'#include "{Path(__file__).with_name("emulator.h")}"', source()]
        for name, parameters in kernels().items():
            names = re.findall(r"(\w+)(?:,|$)", parameters)
            code.append(
                f'extern "C" const char *launch_{name}(int x, int y, int threads, '
                f"int bytes, bool reverse, {parameters}) {{ "
                "return emulated::launch(x, y, threads, bytes, reverse, "
                f"[&] {{ {name}({', '.join(names)}); }}); }}"
            )
        options = ["-O1", "-w", "-shared", "-fPIC", "-std=c++17", "-x", "c++", "-"]
        shape = [f"-DTILE_COLUMNS={shape[0]}", f"-DWARPS={shape[1]}"]
        command = [self.compiler, *shape, *options, "-o", str(path)]
        subprocess.run(command, input="\n".join(code), text=True, check=True)
        return ctypes.CDLL(str(path))


def _as_argument(arg):
    if arg is None:
        return ctypes.c_void_p()
    if isinstance(arg, np.ndarray):
        assert arg.flags.c_contiguous
        return ctypes.c_void_p(arg.ctypes.data)
    kinds = {np.float32: ctypes.c_float, np.float64: ctypes.c_double}
    return kinds.get(type(arg), ctypes.c_int)(arg)
