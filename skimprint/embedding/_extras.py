"""Optional libraries, imported where they are used."""

import importlib

# What to install for each library that is imported late.
_PACKAGES = {
    "timm": "skimprint[timm]",
    "torchvision": "skimprint[torchvision]",
    "transformers": "skimprint[transformers]",
    "sentence_transformers": "skimprint[text]",
    "open_clip": "skimprint[open-clip]",
    "huggingface_hub": "skimprint[transformers]",
    "torch": "skimprint[timm]",
    "PIL": "skimprint[timm]",
    "tqdm": "skimprint[all]",
    "cupy": "cupy-cuda12x",
    "safetensors": "skimprint[files]",
    "skops": "skimprint[files]",
    "onnx": "skimprint[export]",
    "skl2onnx": "skimprint[export]",
}


def require(name, purpose):
    """Import an optional library, or say what to install.

    Parameters
    ----------
    name : str
        Name of the module to import.
    purpose : str
        What it is needed for: the start of the error message.

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
            f'pip install "{_PACKAGES[library]}"'
        ) from error
