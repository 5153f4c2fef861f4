from __future__ import annotations

import re
from pathlib import Path

from rslit.front import link_episodes


def test_links_lead_to_the_episodes(tmp_path: Path) -> None:
    for seed in ("0", "1", "2"):
        (tmp_path / seed / "sweep" / "episodes").mkdir(parents=True)
    for seed in ("0", "2"):
        (tmp_path / seed / "sweep" / "episodes" / "index.html").touch()
    out = tmp_path / "front & more"
    out.mkdir()
    page = link_episodes([tmp_path / seed / "sweep" / "scores.parquet" for seed in ("0", "1", "2")], out)
    assert page == out / "episodes.html"
    links = re.findall(r'href="([^"]+)"', page.read_text())
    assert [(out / link).resolve() for link in links] == [
        (tmp_path / seed / "sweep" / "episodes" / "index.html").resolve() for seed in ("0", "2")
    ]


def test_no_episodes_no_page(tmp_path: Path) -> None:
    assert link_episodes([tmp_path / "scores.parquet"], tmp_path) is None
    assert list(tmp_path.iterdir()) == []
