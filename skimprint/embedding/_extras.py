"""Optional libraries, imported where they are used."""

import importlib
from types import ModuleType

# What to install for libraries that no loader stands for.
_PACKAGES = {
    "huggingface_hub": "huggingface_hub",
    "torch": "torch>=2.4",
    "PIL": "pillow>=10.3",
    "cupy": "skimprint[cuda12]",  # or cuda13, as is the driver
    "safetensors": "skimprint[files]",
    "skops": "skimprint[files]",
    "dask": "skimprint[dask]",
    "onnx": "skimprint[export]",
    "skl2onnx": "skimprint[export]",
}


def require(name: str, purpose: str, package: str | None = None) -> ModuleType:
    """Import an optional library, or say what to install.

    Parameters
    ----------
    name : str
        Name of the module to import.
    purpose : str
        What it is needed for: the start of the error message.
    package : str, default=None
        What to install if it is missing; by default that of the library's entry here.

    Returns
    -------
    module : module
        The imported library.
    """
    library = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise  # something that the library itself needs is missing
        raise ImportError(
            f"{purpose} needs the library {library!r}, which is not installed: "
            f'pip install "{package or _PACKAGES[library]}"'
        ) from error
