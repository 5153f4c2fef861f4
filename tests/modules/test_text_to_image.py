"""The text-to-image module on tiny pipelines: its loss by hand, its images over λ, its ingredients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import SIZE, save_pipeline

from rslit.diffusion.options import DiffusionOptions, DrawingOptions
from rslit.errors import RslitError
from rslit.language.options import LoraOptions
from rslit.modules import TextToImageModule
from rslit.rewards import FunctionReward
from rslit.rollouts import RolloutLoader
from rslit.soup import Soup, fingerprint

DRAWING = DrawingOptions(steps=2, guidance=2.0, rows=4)


def brightness(samples):
    return samples["image"].float().mean((1, 2, 3)) / 255


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: save_pipeline(kind, root / kind) for kind in ("sd", "sd_v", "sd3", "pixel")}


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = [root / f"{k}.png" for k in range(4)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    return {
        "items": [path.stem for path in paths],
        "prompt": ["a good film", "bad", "bad", "the story"],
        "image": paths,
        "weight": [0.0, 0.5, 2.5, 1.0],
        "seed": [1, 2, 3, 4],
    }


def make(folder, **options):
    policy = {name: options.pop(name) for name in ("trained", "lora") if name in options}
    given = {"drawing": DRAWING, **options}
    module = TextToImageModule(DiffusionOptions(str(folder), **policy), FunctionReward(brightness), **given)
    module.log = lambda *_, **__: None  # there is no Trainer
    return module


@pytest.mark.parametrize("kind", ["sd", "sd_v", "sd3", "pixel"])
def test_the_loss_is_equation_19_on_fixed_noise_and_times(folders, batch, kind):
    module = make(folders[kind], prompt_dropout=0.0)
    experience = module.rollout(batch)
    loss = module.training_step(experience, 0)
    # The same with the pieces of the pipeline, and diffusers' own noise where it has a function for it.
    pipe, by_hand = module.parts.pipe, 0.0
    for k, weight in enumerate(batch["weight"]):
        x0, eps = experience["clean"][k : k + 1], experience["noise"][k : k + 1]
        t = experience["time"][k : k + 1]
        rows = module.parts.read([batch["prompt"][k]])
        if kind == "sd3":
            sigma = t / 1000
            x_t, target = (1 - sigma) * x0 + sigma * eps, eps - x0
        else:
            scheduler = pipe.scheduler
            a = scheduler.alphas_cumprod[t].view(1, 1, 1, 1)
            x_t = a.sqrt() * x0 + (1 - a).sqrt() * eps
            target = a.sqrt() * eps - (1 - a).sqrt() * x0 if kind == "sd_v" else eps
        found = module.parts.denoise(x_t, t, rows)
        by_hand = by_hand + weight * (found - target).square().mean() / 4
    torch.testing.assert_close(loss, by_hand, rtol=1e-5, atol=1e-6)


def test_an_image_of_weight_0_changes_nothing(folders, batch):
    module = make(folders["sd"])
    experience = module.rollout(batch)
    other = experience.clone()
    other["clean"][0] += 1.0  # its weight is 0
    losses = [module.training_step(each, 0) for each in (experience, other)]
    assert losses[0].item() == losses[1].item()


def test_rollouts_are_drawn_from_the_seed(folders, batch):
    one, two = (make(folders["sd"]).rollout(batch) for _ in range(2))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    module = make(folders["sd"])
    first, second = module.rollout(batch), module.rollout(batch)
    assert not torch.equal(first["noise"], second["noise"])
    # The VAE's own noise is drawn anew: both lie around its mean, by its deviation.
    assert not torch.equal(first["clean"], second["clean"])
    deviation = module._encoded(batch)["deviation"]
    scattered = (first["clean"] - second["clean"]) / deviation
    assert scattered.abs().max() < 8
    assert scattered.std().item() == pytest.approx(2**0.5, rel=0.1)


def test_what_is_frozen_runs_once(folders, batch, monkeypatch):
    module = make(folders["sd"], prompt_dropout=0.0)
    seen = {"vae": 0, "text": 0}
    pipe = module.parts.pipe
    pipe.vae.encoder.register_forward_hook(lambda *_: seen.__setitem__("vae", seen["vae"] + 1))
    pipe.text_encoder.register_forward_hook(lambda *_: seen.__setitem__("text", seen["text"] + 1))
    for _ in range(3):
        module.rollout(batch)
    assert seen["vae"] == 1
    assert seen["text"] == 1
    for _ in range(2):
        module.evaluate(batch, 0)
    assert seen["text"] == 2  # the empty prompt, for guidance
    nothing = make(folders["sd"], cache_gib=0.0)
    nothing.parts.pipe.vae.encoder.register_forward_hook(lambda *_: seen.__setitem__("vae", seen["vae"] + 1))
    for _ in range(3):
        nothing.rollout(batch)
    assert seen["vae"] == 4


def test_the_cache_changes_no_number(folders, batch):
    kept, fresh = make(folders["sd"]), make(folders["sd"], cache_gib=0.0)
    for _ in range(2):
        a, b = kept.rollout(batch), fresh.rollout(batch)
        for key, value in a.items():
            torch.testing.assert_close(value, b[key], rtol=1e-5, atol=1e-6)


def test_prompts_are_dropped(folders, batch):
    module = make(folders["sd"], prompt_dropout=1.0)
    rows = module.rollout(batch)["row text"]
    torch.testing.assert_close(rows, module.parts.read([""])["text"].expand_as(rows))


def test_images_do_not_depend_on_the_batch(folders, batch):
    module = make(folders["sd"])
    whole = module.evaluate(batch, 0)
    for part in ([0], [1, 3], [3, 2, 1]):
        some = {key: [values[k] for k in part] for key, values in batch.items()}
        again = module.evaluate(some, 99)
        assert torch.equal(again["image"], whole["image"][part])
        assert torch.equal(again.scores["brightness"], whole.scores["brightness"][part])


def test_training_moves_towards_weighted_images(folders, batch):
    """The weighted error on a few images falls under ordinary steps of what the loader yields."""
    module = make(folders["pixel"], trained="all", prompt_dropout=0.0)
    optimizer = torch.optim.Adam(module.policy.parameters(), lr=3e-3)
    loader = RolloutLoader([batch] * 60, module)
    losses = []
    for k, minibatch in enumerate(loader):
        loss = module.training_step(minibatch, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])


def experts(folder, **options):
    """Three states near the base's, of whatever is trained."""
    states, module = {}, make(folder, **options)
    for k, name in enumerate(("a", "b")):
        draw = torch.Generator().manual_seed(k)
        state = module.policy_state()
        states[name] = {
            key: value + 0.3 * torch.randn(value.shape, generator=draw) if key in module.trainable_keys else value
            for key, value in state.items()
        }
    return module, states


def test_soups_over_lambda(folders, batch):
    module, states = experts(folders["sd"])
    soup = Soup(states, trainable_keys=module.trainable_keys)
    before = fingerprint(module.policy_state())
    lams = [soup.coefficients({"a": k / 2, "b": 1 - k / 2}) for k in range(3)]
    found = module.evaluate_soups(batch, 0, soup, lams)
    assert fingerprint(module.policy_state()) == before
    for lam, samples in zip(lams, found, strict=True):
        module.policy.load_state_dict(soup.state_dict(lam), strict=False)
        assert torch.equal(module.evaluate(batch, 5)["image"], samples["image"])
    assert not torch.equal(found[0]["image"], found[2]["image"])


@pytest.mark.parametrize("space", ["factors", "delta"])
def test_soups_of_adapters_are_those_merged(folders, batch, space):
    module, states = experts(folders["sd"], trained="lora", lora=LoraOptions(r=2, alpha=2))
    adapters = dict.fromkeys(states, module.parts.adapter)
    soup = Soup(states, trainable_keys=module.trainable_keys, space=space, adapters=adapters)
    lams = [soup.coefficients({"a": k / 2, "b": 1 - k / 2}) for k in range(3)]
    found = module.evaluate_soups(batch, 0, soup, lams)
    from rslit.soup import LoraStack
    from rslit.soup.lora import linear_at

    stack = LoraStack(states, adapters, space)
    for lam, samples in zip(lams, found, strict=True):
        plain = make(folders["sd"])
        coefficients = stack.coefficients([lam])[0]
        for path in stack.layers:
            with torch.no_grad():
                linear_at(plain.policy, path, stack.shape(path)).weight += stack.delta(path, coefficients)
        images = plain.evaluate(batch, 0)["image"]
        assert (images.int() - samples["image"].int()).abs().max() <= 1
    assert (found[0]["image"].int() - found[2]["image"].int()).abs().max() > 1


@pytest.mark.parametrize("kind", ["sd", "sd3", "pixel"])
@pytest.mark.parametrize("options", [{}, {"trained": "lora", "lora": LoraOptions(r=2, alpha=2)}], ids=["all", "lora"])
def test_ensembles_predict_what_experts_side_by_side_predict(folders, batch, kind, options):
    module, states = experts(folders[kind], **options)
    given = {} if module.parts.adapter is None else {"adapters": dict.fromkeys(states, module.parts.adapter)}
    soup = Soup(states, trainable_keys=module.trainable_keys, extrapolate=True, **given)
    before = fingerprint(module.policy_state())
    lams = [soup.coefficients({"a": share, "b": 1 - share}) for share in (1, 0.25, 1.5)]
    found = module.evaluate_ensembles(batch, 0, soup, lams)
    assert fingerprint(module.policy_state()) == before
    apart = {name: make(folders[kind], **options) for name in states}
    for name, expert in apart.items():
        expert.policy.load_state_dict(states[name], strict=False)
        expert.policy.eval()
    whole = make(folders[kind], **options)
    for lam, samples in zip(lams, found, strict=True):

        def together(*args, lam=lam, **kwargs):
            parts = {name: expert.parts.denoiser(*args, **kwargs)[0] for name, expert in apart.items()}
            return (float(lam["a"]) * parts["a"] + float(lam["b"]) * parts["b"],)

        whole.parts.denoiser.forward = together
        images = whole.evaluate(batch, 0)["image"]
        assert (images.int() - samples["image"].int()).abs().max() <= 1
    assert torch.equal(found[0]["image"], module.evaluate_soups(batch, 0, soup, lams[:1])[0]["image"])
    assert len({samples["image"].numpy().tobytes() for samples in found}) == len(lams)


def test_what_the_ingredient_says(folders):
    module = make(folders["sd"])
    record = module.ingredient_record()
    assert record["base"]["pipeline"] == "StableDiffusionPipeline"
    assert record["base"]["component"] == "unet"
    assert "adapter" not in record
    adapted = make(folders["sd"], trained="lora")
    assert adapted.ingredient_record()["adapter"]["peft_type"] == "LORA"
    assert sorted(adapted.ingredient_files(adapted.policy_state())) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert not any(name.startswith(("vae", "text")) for name, _ in module.named_parameters())


def test_bad_dropout(folders):
    with pytest.raises(RslitError, match="prompt_dropout must be a share"):
        make(folders["sd"], prompt_dropout=1.5)
