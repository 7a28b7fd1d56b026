"""A stand-in for a GPU: the kernels, compiled for the host and run thread by thread."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from skimprint.cluster._kmeans import cuda

_KERNEL = (
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)'
)

_TYPES = {
    "float": np.float32,
    "double": np.float64,
    "int": np.int32,
    "long long": np.int64,
}


def kernels():
    """The parameters of each kernel, by its name."""
    return dict(re.findall(_KERNEL, cuda.source()))


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
        declared = kernels()[name].split(",")
        args = [_as_argument(*pair) for pair in zip(declared, args, strict=True)]
        launch = getattr(self.libraries[shape], f"launch_{name}")
        launch.restype = ctypes.c_char_p
        error = launch(*grid, threads, shared, self.reverse, *args)
        assert error is None, f"{name}: {error.decode()}"

    def _compile(self, shape):
        path = self.folder / "kernels_{}_{}.so".format(*shape)
        code = [f'#include "{Path(__file__).with_name("emulator.h")}"', cuda.source()]
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


def _as_argument(parameter, arg):
    """Pass an argument of the type that the kernel declares: CUDA does not check."""
    kind, star = re.fullmatch(r"\s*(?:const )?(.+?) (\*?)\w+", parameter).groups()
    if star and arg is None:
        return ctypes.c_void_p()
    if not star:
        arg = cuda._as_argument(arg)
    assert isinstance(arg, np.ndarray if star else np.generic), parameter
    assert arg.dtype == _TYPES[kind], f"{parameter.strip()}: got {arg.dtype}"
    if not star:
        return np.ctypeslib.as_ctypes_type(arg.dtype)(arg)
    assert arg.flags.c_contiguous
    return ctypes.c_void_p(arg.ctypes.data)
