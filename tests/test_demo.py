import sys

import demo
import pytest


def test_the_demo_runs_and_draws(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    picture = tmp_path / "demo.png"
    monkeypatch.setattr(demo, "N_SPLITS", 2)
    monkeypatch.setattr(sys, "argv", ["demo", str(picture)])
    demo.main()
    assert picture.read_bytes().startswith(b"\x89PNG")
    page = tmp_path / "report.html"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    printed = capsys.readouterr().out
    assert f"Report:  {page}" in printed
    for title in demo.METHODS:
        assert title in printed
    assert "best     " in printed
    assert "mistake:" in printed


def test_without_matplotlib_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install \"skimprint\[demo\]\""):
        demo.draw(tmp_path / "demo.png", None, None, None, None)
