"""Environment steps per second of training: rslit against Brax's own PPO, and against stepping alone.

    python benchmarks/locomotion.py --rounds 5 --rollouts 8

All contenders have the environment, networks and PPO settings of configs/locomotion/halfcheetah. Each is a process of
its own, compiles in rounds that do not count, and then sleeps until it is its turn: round by round, one after another.
The medians over the rounds are shown. Brax 0.14.2's PPO does not run on the jax that rslit uses, so it gets a virtual
environment of its own (`--peer-venv`, built on the first run; its packages come from pip's index).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

BRAX, JAX = "0.14.2", "0.7.2"
SIZES = {"num_envs": 128, "unroll": 32, "minibatches": 8, "epochs": 4, "rollouts": 8, "rounds": 5}
HERE = Path(__file__).resolve()
WARM_UP = 2


def options(doc: str | None, contenders: list[str]) -> argparse.ArgumentParser:
    """What a match and all its contenders are told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="halfcheetah")
    parser.add_argument("--backend", default="spring")
    for name, default in SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--layers", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--contender", choices=contenders, help=argparse.SUPPRESS)
    return parser


_cpu = 0.0


def report(**values: Any) -> None:
    """Print one line for the parent, with the CPU seconds since the last, and wait until it is this one's turn."""
    global _cpu
    print("@" + json.dumps(values | {"cpu": time.process_time() - _cpu}), flush=True)
    if not sys.stdin.readline():
        sys.exit()
    _cpu = time.process_time()


# -- our contenders ---------------------------------------------------------------------------------------------------


def training(given: argparse.Namespace) -> None:
    """LocomotionModule under Lightning's Trainer, with its logger; the configs' other callbacks are left out."""
    import torch
    from lightning import __version__
    from lightning.pytorch import Callback, LightningModule, Trainer

    from rslit.datamodules import LocomotionDataModule
    from rslit.envs import BraxEnvironment
    from rslit.modules import LocomotionModule
    from rslit.rewards import TermsReward
    from rslit.warnings import quiet

    class Turns(Callback):
        """Times Lightning epochs from start to start, so that nothing between two of them is left out."""

        began = 0.0

        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch:
                self.over(trainer.current_epoch)
            self.began = time.perf_counter()

        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.over(trainer.current_epoch)

        def over(self, epochs: int) -> None:
            seconds = time.perf_counter() - self.began
            if epochs == WARM_UP:
                threads = torch.get_num_threads()
                report(what=f"lightning {__version__}, torch {torch.__version__}, {threads} thread(s)")
            elif epochs > WARM_UP:
                report(steps=given.num_envs * given.unroll * given.rollouts, seconds=seconds)

    quiet()
    module = LocomotionModule(
        env=BraxEnvironment(given.env, given.backend),
        reward=TermsReward({"x_velocity": 1.0, "energy": -0.1}, "pretraining"),
        policy_layers=given.layers,
        value_layers=given.layers,
        unroll_length=given.unroll,
        epochs=given.epochs,
        minibatches=given.minibatches,
        gamma=0.97,
        clip=0.2,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=6e-4, fused=True),
    )
    data = LocomotionDataModule(given.num_envs, rollouts_per_epoch=given.rollouts)
    with tempfile.TemporaryDirectory() as root:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=given.rounds + WARM_UP,
            gradient_clip_val=1.0,
            log_every_n_steps=1,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=root,
            callbacks=[Turns()],
        )
        trainer.fit(module, data)


def stepping(given: argparse.Namespace) -> None:
    """BraxEnvironment alone: tensors in, tensors out, the environments sharded over all cores."""
    import jax
    import torch

    from rslit.envs import BraxEnvironment

    episodes = BraxEnvironment(given.env, given.backend).episodes(torch.arange(given.num_envs))
    actions = torch.rand(given.num_envs, BraxEnvironment(given.env, given.backend).action_size) * 2 - 1
    count = given.rollouts * given.unroll
    for done in range(given.rounds + WARM_UP):
        began = time.perf_counter()
        for _ in range(count):
            float(episodes.step(actions).observations[-1, -1])  # waits for the step
        seconds = time.perf_counter() - began
        if done == WARM_UP - 1:
            report(what=f"jax {jax.__version__}, {jax.device_count()} device(s)")
        elif done >= WARM_UP:
            report(steps=count * given.num_envs, seconds=seconds)


# -- the match --------------------------------------------------------------------------------------------------------


class Contender:
    """A process that takes turns."""

    def __init__(self, python: Path, script: list[str], given: argparse.Namespace, flags: str = "") -> None:
        sizes = [f"--{name.replace('_', '-')}={getattr(given, name)}" for name in SIZES]
        network = ["--layers", *map(str, given.layers)]
        self.process = subprocess.Popen(
            [str(python), *script, "--env", given.env, "--backend", given.backend, *sizes, *network],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if given.verbose else subprocess.DEVNULL,
            text=True,
            # How long torch's idle threads spin: as `rslit` sets it.
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "GOMP_SPINCOUNT": "30000"},
        )
        self.rates: list[float] = []
        self.cores: list[float] = []
        self.what = ""

    def read(self) -> dict[str, Any]:
        """Wait for the next report."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                values: dict[str, Any] = json.loads(line[1:])
                return values
        raise SystemExit(f"{' '.join(self.process.args[:3])} ended early: see why with --verbose")  # type: ignore[index]

    def turn(self) -> None:
        """Run one round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        values = self.read()
        self.rates.append(values["steps"] / values["seconds"])
        self.cores.append(values["cpu"] / values["seconds"])


def peer_python(folder: Path) -> Path:
    """The Python of the peer's virtual environment, built where there is none."""
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        print(f"building {folder} with brax {BRAX} and jax {JAX}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        wanted = [f"brax=={BRAX}", f"jax=={JAX}", f"jaxlib=={JAX}"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        done.touch()
    return python


def match(given: argparse.Namespace) -> None:
    """Let all contenders take turns, and print a Markdown table and the ratios."""
    peer, own = peer_python(given.peer_venv), Path(sys.executable)
    brax, cores = str(HERE.with_name("_brax_ppo.py")), len(os.sched_getaffinity(0))
    devices = f"--xla_force_host_platform_device_count={cores}"
    contenders: dict[str, Contender] = {}
    try:
        contenders["Brax PPO"] = Contender(peer, [brax, "--contender=ppo"], given)
        contenders[f"Brax PPO, {cores} devices"] = Contender(peer, [brax, "--contender=ppo"], given, devices)
        contenders["rslit, training"] = Contender(own, [str(HERE), "--contender=training"], given)
        contenders["rslit, stepping"] = Contender(own, [str(HERE), "--contender=stepping"], given)
        contenders["Brax, stepping"] = Contender(own, [brax, "--contender=bare"], given)
        contenders["Brax, stepping, PPO's jax"] = Contender(peer, [brax, "--contender=bare"], given)
        for contender in contenders.values():
            contender.what = contender.read()["what"]  # it has compiled
        for _ in range(given.rounds):
            for contender in contenders.values():
                contender.turn()
    finally:
        for contender in contenders.values():
            contender.process.kill()
            contender.process.wait()
    middle = {name: statistics.median(contender.rates) for name, contender in contenders.items()}
    ours = middle["rslit, training"]
    size = given.num_envs * given.unroll * given.rollouts
    print(f"\n{given.env} ({given.backend}), {given.num_envs} environments, {given.rounds} rounds of {size} steps,")
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| | with | cores used | steps/s, median | lowest to highest | rslit, training / this |")
    print("|---|---|---|---|---|---|")
    for name, contender in contenders.items():
        spread = f"{min(contender.rates):.0f} to {max(contender.rates):.0f}"
        figures = f"{statistics.median(contender.cores):.1f} | {middle[name]:.0f} | {spread}"
        print(f"| {name} | {contender.what} | {figures} | {ours / middle[name]:.2f} |")
    best = max(rate for name, rate in middle.items() if name.startswith("Brax PPO"))
    print(f"\ntraining / Brax PPO at its best: {ours / best:.2f} (target 1.3)")
    print(f"training / our own stepping: {ours / middle['rslit, stepping']:.2f} (target 0.6)")


def main() -> None:
    """Hold the match, or be one contender in it."""
    parser = options(__doc__, ["training", "stepping"])
    parser.add_argument("--peer-venv", type=Path, default=HERE.parents[1] / "build" / "bench-brax")
    parser.add_argument("--verbose", action="store_true", help="show what the contenders print on stderr")
    given = parser.parse_args()
    if given.contender is None:
        match(given)
    else:
        {"training": training, "stepping": stepping}[given.contender](given)


if __name__ == "__main__":
    main()
