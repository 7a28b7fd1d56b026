"""Compilers for GPUs, which need none: nvcc, and NVRTC, with which CuPy compiles."""

import ctypes
import ctypes.util
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

_ARCHITECTURE = "sm_90"


def nvcc(code, options, folder):
    """Machine code by NVIDIA's compiler; skips the test without one."""
    program = shutil.which("nvcc") or pytest.skip("needs nvcc")
    source, binary = folder / "kernels.cu", folder / "kernels.cubin"
    source.write_text(code)
    warnings = ["-Werror", "all-warnings"]
    arguments = [f"-arch={_ARCHITECTURE}", "-cubin", *warnings, *options]
    subprocess.run([program, *arguments, "-o", binary, source], check=True)
    return binary.read_bytes()


def nvrtc(code, options, folder):
    """Machine code by NVRTC, from the wheel or the system; skips the test without."""
    library = ctypes.CDLL(_find_nvrtc() or pytest.skip("needs nvidia-cuda-nvrtc-cu12"))
    program = ctypes.c_void_p()
    size = ctypes.c_size_t()
    options = [f"--gpu-architecture={_ARCHITECTURE}", *options]
    options = [option.encode() for option in options]
    arguments = (ctypes.c_char_p * len(options))(*options)

    def read(what):
        getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{what}")(program, text)
        return text.raw

    library.nvrtcCreateProgram(
        ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None
    )
    try:
        failed = library.nvrtcCompileProgram(program, len(options), arguments)
        log = read("ProgramLog").strip(b"\n\0").decode()
        assert not failed, log
        assert "warning" not in log, log
        return read("CUBIN")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _find_nvrtc():
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations if package else ():
        found = sorted(Path(folder).glob("*/lib/libnvrtc.so.*"))
        if found:
            return str(found[-1])
    return ctypes.util.find_library("nvrtc")
