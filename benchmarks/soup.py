"""How close pouring λ is to the speed of memory, and how it compares with mergekit.

    python benchmarks/soup.py --params 64 500 --experts 2 3 4 --repeats 7

Prints two Markdown tables. All contenders of a row are run in turn within one process, `--repeats` times; the medians
are shown. The floor of a row is (N + 1) P b bytes at the bandwidth at which this machine copies one model onto another.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rslit.soup import IngredientInfo, Soup, fingerprint, write_ingredient

HAS_MERGEKIT = importlib.util.find_spec("mergekit") is not None
WIDTH = 1024


def shapes(millions: float) -> dict[str, tuple[int, ...]]:
    """The weights of a decoder of about so many parameters: an embedding, then blocks of width 1024."""
    block = {"q": (1024, 1024), "k": (1024, 1024), "v": (1024, 1024), "o": (1024, 1024)}
    block |= {"gate": (2816, 1024), "up": (2816, 1024), "down": (1024, 2816), "norm": (1024,)}
    size = sum(torch.Size(shape).numel() for shape in block.values())
    blocks = int(millions * 1e6 // size) - (millions * 1e6 % size < WIDTH * 256)
    result = {f"layers.{i}.{name}": shape for i in range(blocks) for name, shape in block.items()}
    rows = (int(millions * 1e6) - blocks * size) // WIDTH
    return {"embed": (rows, WIDTH)} | result


def experts(layout: dict[str, tuple[int, ...]], n: int) -> dict[str, dict[str, Tensor]]:
    """Make n models that differ in every weight."""
    first = {key: torch.rand(shape).sub_(0.5).mul_(0.04) for key, shape in layout.items()}
    return {f"e{i}": {key: tensor + 1e-3 * i for key, tensor in first.items()} for i in range(n)}


def medians(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each contender, run in turn; one round before them warms up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def in_memory(millions: float, ns: list[int], repeats: int) -> None:
    """Pouring experts that are in memory, against copying one model and mergekit's Python interface."""
    layout = shapes(millions)
    size = sum(torch.Size(shape).numel() for shape in layout.values())
    models = experts(layout, max(ns))
    out = {key: torch.zeros(shape) for key, shape in layout.items()}
    for n in ns:
        states = dict(list(models.items())[:n])
        soup = Soup(states)
        lam = {name: (k + 1) / (n * (n + 1) / 2) for k, name in enumerate(states)}

        def copy() -> None:
            for key, tensor in out.items():
                tensor.copy_(models["e0"][key])

        contenders: dict[str, Callable[[], object]] = {
            "copy": copy,
            "clone": lambda: [tensor.clone() for tensor in models["e0"].values()],
            "pour": lambda soup=soup, lam=lam: soup.pour(lam, out),
        }
        if HAS_MERGEKIT:
            from mergekit.merge_methods.api import merge_state_dicts

            given = {"weight": list(lam.values()), "normalize": False}
            contenders["mergekit"] = lambda states=states, given=given: merge_state_dicts(
                states, "linear", parameters=given
            )
        found = medians(contenders, repeats)
        bandwidth = 2 * size * 4 / found["copy"]
        floor = (n + 1) * size * 4 / bandwidth
        theirs = found.get("mergekit")
        cells = [
            f"{size / 1e6:.0f} M",
            n,
            f"{bandwidth / 1e9:.1f}",
            f"{found['clone'] * 1e3:.0f}",
            f"{floor * 1e3:.0f}",
            f"{found['pour'] * 1e3:.0f}",
            f"{floor / found['pour']:.2f}",
            f"{theirs * 1e3:.0f}" if theirs else "not installed",
            f"{theirs / found['pour']:.1f}" if theirs else "-",
        ]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def anonymous(pid: int) -> int:
    """Bytes of memory of a process that no file backs."""
    return int(Path(f"/proc/{pid}/status").read_text().split("RssAnon:")[1].split()[0]) * 1024


def stream_memory(paths: list[Path], lam: dict[str, float], out: Path) -> int:
    """Bytes by which anonymous memory grows at most while a soup is streamed, watched from another process."""
    soup = Soup.load(paths)
    tiny = Soup({name: {"w": torch.randn(100_000)} for name in lam})
    tiny.stream(lam, out)  # threads of torch that stay
    start, watched = anonymous(os.getpid()), os.getpid()
    (stop, stopper), (told, teller) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(stopper)
        peak = 0
        while not select.select([stop], [], [], 0.0005)[0]:
            peak = max(peak, anonymous(watched))
        os.write(teller, str(peak).encode())
        os._exit(0)
    soup.stream(lam, out)
    os.close(stopper)
    return int(os.read(told, 100)) - start


def on_disk(millions: float, ns: list[int], repeats: int, folder: Path) -> None:
    """From files: into live parameters and into a file, against mergekit's YAML route on models of the same weights."""
    hub = hugging_face_models(millions, max(ns), folder) if HAS_MERGEKIT else []
    layout = shapes(millions)
    if hub:
        from safetensors.torch import load_file

        states = {f"e{i}": load_file(path / "model.safetensors") for i, path in enumerate(hub)}
        layout = {key: tuple(tensor.shape) for key, tensor in states["e0"].items()}
    else:
        states = experts(layout, max(ns))
    size = sum(torch.Size(shape).numel() for shape in layout.values())
    start = fingerprint({"start": torch.zeros(1)})
    for name, state in states.items():
        info = IngredientInfo(name, "benchmarks.Task", name, 1, start, list(layout), "float32")
        write_ingredient(folder / "ingredients" / name, state, info)
    states.clear()
    os.sync()  # or the first contender waits for the disk to take in the models
    live = {key: torch.zeros(shape) for key, shape in layout.items()}
    largest = max(torch.Size(shape).numel() for shape in layout.values()) * 4
    for n in ns:
        names = [f"e{i}" for i in range(n)]
        lam = {name: (k + 1) / (n * (n + 1) / 2) for k, name in enumerate(names)}
        paths = [folder / "ingredients" / name for name in names]
        contenders: dict[str, Callable[[], object]] = {
            "pour": lambda paths=paths, lam=lam: Soup.load(paths).pour(lam, live),
            "stream": lambda paths=paths, lam=lam: Soup.load(paths).stream(lam, folder / "soup.safetensors"),
        }
        if hub:
            contenders["yaml"] = lambda n=n, lam=lam: mergekit_yaml(hub[:n], list(lam.values()), folder)
            contenders["merge"] = lambda n=n, lam=lam: mergekit_in_process(hub[:n], list(lam.values()), folder)
        found = medians(contenders, repeats)
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            grown = fresh.apply(stream_memory, (paths, lam, folder / "soup.safetensors"))
        cells = [f"{size / 1e6:.0f} M", n, f"{found['pour']:.2f}", f"{found['stream']:.2f}"]
        cells += [f"{grown / 1e6:.1f} (largest weight {largest / 1e6:.0f})"]
        if hub:
            cells += [f"{found['yaml']:.1f}", f"{found['merge']:.2f}"]
            cells += [f"{found['yaml'] / found['pour']:.0f}", f"{found['merge'] / found['stream']:.1f}"]
        else:
            cells += ["not installed"] * 2 + ["-"] * 2
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def hugging_face_models(millions: float, n: int, folder: Path) -> list[Path]:
    """Save n Llama models of about so many parameters, as transformers saves them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    layers = max(1, round((millions * 1e6 - 2 * 8000 * WIDTH) / 12.85e6))
    config = LlamaConfig(
        vocab_size=8000, hidden_size=WIDTH, intermediate_size=2816, num_hidden_layers=layers, num_attention_heads=16
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    paths = []
    for i in range(n):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-3 * i)
        model.save_pretrained(folder / f"hub{i}", max_shard_size="100GB")
        paths.append(folder / f"hub{i}")
    return paths


def recipe(models: list[Path], weights: list[float]) -> str:
    """The YAML for mergekit. Paths are absolute: for relative ones its card writer asks the hub."""
    lines = [
        f"  - model: {path}\n    parameters:\n      weight: {weight}"
        for path, weight in zip(models, weights, strict=True)
    ]
    return "models:\n" + "\n".join(lines) + "\nmerge_method: linear\nparameters:\n  normalize: false\ndtype: float32\n"


def mergekit_yaml(models: list[Path], weights: list[float], folder: Path) -> None:
    """The command line: what a sweep in the shell pays per λ."""
    (folder / "recipe.yml").write_text(recipe(models, weights))
    shutil.rmtree(folder / "merged", ignore_errors=True)
    command = [str(Path(sys.executable).parent / "mergekit-yaml"), str(folder / "recipe.yml"), str(folder / "merged")]
    done = subprocess.run([*command, "--no-copy-tokenizer"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def mergekit_in_process(models: list[Path], weights: list[float], folder: Path) -> None:
    """The same without starting a Python."""
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    shutil.rmtree(folder / "merged", ignore_errors=True)
    config = MergeConfiguration.model_validate(yaml.safe_load(recipe(models, weights)))
    run_merge(config, str(folder / "merged"), MergeOptions(copy_tokenizer=False, quiet=True))


def main() -> None:
    """Run both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=float, nargs="*", default=[64, 500], help="millions of float32 parameters")
    parser.add_argument("--disk-params", type=float, nargs="*", default=[185], help="the same for the table on files")
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--disk-repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where the files go; default: a temporary folder")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}\n")
    print("| parameters | N | copy GB/s | clone ms | floor ms | pour ms | floor / pour | mergekit API ms | times |")
    print("|---|---|---|---|---|---|---|---|---|")
    for millions in arguments.params:
        in_memory(millions, arguments.experts, arguments.repeats)
    print(
        "\n| parameters | N | load and pour s | load and stream s | stream memory MB | mergekit-yaml s | run_merge s |",
        end="",
    )
    print(" yaml / pour | run_merge / stream |\n|---|---|---|---|---|---|---|---|---|")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # for the fresh processes: memory that is freed goes back at once
    for millions in arguments.disk_params:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            on_disk(millions, arguments.experts, arguments.disk_repeats, Path(folder))


if __name__ == "__main__":
    main()
