from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from toy_experiment import CAUTIOUS, fit, merge, point_config

from rslit.cli import main
from rslit.front import read_scores
from rslit.soup import Ingredient

Write = Callable[..., Path]


def test_the_whole_experiment(experiment: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = experiment["root"]
    sweep = root / "sweep"
    assert main(["validate", "--config", str(experiment["sweep.yaml"]), "--trainer.default_root_dir", str(sweep)]) == 0
    table = read_scores(sweep / "scores.parquet")
    assert table.meta.experts == ("risky", "cautious")
    assert table.meta.space == "weights"
    assert table.meta.task == "locomotion"
    # 5 soups, the initialisation, MORL; 6 episodes; 2 rewards
    assert len(table.frame) == 7 * 6 * 2
    assert set(table.frame["seed"]) == {3}
    assert main(["front", str(sweep / "scores.parquet"), "--out", str(root / "front"), "--replicates", "50"]) == 0
    printed = capsys.readouterr().out
    assert "risky" in printed
    data = json.loads((root / "front" / "front.json").read_text())
    assert data["lmc"]
    assert (root / "front" / "front.html").stat().st_size > 5000
    logged = list(sweep.glob("events.out.tfevents*"))
    assert logged, "TensorBoard events lie in the run's folder"


def test_a_swept_vertex_scores_what_validate_says_of_the_expert(
    experiment: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = experiment["root"]
    config = experiment["root"] / "risky.yaml"
    out = root / "check"
    code = main(
        [
            *["validate", "--config", str(config), "--trainer.default_root_dir", str(out)],
            *["--model.init_args.initialisation", str(experiment["risky"]), "--ckpt_path", "null"],
        ]
    )
    assert code == 0
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"val/locomotion/risky\s*│\s*([-\d.e]+)", printed)
    assert main(["validate", "--config", str(experiment["sweep.yaml"]), "--trainer.default_root_dir", str(out)]) == 0
    frame = read_scores(out / "scores.parquet").frame
    vertex = frame[(frame["lam.risky"] == 1.0) & (frame["reward"] == "risky")]
    assert float(shown) == pytest.approx(vertex["score"].mean(), rel=1e-5)
    assert (out / "config.yaml").read_text().startswith("# rslit validate")


def test_test_writes_the_same_scores_as_validate_and_morl_at_a_vertex_is_the_expert(
    experiment: dict[str, Path],
) -> None:
    root = experiment["root"]
    extra = ["--model.init_args.out", str(root / "tested")]
    base = ["--config", str(experiment["sweep.yaml"]), "--trainer.default_root_dir", str(root / "t")]
    assert main(["validate", *base]) == 0
    assert main(["test", *base, *extra]) == 0
    first, second = (read_scores(root / d / "scores.parquet").frame for d in ("t", "tested"))
    pd.testing.assert_frame_equal(first, second)


def test_soup_exports_the_interpolated_weights(experiment: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = experiment["root"] / "poured"
    pair = [str(experiment["risky"]), str(experiment["cautious"])]
    assert main(["soup", "--ingredients", *pair, "--lam", "risky=0.3,cautious=0.7", "--out", str(out)]) == 0
    assert "soup written to" in capsys.readouterr().out
    one, two, mixed = (Ingredient.load(p).state_dict() for p in (experiment["risky"], experiment["cautious"], out))
    key = "net.0.weight"
    torch.testing.assert_close(mixed[key], 0.3 * one[key] + 0.7 * two[key])
    assert "λ" in (out / "README.md").read_text()


def test_the_fingerprint_is_that_of_the_initialisation(experiment: dict[str, Path]) -> None:
    infos = {k: Ingredient.load(experiment[k]).info for k in ("pretrain", "risky", "cautious", "morl")}
    from rslit.soup import fingerprint

    start = fingerprint(Ingredient.load(experiment["pretrain"]).state_dict())
    assert {infos[k].initialisation for k in ("risky", "cautious", "morl")} == {start}
    assert infos["pretrain"].initialisation != start
    assert infos["morl"].config["mu"] == {"risky": 0.5, "cautious": 0.5}
    assert infos["risky"].config["run"]["model"]["class_path"].endswith("LocomotionModule")


def test_a_checkpoint_loads_without_pickles_and_by_its_own_class(experiment: dict[str, Path]) -> None:
    checkpoint = torch.load(experiment["root"] / "risky" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["rslit"]["reward"] == "risky"
    assert checkpoint["rslit"]["rollouts_done"] == 9


@pytest.mark.parametrize("verb", ["", "soup", "front", "recipe"])
def test_help_of_light_verbs_answers_at_once(verb: str) -> None:
    best = 9e9
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "rslit", *filter(None, [verb]), "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        best = min(best, time.perf_counter() - began)
    assert best < 1.5
    assert "usage" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "pandas", "jax"}


# -- bad input: one line, exit code 2, nothing lost -----------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    code = main(list(args))
    err = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("INFO", "Seed set"))]
    assert code == 2, err
    assert len(err) == 1, err
    assert err[0].startswith("rslit: error: ")
    assert "Traceback" not in err[0]
    return err[0]


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'fitt' is no verb; there are: fit, validate" in refused(capsys, "fitt")


def test_unknown_reward(capsys: pytest.CaptureFixture[str], write_config: Write) -> None:
    path = write_config(point_config(reward={"class_path": "rslit.rewards.TermReward", "init_args": {"name": "x"}}))
    message = refused(capsys, "fit", "--config", str(path))
    assert "rslit.rewards.TermReward" in message
    assert "reward" in message


def test_unknown_environments(capsys: pytest.CaptureFixture[str], write_config: Write) -> None:
    pytest.importorskip("brax")
    for kind, name, near in (
        ("BraxEnvironment", "halfchetah", "halfcheetah"),
        ("GymnasiumEnvironment", "HalfChetah-v5", "HalfCheetah-v5"),
    ):
        config = point_config()
        config["model"]["init_args"]["env"] = {"class_path": f"rslit.envs.{kind}", "init_args": {"name": name}}
        message = refused(capsys, "fit", "--config", str(write_config(config)))
        assert f"no environment '{name}'; did you mean '{near}'?" in message


@pytest.mark.parametrize(
    ("where", "key"),
    [
        ("model__init_args__unrol_length", "unrol_length"),
        ("trainer__max_epoch", "max_epoch"),
        ("data__init_args__num_env", "num_env"),
        ("sed_everything", "sed_everything"),
        ("model__init_args__optimizer__init_args__lrr", "lrr"),
    ],
)
def test_a_typo_in_any_yaml_key(capsys: pytest.CaptureFixture[str], write_config: Write, where: str, key: str) -> None:
    path = write_config(point_config(**{where: 1}))
    assert key in refused(capsys, "fit", "--config", str(path))


def test_a_config_that_is_missing_or_no_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "gone.yaml" in refused(capsys, "fit", "--config", str(tmp_path / "gone.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1, 2\n b: }")
    refused(capsys, "fit", "--config", str(tmp_path / "bad.yaml"))


def test_nan_reward(capsys: pytest.CaptureFixture[str], write_config: Write, tmp_path: Path) -> None:
    config = point_config(model__init_args__env__init_args__poison=True)
    path = write_config(config)
    message = refused(capsys, "fit", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "run"))
    assert "reward 'risky'" in message
    assert "environment 0, step 0" in message


def sweep_with(experiment: dict[str, Path], tmp_path: Path, **extra: Any) -> Path:
    import yaml

    config = yaml.safe_load(experiment["sweep.yaml"].read_text())
    merge(config["model"]["init_args"], extra)
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_bad_ingredients(capsys: pytest.CaptureFixture[str], experiment: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    def sweep(path: Path) -> str:
        config = sweep_with(experiment, tmp_path, ingredients={"risky": str(path)})
        return refused(capsys, "validate", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "s"))

    assert "nowhere" in sweep(tmp_path / "nowhere")
    broken = shutil.copytree(experiment["risky"], tmp_path / "broken")
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    assert str(broken) in sweep(broken)
    foreign = shutil.copytree(experiment["risky"], tmp_path / "foreign")
    info = json.loads((foreign / "ingredient.json").read_text())
    (foreign / "ingredient.json").write_text(json.dumps({**info, "initialisation": "sha256:" + "0" * 64}))
    assert "initialisation" in sweep(foreign)
    (foreign / "ingredient.json").write_text(json.dumps({**info, "task": "somebody.elses.Module"}))
    assert "somebody.elses.Module" in sweep(foreign)
    assert not (tmp_path / "s" / "scores.parquet").exists()


def test_shapes_that_differ(
    capsys: pytest.CaptureFixture[str], experiment: dict[str, Path], write_config: Write, tmp_path: Path
) -> None:
    config = point_config(model__init_args__initialisation=str(experiment["pretrain"]))
    config["model"]["init_args"]["policy_layers"] = [9]
    message = refused(capsys, "fit", "--config", str(write_config(config)))
    assert "net.0.bias is (8,)" in message
    assert "(9,) in the policy" in message
    wide = fit(write_config, tmp_path, "wide", model__init_args__policy_layers=[9])
    pair = [str(experiment["risky"]), str(wide)]
    message = refused(capsys, "soup", "--ingredients", *pair, "--lam", "risky=1,wide=0", "--out", str(tmp_path / "o"))
    assert "risky" in message
    assert not (tmp_path / "o").exists()


def test_lam_names_an_unknown_expert(capsys: pytest.CaptureFixture[str], experiment: dict[str, Path]) -> None:
    pair = [str(experiment["risky"]), str(experiment["cautious"])]
    message = refused(capsys, "soup", "--ingredients", *pair, "--lam", "risky=0.3,bold=0.7", "--out", "x")
    assert "bold" in message
    assert "risky" in message
    assert not Path("x").exists()


def test_a_checkpoint_of_another_task_or_reward(
    capsys: pytest.CaptureFixture[str], experiment: dict[str, Path], write_config: Write, tmp_path: Path
) -> None:
    checkpoint = experiment["root"] / "risky" / "checkpoints" / "last.ckpt"
    base = ["--config", str(write_config(point_config(reward=CAUTIOUS))), "--trainer.default_root_dir", str(tmp_path)]
    message = refused(capsys, "fit", *base, "--ckpt_path", str(checkpoint))
    assert "of reward 'risky', this run of 'cautious'" in message
    held = torch.load(checkpoint, weights_only=True)
    held["rslit"]["task"] = "rslit.modules.text.TextModule"
    torch.save(held, tmp_path / "other.ckpt")
    message = refused(capsys, "fit", *base, "--ckpt_path", str(tmp_path / "other.ckpt"))
    assert "of task 'rslit.modules.text.TextModule'" in message
    del held["rslit"]
    torch.save(held, tmp_path / "stranger.ckpt")
    assert "not written by rslit" in refused(capsys, "fit", *base, "--ckpt_path", str(tmp_path / "stranger.ckpt"))
    (tmp_path / "torn.ckpt").write_bytes(checkpoint.read_bytes()[:3000])
    assert "torn.ckpt" in refused(capsys, "fit", *base, "--ckpt_path", str(tmp_path / "torn.ckpt"))
    assert "gone.ckpt" in refused(capsys, "fit", *base, "--ckpt_path", str(tmp_path / "gone.ckpt"))


def test_fsdp1_is_refused_with_what_to_use(capsys: pytest.CaptureFixture[str], write_config: Write) -> None:
    path = write_config(point_config())
    assert "fsdp2.yaml" in refused(capsys, "fit", "--config", str(path), "--trainer.strategy", "fsdp")
    strategy = "lightning.pytorch.strategies.FSDPStrategy"
    assert "fsdp2.yaml" in refused(capsys, "fit", "--config", str(path), "--trainer.strategy", strategy)


def test_fitting_the_evaluator(capsys: pytest.CaptureFixture[str], experiment: dict[str, Path], tmp_path: Path) -> None:
    base = ["--config", str(experiment["sweep.yaml"]), "--trainer.default_root_dir", str(tmp_path)]
    base += ["--trainer.max_epochs", "1"]
    assert "trains nothing" in refused(capsys, "fit", *base)


def test_a_monitor_that_is_not_logged(capsys: pytest.CaptureFixture[str], write_config: Write, tmp_path: Path) -> None:
    config = point_config()
    config["trainer"]["callbacks"][0]["init_args"]["monitor"] = "val/locomotion/bold"
    message = refused(
        capsys, "fit", "--config", str(write_config(config)), "--trainer.default_root_dir", str(tmp_path / "r")
    )
    assert "no score 'val/locomotion/bold' was logged" in message
    assert "there are: val/locomotion/cautious, val/locomotion/risky" in message
