from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from toy_env import PointEnvironment

from rslit.datamodules import LocomotionDataModule
from rslit.errors import RslitError
from rslit.front import ScoreTable, read_scores
from rslit.modules import InterpolationEvaluator, LocomotionModule
from rslit.rewards import TermsReward
from rslit.seeds import stream_seed
from rslit.soup import IngredientInfo, Soup, fingerprint, write_ingredient

REWARDS = {
    "risky": TermsReward({"x_velocity": 1.0}, "risky"),
    "cautious": TermsReward({"x_velocity": 1.0, "energy": -1.0}, "cautious"),
}
SEED = 3
EPISODES, PER_BATCH, FIRST = 5, 3, 100


def policy(**kwargs: Any) -> LocomotionModule:
    """The task; sampled actions, so that noise shows in the scores."""
    given: dict[str, Any] = {
        "env": PointEnvironment(episode_length=8),
        "reward": REWARDS["risky"],
        "evaluation_rewards": list(REWARDS.values()),
        "policy_layers": [6],
        "value_layers": [4],
        "deterministic_evaluation": False,
    }
    return LocomotionModule(**{**given, **kwargs})


def state(seed: int) -> dict[str, Tensor]:
    """A policy's weights by seed; all share their statistics."""
    torch.manual_seed(seed)
    module = policy()
    module.policy.normaliser.update(torch.tensor([[0.1, -0.2], [0.5, 0.4], [-0.3, 0.2]]))
    return {k: v.clone() for k, v in module.policy.state_dict().items()}


START = state(0)


def ingredient(root: Path, name: str, weights: dict[str, Tensor], reward: str = "risky", **info: Any) -> str:
    module = policy()
    given: dict[str, Any] = {
        "expert": name,
        "task": module.task_class,
        "reward": reward,
        "step": 1,
        "initialisation": fingerprint(START),
        "trainable_keys": module.trainable_keys,
        "dtype": "float32",
        "config": {"seed": SEED},
    }
    return str(write_ingredient(root / name, weights, IngredientInfo(**{**given, **info})))


def sweep(root: Path, ingredients: dict[str, str], *, verb: str = "validate", **kwargs: Any) -> ScoreTable:
    module = kwargs.pop("module", None) or policy()
    logger = TensorBoardLogger(str(root), name="", version="") if kwargs.pop("log", False) else False
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
    )
    data = LocomotionDataModule(eval_episodes=EPISODES, eval_batch_size=PER_BATCH, eval_seed=FIRST)
    evaluator = kwargs.pop("evaluator", InterpolationEvaluator)(module, ingredients, **kwargs)
    getattr(trainer, verb)(evaluator, data, verbose=False)
    return read_scores(Path(kwargs.get("out") or root) / "scores.parquet")


def by_hand(weights: dict[str, Tensor]) -> dict[tuple[str, str], float]:
    """Scores by (item, reward) of a policy, evaluated alone with the sweep's noise."""
    module = policy()
    module.policy.load_state_dict(weights)
    scores = {}
    for index, seeds in enumerate(torch.arange(FIRST, FIRST + EPISODES).split(PER_BATCH)):
        samples = module.evaluate({"seeds": seeds}, stream_seed(SEED, "evaluation", index))
        for name, values in samples.scores.items():
            scores |= {(str(i), name): float(v) for i, v in zip(samples.items, values, strict=True)}
    return scores


def mix(parts: Sequence[tuple[float, dict[str, Tensor]]]) -> dict[str, Tensor]:
    names = policy().trainable_keys
    return {
        k: sum(weight * part[k].double() for weight, part in parts).float() if k in names else v  # type: ignore[union-attr]
        for k, v in parts[0][1].items()
    }


def rows(table: ScoreTable, **where: Any) -> dict[tuple[str, str], float]:
    frame = table.frame
    for column, value in where.items():
        frame = frame[frame[column.replace("lam_", "lam.").replace("mu_", "mu.")] == value]
    return {(r["item"], r["reward"]): r["score"] for _, r in frame.iterrows()}


def assert_scores(found: dict[tuple[str, str], float], expected: dict[tuple[str, str], float]) -> None:
    assert found.keys() == expected.keys()
    assert len(found) == EPISODES * len(REWARDS)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-4), key


@pytest.mark.parametrize("batched", [True, False])
def test_every_point_scores_as_its_weights_do_alone_with_the_same_noise(
    tmp_path: Path, pair: dict[str, str], batched: bool
) -> None:
    start = ingredient(tmp_path, "start", START)
    mixed = {"mu": {"risky": 0.25, "cautious": 0.75}, "samples": 70}
    morl = ingredient(tmp_path, "morl", state(9), "mixed", config=mixed)
    module = policy(batched_soups=batched)
    own = {k: v.clone() for k, v in module.policy.state_dict().items()}
    table = sweep(tmp_path / "run", pair, lattice=4, initialisation=start, morl=[morl], module=module)
    assert len(table.frame) == (5 + 1 + 1) * EPISODES * 2
    assert set(table.frame["seed"]) == {SEED}
    for k in range(5):
        expected = by_hand(mix([(k / 4, state(1)), (1 - k / 4, state(2))]))
        assert_scores(rows(table, kind="soup", lam_risky=k / 4, lam_cautious=1 - k / 4), expected)
    assert_scores(rows(table, kind="initialisation"), by_hand(START))
    assert_scores(rows(table, kind="morl", mu_risky=0.25, mu_cautious=0.75), by_hand(state(9)))
    meta = table.meta
    assert meta.initialisation == fingerprint(START)
    assert meta.trained_on == {"risky": "risky", "cautious": "cautious"}
    assert meta.extras == {"trainings": {"soup": 2, "morl": 1}, "samples": {"soup": None, "morl": 70}}
    left = module.policy.state_dict()
    assert all(torch.equal(left[k], own[k]) for k in policy().trainable_keys), "the module's own weights are put back"


def test_test_writes_what_validate_writes_and_where_it_is_told(tmp_path: Path, pair: dict[str, str]) -> None:
    one = sweep(tmp_path / "run", pair, lattice=2)
    two = sweep(tmp_path / "run", pair, lattice=2, verb="test", out=str(tmp_path / "elsewhere"))
    assert one.frame.equals(two.frame)


def test_three_experts(tmp_path: Path, pair: dict[str, str]) -> None:
    third = {"thrift": ingredient(tmp_path, "thrift", state(5), "thrift")}
    table = sweep(tmp_path / "run", {**pair, **third}, lattice=4)
    lams = table.frame[table.meta.lam_columns].drop_duplicates().to_numpy() * 4
    wanted = {(a, b, 4 - a - b) for a, b in product(range(5), repeat=2) if a + b <= 4}
    assert {tuple(int(x) for x in lam) for lam in lams} == wanted
    assert len(lams) == 15
    expected = by_hand(mix([(0.5, state(1)), (0.25, state(2)), (0.25, state(5))]))
    assert_scores(rows(table, lam_risky=0.5, lam_cautious=0.25, lam_thrift=0.25), expected)


def test_a_list_of_lams(tmp_path: Path, pair: dict[str, str]) -> None:
    table = sweep(tmp_path / "run", pair, lattice=[{"risky": 0.3, "cautious": 0.7}, {"risky": 1.0}])
    assert list(dict.fromkeys(table.frame["point"])) == ["risky=3/10,cautious=7/10", "risky=1,cautious=0"]
    assert_scores(rows(table, lam_risky=0.3), by_hand(mix([(0.3, state(1)), (0.7, state(2))])))
    assert_scores(rows(table, lam_risky=1.0), by_hand(state(1)))


def test_extrapolation_only_when_allowed(tmp_path: Path, pair: dict[str, str]) -> None:
    beyond = [{"risky": 1.5, "cautious": -0.5}]
    with pytest.raises(RslitError, match=r"lam of expert 'risky' is 1.5, outside \[0, 1\]"):
        sweep(tmp_path / "run", pair, lattice=beyond)
    assert not (tmp_path / "run" / "scores.parquet").exists()
    table = sweep(tmp_path / "run", pair, lattice=beyond, extrapolate=True)
    assert_scores(rows(table, lam_risky=1.5), by_hand(mix([(1.5, state(1)), (-0.5, state(2))])))


def test_an_expert_is_morl_with_all_weight_on_its_reward_and_is_held_once(tmp_path: Path, pair: dict[str, str]) -> None:
    held: list[int] = []
    module = policy()
    whole = module.evaluate_soups

    def watched(batch: Any, seed: int, soup: Soup, lams: Any) -> Any:
        held.append(len(soup.states))
        assert len(lams) == 3 + 1, "seven points are four policies"
        return whole(batch, seed, soup, lams)

    module.evaluate_soups = watched  # type: ignore[method-assign]
    twin = ingredient(tmp_path, "twin", START, "mixed", config={"mu": {"risky": 0.5, "cautious": 0.5}})
    start = ingredient(tmp_path, "start", START)
    morl = [pair["risky"], pair["cautious"], twin]
    table = sweep(tmp_path / "run", pair, lattice=2, initialisation=start, morl=morl, module=module)
    assert set(held) == {3}, "two experts and the initialisation, which the third MORL solution equals"
    for name, other in (("risky", "cautious"), ("cautious", "risky")):
        found = rows(table, kind="morl", **{f"mu_{name}": 1.0, f"mu_{other}": 0.0})
        assert_scores(found, rows(table, kind="soup", **{f"lam_{name}": 1.0}))
    assert_scores(rows(table, kind="morl", mu_risky=0.5), by_hand(START))
    assert len(table.frame) == (3 + 1 + 3) * EPISODES * 2


def test_an_expert_may_be_called_initialisation(tmp_path: Path, pair: dict[str, str]) -> None:
    named = {"initialisation": pair["risky"], "b": pair["cautious"]}
    table = sweep(tmp_path / "run", named, lattice=1, initialisation=ingredient(tmp_path, "start", START))
    assert_scores(rows(table, kind="soup", lam_initialisation=1.0), by_hand(state(1)))
    assert_scores(rows(table, kind="initialisation"), by_hand(START))


def test_the_front_is_logged_to_tensorboard(tmp_path: Path, pair: dict[str, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    table = sweep(tmp_path / "run", pair, lattice=4, log=True, initialisation=ingredient(tmp_path, "start", START))
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert set(events.Tags()["scalars"]) >= {"sweep/risky", "sweep/cautious"}
    for reward in REWARDS:
        soup = table.frame[(table.frame["kind"] == "soup") & (table.frame["reward"] == reward)]
        means = soup.groupby("point", sort=False)["score"].mean()
        logged = events.Scalars(f"sweep/{reward}")
        assert [e.step for e in logged] == list(range(5))
        assert [e.value for e in logged] == pytest.approx(list(means), rel=1e-5)
    (figure,) = events.Images("front")
    assert figure.encoded_image_string.startswith(b"\x89PNG")
    assert figure.width > 300
    assert figure.height > 200
