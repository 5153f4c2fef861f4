from __future__ import annotations

import base64
import json
import re
from fractions import Fraction
from html.parser import HTMLParser
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from rslit.callbacks.episode_page import Episode, episode_page

BODIES = """
<mujoco>
  <asset>
    <mesh name="wedge" vertex="0 0 0  1 0 0  0 2 0  0 0 3"/>
  </asset>
  <worldbody>
    <geom type="plane" size="0 0 1" pos="0 0 -0.25"/>
    <geom name="post" type="sphere" size="0.5" pos="1 2 3" rgba="1 0 0 1"/>
    <body pos="0 0 1">
      <freejoint/>
      <geom name="arm" type="capsule" size="0.1 0.6" pos="0.1 0.2 0.3" quat="0.5 -0.5 0.5 0.5"/>
      <geom name="ghost" type="sphere" size="0.3" rgba="1 1 1 0"/>
      <body pos="0.5 0 0">
        <joint axis="0 1 0"/>
        <geom name="can" type="cylinder" size="0.2 0.7" euler="30 0 0" rgba="0 0 1 1"/>
        <geom name="egg" type="ellipsoid" size="0.1 0.2 0.4"/>
        <geom name="crate" type="box" size="0.1 0.2 0.3" pos="0 0 1" euler="0 0 90"/>
        <geom name="wedge" type="mesh" mesh="wedge"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


class Page(HTMLParser):
    """Collects what the tests ask for: the data, links, cards and cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.headings: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_data(self, data: str) -> None:
        into = {"script": self.scripts, "td": self.cells, "h1": self.headings, "h2": self.headings}
        if self.tags and self.tags[-1] in into:
            into[self.tags[-1]].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def poses(self, k: int) -> np.ndarray[Any, Any]:
        flat = np.frombuffer(base64.b64decode(self.data["episodes"][k]["poses"]), "<f4")
        return flat.reshape(self.data["episodes"][k]["frames"], self.data["bodies"], 7)

    def total(self, k: int, reward: int) -> np.ndarray[Any, Any]:
        return np.frombuffer(base64.b64decode(self.data["episodes"][k]["totals"][reward]), "<f4")


def episode(**given: Any) -> Episode:
    poses = torch.linspace(-1, 1, 3 * 2 * 7).view(3, 2, 7)
    lam = {"a": Fraction(1, 3), "b": Fraction(2, 3)}
    return Episode(**{"lam": lam, "poses": poses, "totals": {"risky": torch.tensor([0.1, 1e8, -3.0])}, **given})


@pytest.fixture(scope="module")
def model() -> Any:
    return mujoco.MjModel.from_xml_string(BODIES)


def draw(model: Any, episodes: list[Episode]) -> Page:
    return Page(episode_page("A title", "A lead.", model, 0.05, episodes))


def test_frames_are_kept_to_the_bit(model: Any) -> None:
    one = episode()
    page = draw(model, [one])
    assert np.array_equal(page.poses(0), one.poses.numpy())
    assert page.total(0, 0).tolist() == one.totals["risky"].tolist()
    assert (page.data["seconds"], page.data["bodies"], page.data["ground"]) == (0.05, 2, -0.25)
    assert page.data["episodes"][0]["lam"] == "a=1/3,b=2/3"


def test_shapes_are_where_mujoco_puts_the_geoms(model: Any) -> None:
    """Placed at MuJoCo's own body poses, the points lie on the geoms at MuJoCo's own geom poses."""
    data = mujoco.MjData(model)
    data.qpos[:] = [0.3, -0.2, 1.5, 0.5, 0.5, -0.5, 0.5, 0.7]
    mujoco.mj_forward(model, data)
    drawn = [k for k in range(model.ngeom) if model.geom(k).name not in ("", "ghost")]
    shapes = draw(model, [episode()]).data["shapes"]
    assert len(shapes) == len(drawn) == 6
    for k, shape in zip(drawn, shapes, strict=True):
        body = shape["body"] + 1
        assert body == model.geom_bodyid[k]
        points = np.array(shape["points"])
        turned = Rotation.from_quat(data.xquat[body], scalar_first=True).apply(points) + data.xpos[body]
        local = (turned - data.geom_xpos[k]) @ data.geom_xmat[k].reshape(3, 3)
        size, name = model.geom_size[k], model.geom(k).name
        if name == "post":
            want, radius = [[0, 0, 0]], 0.5
        elif name == "arm":
            want, radius = [[0, 0, -0.6], [0, 0, 0.6]], 0.1
        elif name == "can":
            np.testing.assert_allclose(np.hypot(*local.T[:2]), 0.2, atol=1e-4)
            assert set(local[:, 2].round(4)) == {-0.7, 0.7}
            want, radius = local, 0.0
        elif name == "egg":
            np.testing.assert_allclose(((local / size) ** 2).sum(1), 1, atol=1e-3)
            assert ConvexHull(local).volume == pytest.approx(4 / 3 * np.pi * 0.1 * 0.2 * 0.4, rel=0.1)
            want, radius = local, 0.0
        elif name == "crate":
            want, radius = [[x, y, z] for x in (-0.1, 0.1) for y in (-0.2, 0.2) for z in (-0.3, 0.3)], 0.0
        else:
            start = model.mesh_vertadr[0]
            vertices = model.mesh_vert[start : start + model.mesh_vertnum[0]]
            low, high = vertices.min(0), vertices.max(0)
            np.testing.assert_allclose([local.min(0), local.max(0)], [low, high], atol=1e-4)
            want, radius = local, 0.0
        np.testing.assert_allclose(local, want, atol=1e-4, err_msg=name)
        assert shape["radius"] == radius


def test_colours_are_the_models_and_brax_brown_without_one(model: Any) -> None:
    colours = [shape["colour"] for shape in draw(model, [episode()]).data["shapes"]]
    assert colours == [[1, 0, 0], [0.4, 0.33, 0.26], [0, 0, 1], *[[0.4, 0.33, 0.26]] * 3]


def test_no_ground_no_height() -> None:
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='0.1'/></worldbody></mujoco>")
    data = draw(model, [episode()]).data
    assert data["ground"] is None
    assert data["shapes"] == [{"body": -1, "colour": [0.4, 0.33, 0.26], "radius": 0.1, "points": [[0, 0, 0]]}]


def test_a_card_shows_scores_where_they_are_known(model: Any) -> None:
    known = episode(means={"risky": 12.345}, links=[("larger", "a%3D1.html")])
    unknown = episode(means={"risky": float("nan")})
    page = draw(model, [known, unknown, episode()])
    assert page.tags.count("article") == page.tags.count("canvas") == 3
    assert page.headings == ["A title", *["λ: a = 1/3, b = 2/3"] * 3]
    assert page.cells == ["risky", "12.3", "risky", "–", "risky", "–"]
    assert page.links == ["a%3D1.html"]


def test_names_cannot_break_out_of_the_page(model: Any) -> None:
    name = "</script><b onclick='x'>{{data}}"
    bad = episode(lam={name: Fraction(1)}, totals={name: torch.zeros(3)}, links=[(name, "'onclick='x")])
    page = draw(model, [bad])
    assert page.data["episodes"][0]["lam"] == f"{name}=1"
    assert "b" not in page.tags
    assert page.headings[1] == f"λ: {name} = 1"
    assert page.links == ["'onclick='x"]


def test_a_page_needs_nothing_from_outside(model: Any) -> None:
    text = episode_page("t", "l", model, 0.05, [episode()])
    assert not re.search(r"https?:|src=|@import|url\(|import\(", text)
    assert "default-src 'none'" in text
    assert "{{" not in text
