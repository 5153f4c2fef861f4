"""The page's figures: valid for plotly, and drawn from the numbers of front.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from page_data import front

from rslit.front import write_front
from rslit.front.page.figures import experts_of, front_figure, lam_figures, slack_figures
from rslit.front.page.many import parallel_figure, spider_figure, ternary_figures


def trace(figure: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in figure["data"] if one.get("name") == name)


def valid(figure: dict[str, Any]) -> None:
    """Plotly refuses what its JavaScript would silently ignore."""
    go.Figure({"data": figure["data"], "layout": figure["layout"]})


@pytest.mark.parametrize(("experts", "seeds"), [(2, 1), (2, 3), (3, 1), (4, 1)])
def test_all_are_valid(experts: int, seeds: int, tmp_path: Path) -> None:
    data = front(tmp_path, experts=[f"e{k}" for k in range(experts)], seeds=seeds).data
    figures = [front_figure(data), *lam_figures(data), *slack_figures(data), *ternary_figures(data)]
    figures += [one for one in (parallel_figure(data), spider_figure(data)) if one is not None]
    # The front, LMC per reward; λ or triangle per reward for two and three; from three rewards on the two of all.
    assert len(figures) == 1 + experts + (experts if experts < 4 else 0) + (2 if experts > 2 else 0)
    for figure in figures:
        valid(figure)


def test_front_is_the_table(tmp_path: Path) -> None:
    data = front(tmp_path, seeds=3).data
    figure = front_figure(data)
    soups = trace(figure, "soups")
    rows = [row for row in data["points"] if row["kind"] == "soup"]
    assert soups["x"] == [row["scores"]["likes risky"]["estimate"] for row in rows]
    assert soups["y"] == [row["scores"]["likes cautious"]["estimate"] for row in rows]
    high = [row["scores"]["likes risky"]["high"] - row["scores"]["likes risky"]["estimate"] for row in rows]
    assert soups["error_x"]["array"] == pytest.approx(high)
    assert [colour == "white" for colour in soups["marker"]["color"]] == [not row["nondominated"] for row in rows]
    assert [p["point"] for p in experts_of(data)] == ["risky=1,cautious=0", "risky=0,cautious=1"]
    assert trace(figure, "interpolated scores")["x"] == trace(figure, "experts")["x"]
    assert "risky=1, cautious=0" in soups["text"][0]
    stairs = {f"attained by {share} % of seeds": corners for share, corners in data["attainment"]["soup"].items()}
    assert len(stairs) == 3
    for name, corners in stairs.items():
        assert sorted(zip(trace(figure, name)["x"], trace(figure, name)["y"], strict=True)) == sorted(
            map(tuple, corners)
        )
    kinds = [trace(figure, name)["marker"]["symbol"] for name in ("soups", "MORL", "initialisation", "experts")]
    assert len(set(kinds)) == 4  # never colour alone


def test_axes_hold_every_reward(tmp_path: Path) -> None:
    data = front(tmp_path, experts=("a", "b", "c")).data
    figure = front_figure(data)
    assert [axis["name"] for axis in figure["axes"]] == data["rewards"]
    number = figure["data"].index(trace(figure, "MORL"))
    morl = [row for row in data["points"] if row["kind"] == "morl"]
    axis = figure["axes"][2]
    assert axis["values"][number] == [row["scores"]["likes c"]["estimate"] for row in morl]
    assert len(axis["bars"][number]["array"]) == len(morl)
    assert all(len(axis["values"]) == len(figure["data"]) for axis in figure["axes"])


def test_it_opens_on_the_rewards_to_draw(tmp_path: Path) -> None:
    front(tmp_path, experts=("a", "b", "c"))
    scores = tmp_path / "seed0" / "scores.parquet"
    result = write_front([scores], tmp_path / "drawn", replicates=50, rewards=["likes c", "likes a"])
    assert result.data["drawn"] == ["likes c", "likes a"]
    figure = front_figure(result.data)
    assert [figure["layout"][name]["title"]["text"] for name in ("xaxis", "yaxis")] == ["likes c", "likes a"]
    soups = [row["scores"] for row in result.data["points"] if row["kind"] == "soup"]
    drawn = trace(figure, "soups")
    assert list(zip(drawn["x"], drawn["y"], strict=True)) == [
        (row["likes c"]["estimate"], row["likes a"]["estimate"]) for row in soups
    ]
    page = result.files["html"].read_text()
    across, up = page.split("data-axis='y'>")[0].split("data-axis='x'>")[1], page.split("data-axis='y'>")[1]
    assert "<option value='2' selected>likes c</option>" in across
    assert "<option value='0' selected>likes a</option>" in up.split("</select>")[0]


def test_each_reward_along_lam(tmp_path: Path) -> None:
    data = front(tmp_path).data
    risky, cautious = lam_figures(data)
    assert trace(risky, "soups")["x"] == [1, 0.75, 0.5, 0.25, 0]
    rows = {row["lam"]["risky"]: row["scores"]["likes cautious"] for row in data["points"] if row["kind"] == "soup"}
    assert trace(cautious, "soups")["y"] == [rows[lam]["estimate"] for lam in (1, 0.75, 0.5, 0.25, 0)]
    assert trace(cautious, "interval")["y"][:5] == [rows[lam]["low"] for lam in (1, 0.75, 0.5, 0.25, 0)]
    slack = slack_figures(data)[0]
    assert slack["title"] == "likes risky: holds"
    assert slack["data"][-1]["y"] == [row["slack"]["likes risky"]["estimate"] for row in data["lmc"]["points"]]


def test_triangles_and_spider(tmp_path: Path) -> None:
    data = front(tmp_path, experts=("a", "b", "c"), parts=3).data
    first = ternary_figures(data)[0]["data"][0]
    rows = [row for row in data["points"] if row["kind"] == "soup"]
    assert (first["a"], first["b"]) == ([row["lam"]["a"] for row in rows], [row["lam"]["b"] for row in rows])
    assert first["marker"]["color"] == [row["scores"]["likes a"]["estimate"] for row in rows]
    spider = spider_figure(data)
    assert spider is not None
    names = [one["name"] for one in spider["data"]]
    assert names == ["expert a", "expert b", "expert c", "uniform soup", "initialisation", "MORL, mu 0.333,0.333,0.333"]
    for one in spider["data"]:
        assert one["r"][0] == one["r"][-1]  # closed
        assert 0 <= min(one["r"]) <= max(one["r"]) <= 1
    assert max(spider["data"][0]["r"]) == spider["data"][0]["r"][0] == 1  # expert a is the best at its reward
