"""Web pages that play episodes: one file each, with everything in it, to be opened without a network.

Notation: T frames, L bodies, N experts.

Brax's own renderer loads its scripts from the network (Brax ships its viewer, but not the graphics library under it),
so its page comes beside ours, for those who want it. Ours draws on a plain canvas: capsules and spheres, which nearly
all robots of Brax and Gymnasium consist of, as their true silhouettes; everything else as a convex hull.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rslit.soup import format_lam

__all__ = ["Episode", "brax_page", "episode_page"]

_TEMPLATE = Path(__file__).with_name("episode_page.html")
# MuJoCo's and Brax's colours of a geom that was given none.
_UNCOLOURED, _BROWN = (0.5, 0.5, 0.5), (0.4, 0.33, 0.26)


@dataclass(frozen=True)
class Episode:
    """One episode at one λ, step by step.

    Attributes:
        lam: Exact λ by expert.
        poses: float32 (T, L, 7), where the bodies are after each step; see :class:`rslit.envs.PosedEpisodes`.
        totals: What each reward has summed up to after each step, float32 (T,), by reward.
        means: Mean score of this λ in the sweep, by reward; empty if the sweep did not visit this λ.
        links: Other pages, as text and relative address.
        heading: What the episode is called; None is its λ.
    """

    lam: Mapping[str, Fraction]
    poses: Tensor
    totals: Mapping[str, Tensor]
    means: Mapping[str, float] = field(default_factory=dict)
    links: Sequence[tuple[str, str]] = ()
    heading: str | None = None


def episode_page(title: str, lead: str, model: Any, seconds: float, episodes: Sequence[Episode]) -> str:
    """A self-contained page that plays episodes side by side, one card each.

    Args:
        title: Heading.
        lead: What is to be seen, in a sentence or two.
        model: The ``mujoco.MjModel`` of the bodies.
        seconds: Simulated time between two frames.
        episodes: At least one, all of the same bodies and rewards.
    """
    shapes, ground = _shapes(model)
    data = {
        "seconds": seconds,
        "bodies": episodes[0].poses.shape[1],
        "ground": ground,
        "shapes": shapes,
        "episodes": [
            {
                "lam": format_lam(e.lam),
                "frames": len(e.poses),
                "poses": _base64(e.poses),
                "totals": [_base64(total) for total in e.totals.values()],
            }
            for e in episodes
        ],
    }
    parts = {
        "title": html.escape(title),
        "lead": html.escape(lead),
        "width": "420" if len(episodes) > 1 else "900",
        "cards": "\n".join(_card(e, any(other.means for other in episodes)) for e in episodes),
        # Names in JSON must not close the script element they are in.
        "data": json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _TEMPLATE.read_text(encoding="utf-8"))


def brax_page(env: Any, poses: Tensor, seconds: float) -> str:
    """The page of Brax's own renderer, ``brax.io.html``; its scripts come from the network when it is opened.

    Args:
        env: The Brax environment.
        poses: float32 (T, L, 7).
        seconds: Simulated time between two frames.
    """
    from brax.base import Transform
    from brax.io import html as renderer

    states = [SimpleNamespace(x=Transform(pos=p[:, :3].numpy(), rot=p[:, 3:].numpy())) for p in poses]
    # The renderer plays one state per time step of the system, many of which make one step of the environment.
    system = env.sys.tree_replace({"opt.timestep": seconds})
    return str(renderer.render(system, states, height="100vh", colab=False))


def _card(episode: Episode, swept: bool) -> str:
    """An episode's part of the page; with a column of means if any episode has some."""
    lam = ", ".join(f"{name} = {value}" for name, value in episode.lam.items())
    heading = html.escape(f"λ: {lam}" if episode.heading is None else episode.heading)
    column = "<th>mean score in the sweep</th>" if swept else ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td class='total'></td>"
        f"{f'<td>{_number(episode.means.get(name))}</td>' if swept else ''}</tr>"
        for name in episode.totals
    )
    links = " · ".join(f"<a href='{html.escape(address)}'>{html.escape(text)}</a>" for text, address in episode.links)
    return (
        f"<article><h2>{heading}</h2><canvas role='img' aria-label='Animation of the episode at {heading}'></canvas>"
        f"<div class='text'><p class='now'></p><table><thead><tr><th>reward</th><th>so far</th>{column}</tr></thead>"
        f"<tbody>{rows}</tbody></table><p class='links'>{links}</p></div></article>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.1f}"


def _base64(values: Tensor) -> str:
    """float32, little-endian: exact, and shorter than decimals."""
    return base64.b64encode(values.to(torch.float32).contiguous().numpy().astype("<f4").tobytes()).decode()


def _shapes(model: Any) -> tuple[list[dict[str, Any]], float | None]:
    """What to draw of a MuJoCo model, and the height of the ground, if there is any.

    A shape has a body (row of a pose; -1 stays where it is), a colour, and points in the body's frame: with a radius
    it is the capsule around one or two of them, without it their convex hull.
    """
    from mujoco import mjtGeom

    shapes: list[dict[str, Any]] = []
    ground: float | None = None
    for k in range(model.ngeom):
        kind, body, rgba = model.geom_type[k], int(model.geom_bodyid[k]) - 1, model.geom_rgba[k].tolist()
        if kind == mjtGeom.mjGEOM_PLANE:
            ground = float(model.geom_pos[k][2]) if body < 0 else ground
            continue
        if rgba[3] == 0:
            continue
        radius, local = _geom(kind, model.geom_size[k].tolist(), model.geom_aabb[k].tolist())
        position = torch.tensor(model.geom_pos[k])
        points = torch.tensor(local, dtype=torch.float64) @ _rotation(model.geom_quat[k].tolist()).T + position
        plain = all(abs(a - b) < 1e-6 for a, b in zip(rgba, _UNCOLOURED, strict=False))
        colour = _BROWN if plain else rgba[:3]
        shapes.append(
            {
                "body": body,
                "colour": [round(c, 3) for c in colour],
                "radius": radius,
                "points": [[round(v, 5) for v in point] for point in points.tolist()],
            }
        )
    return shapes, ground


def _geom(kind: int, size: Sequence[float], box: Sequence[float]) -> tuple[float, list[list[float]]]:
    """Radius and points of a geom in its own frame; ``box`` bounds those that are not drawn as they are."""
    from mujoco import mjtGeom

    if kind == mjtGeom.mjGEOM_SPHERE:
        return size[0], [[0.0, 0.0, 0.0]]
    if kind == mjtGeom.mjGEOM_CAPSULE:
        return size[0], [[0.0, 0.0, -size[1]], [0.0, 0.0, size[1]]]
    turns = [(math.cos(a), math.sin(a)) for a in (math.tau * k / 16 for k in range(16))]
    if kind == mjtGeom.mjGEOM_CYLINDER:
        return 0.0, [[size[0] * c, size[0] * s, z] for c, s in turns for z in (-size[1], size[1])]
    if kind == mjtGeom.mjGEOM_ELLIPSOID:
        rings = [(math.sin(a), math.cos(a)) for a in (math.pi * k / 8 for k in range(9))]
        return 0.0, [[size[0] * c * r, size[1] * s * r, size[2] * z] for r, z in rings for c, s in turns]
    corners = itertools.product((-1, 1), repeat=3)
    return 0.0, [[box[i] + sign[i] * box[3 + i] for i in range(3)] for sign in corners]


def _rotation(quaternion: Sequence[float]) -> Tensor:
    """Rotation matrix (3, 3) of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.tensor(rows, dtype=torch.float64)
