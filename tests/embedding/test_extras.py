import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import pytest
from embedders import mean_colour

from skimprint import FoundationEmbedder
from skimprint.embedding._extras import _PACKAGES, require
from skimprint.embedding._loaders import LOADERS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]

# Libraries that are imported by another name than they are installed by.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cupy": "cupy-cuda12x",
    "open_clip": "open_clip_torch",
}

CURES = _PACKAGES | {
    loader.library.partition(".")[0]: loader.package
    for loader in map(pkgutil.resolve_name, LOADERS.values())
}


def name_of(requirement):
    name = re.match(r"[\w.-]+", requirement)[0]
    return name.lower().replace("_", "-")


@pytest.mark.parametrize("library", CURES)
def test_what_to_install_has_the_library_itself(library):
    """And is not an extra that has gigabytes of others beside it, or none at all."""
    cure = CURES[library]
    extra = re.fullmatch(r"skimprint\[(.*)\]", cure)
    requirements = EXTRAS[extra[1]] if extra else [cure]
    wanted = DISTRIBUTIONS.get(library, library).lower().replace("_", "-")
    assert wanted in map(name_of, requirements)


@pytest.mark.parametrize("library", CURES)
def test_what_to_install_is_as_new_as_the_extras_ask_for(library):
    everywhere = {req for extra in EXTRAS.values() for req in extra}
    cure = CURES[library]
    if name_of(cure) in map(name_of, everywhere) and name_of(cure) != "skimprint":
        assert cure in everywhere


def test_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(_PACKAGES, "no_such_library", "no-such-library>=1")
    words = "Drawing needs the library 'no_such_library', which is not installed: "
    with pytest.raises(ImportError, match=f'^{words}pip install "no-such-library>=1"$'):
        require("no_such_library.of_it", "Drawing")


def test_missing_pillow_is_named_alone(monkeypatch):
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "pillow>=10\.3"'):
        FoundationEmbedder(mean_colour, modality="image").transform([b"data"])
