"""Episodes of a Brax environment, drawn: poses, bodies, the page of its own renderer."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mujoco
import numpy as np
import pytest
import torch
from episodes_kit import poured, sweep
from test_episode_page import Page

from rslit.callbacks import EpisodeCallback
from rslit.envs import BraxEnvironment, PosedEpisodes

# -- Brax: one compilation for all ------------------------------------------------------------------------------------


# Brax 0.14.2 reads the contacts of MJX's data in the way of older MuJoCo releases.
old_mjx = pytest.mark.filterwarnings("ignore:Accessing `(ncon|contact)` directly from `Data` is deprecated")


@pytest.fixture(scope="module")
def brax(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BraxEnvironment, dict[str, Any]]:
    root = tmp_path_factory.mktemp("brax")
    env = BraxEnvironment("halfcheetah", episode_length=4)
    return root, env, sweep(root, env, EpisodeCallback([{"risky": 0.25, "cautious": 0.75}], seed=11, length=3))


@pytest.mark.slow
@old_mjx
def test_brax_poses_equal_the_environment_stepped_by_hand(brax: Any) -> None:
    import jax

    root, env, states = brax
    page = Page((root / "episodes" / "risky=1_4,cautious=3_4.html").read_text())
    module = poured(env, states, {"risky": 0.25, "cautious": 0.75})
    inner = env.env
    state, step = inner.reset(jax.random.PRNGKey(11)), jax.jit(inner.step)
    poses, risky = [], [0.0]
    for _ in range(3):
        seen = torch.from_numpy(np.array(state.obs))[None]
        with torch.no_grad():
            action = torch.tanh(module.policy(seen)[0])[0].numpy()
        state = step(state, action)
        poses.append(np.concatenate([state.pipeline_state.x.pos, state.pipeline_state.x.rot], -1))
        risky.append(risky[-1] + float(state.metrics["x_velocity"]))
    assert page.data["bodies"] == inner.sys.num_links() == 7
    assert page.data["seconds"] == pytest.approx(0.05)
    np.testing.assert_allclose(page.poses(0), poses, atol=1e-4)
    np.testing.assert_allclose(page.total(0, 0), risky[1:], atol=1e-3)


@pytest.mark.slow
@old_mjx
def test_brax_poses_are_of_the_bodies_of_the_model(brax: Any) -> None:
    """Row k of a pose is body k + 1 of the MuJoCo model: its forward kinematics at the same joints agree."""
    import jax

    _, env, _ = brax
    episodes = env.episodes(torch.tensor([11, 12]))
    assert isinstance(episodes, PosedEpisodes)
    data = mujoco.MjData(episodes.model)
    state = jax.jit(env.env.reset)(jax.random.PRNGKey(11))
    data.qpos[:] = np.array(state.pipeline_state.q)
    mujoco.mj_forward(episodes.model, data)
    pose = episodes.pose()
    assert pose.shape == (7, 7)
    assert pose.dtype == torch.float32
    np.testing.assert_allclose(pose[:, :3], data.xpos[1:], atol=2e-3)
    signs = np.sign((pose[:, 3:].numpy() * data.xquat[1:]).sum(-1, keepdims=True))
    np.testing.assert_allclose(signs * pose[:, 3:].numpy(), data.xquat[1:], atol=2e-3)


@pytest.mark.slow
@old_mjx
def test_the_page_of_brax_own_renderer_shows_the_same(brax: Any) -> None:
    root, _, _ = brax
    name = "risky=1_4,cautious=3_4"
    index = Page((root / "episodes" / "index.html").read_text())
    assert [unquote(link) for link in index.links] == [f"{name}.html", f"{name}.brax.html"]
    text = (root / "episodes" / f"{name}.brax.html").read_text()
    packed = text.split('var system = "', 1)[1].split('"', 1)[0]
    system = json.loads(zlib.decompress(base64.b64decode(packed)))
    poses = Page((root / "episodes" / f"{name}.html").read_text()).poses(0)
    frames = system["states"]["x"]
    assert len(frames) == 3
    np.testing.assert_array_equal(np.float32([f["pos"] for f in frames]), poses[..., :3])
    np.testing.assert_array_equal(np.float32([f["rot"] for f in frames]), poses[..., 3:])
    assert system["opt"]["timestep"] == pytest.approx(0.05)
