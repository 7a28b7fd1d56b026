"""Both ways that groups of several clusters go."""

import pytest

from skimprint.cluster._kmeans import routes


@pytest.fixture(params=["gram", "rows"])
def route(request, monkeypatch):
    """Send every group with more rows than clusters one way."""
    limit = 10_000 if request.param == "gram" else 0
    monkeypatch.setattr(routes, "_SMALL", limit)
    monkeypatch.setattr(routes, "_MAX_GRAM", limit)
    return request.param
