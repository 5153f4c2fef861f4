"""Tiny pipelines of the real classes as policies: what is trained, what denoising gives, what images depend on."""

from __future__ import annotations

import pytest
import torch
from tiny_pipelines import KINDS, SIZE, make_pipeline, save_pipeline

from rslit.diffusion.noise import noise_levels
from rslit.diffusion.options import DiffusionOptions, DrawingOptions
from rslit.diffusion.policy import build_diffusion_policy
from rslit.diffusion.trained import looks_at_text
from rslit.errors import RslitError
from rslit.language.options import LoraOptions

PROMPTS = ["a good film", "", "bad"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {kind: save_pipeline(kind, root / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def policies(folders):
    return {kind: build_diffusion_policy(DiffusionOptions(str(folder))) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_paper_trains_cross_attention_biases_and_scales(policies, kind):
    model = policies[kind].model
    named = dict(model.named_parameters())
    chosen = {name for name, p in named.items() if p.requires_grad}
    assert chosen == {n for n, p in named.items() if looks_at_text(n) or p.ndim == 1 or n.endswith("scale_shift_table")}
    assert any(looks_at_text(name) for name in chosen)
    assert not any("attn1" in name and name.endswith("weight") for name in chosen)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_what_is_trained_and_nothing_else(policies, kind):
    policy = policies[kind]
    policy.model.zero_grad()
    rows = policy.read(PROMPTS)
    clean, _ = policy.latents(torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8))
    times, _ = policy.noise.draw(3, torch.Generator().manual_seed(0))
    policy.denoise(clean, times, rows).square().mean().backward()
    for name, parameter in policy.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad or _unused(name), name
    for component in policy.pipe.components.values():
        if isinstance(component, torch.nn.Module) and component is not policy.model:
            assert not any(p.requires_grad for p in component.parameters())


def _unused(name: str) -> bool:
    """The text's stream of the last block of Stable Diffusion 3 ends before its output."""
    return "add_out" in name or "context" in name


@pytest.mark.parametrize("kind", KINDS)
def test_denoising_is_what_the_pipeline_computes(folders, policies, kind):
    """The first step of the pipeline without guidance asks the denoiser the same as `denoise`."""
    policy = policies[kind]
    seen = []
    denoiser = getattr(policy.pipe, policy.family.denoiser)

    def look(module, args, kwargs, output):
        noisy = args[0] if args else kwargs["hidden_states"]
        time = kwargs["timestep"] if "timestep" in kwargs else args[1]
        seen.append((noisy.clone(), time, output[0].clone()))

    hook = denoiser.register_forward_hook(look, with_kwargs=True)
    rows = policy.read(PROMPTS)
    policy.draw(rows, policy.read([""]), [1, 2, 3], DrawingOptions(steps=2, guidance=1.0, rows=3))
    hook.remove()
    noisy, time, found = seen[0]
    with torch.no_grad():
        again = policy.denoise(noisy, torch.as_tensor(time).expand(3), rows)
    torch.testing.assert_close(again, found[:, : noisy.shape[1]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_prompt_and_seed_alone(policies, kind):
    policy, options = policies[kind], DrawingOptions(steps=3, guidance=3.0, rows=4)
    rows, blank = policy.read(PROMPTS), policy.read([""])
    images = policy.draw(rows, blank, [5, 6, 7], options)
    assert images.shape == (3, 3, SIZE, SIZE)
    assert images.dtype == torch.uint8
    for order in ([2, 0], [1], [2, 1, 0, 0, 1, 2]):  # alone, in other places, in more than one pass
        some = {name: value[order] for name, value in rows.items()}
        again = policy.draw(some, blank, [(5, 6, 7)[k] for k in order], options)
        assert torch.equal(again, images[order])
    assert not torch.equal(policy.draw(rows, blank, [5, 6, 8], options)[2], images[2])


def test_drawing_is_the_pipelines_own(folders):
    """The plain pipeline of diffusers draws the same for the same generators."""
    from diffusers import DiffusionPipeline

    policy = build_diffusion_policy(DiffusionOptions(str(folders["sd"])))
    options = DrawingOptions(steps=4, guidance=5.0, rows=2)
    prompts = ["a good film", "bad"]
    images = policy.draw(policy.read(prompts), policy.read([""]), [3, 4], options)
    pipe = DiffusionPipeline.from_pretrained(folders["sd"], safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    plain = pipe(prompts, num_inference_steps=4, guidance_scale=5.0, generator=generators, output_type="np").images
    expected = torch.from_numpy(plain).permute(0, 3, 1, 2) * 255
    assert (images.float() - expected).abs().max() <= 0.51


def test_other_schedulers(policies):
    policy = policies["sd"]
    rows, blank = policy.read(["bad"]), policy.read([""])
    drawn = [
        policy.draw(rows, blank, [1], DrawingOptions(steps=3, scheduler=name, rows=1))
        for name in (None, "DDIMScheduler", "DPMSolverMultistepScheduler")
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    with pytest.raises(RslitError, match="diffusers has no scheduler 'Adam'"):
        policy.draw(rows, blank, [1], DrawingOptions(steps=3, scheduler="Adam", rows=1))


@pytest.mark.parametrize("kind", KINDS)
def test_lora(folders, kind):
    policy = build_diffusion_policy(DiffusionOptions(str(folders[kind]), trained="lora", lora=LoraOptions(r=2)))
    assert {"lora_A" in n or "lora_B" in n for n, p in policy.model.named_parameters() if p.requires_grad} == {True}
    assert policy.adapter is not None
    plain = build_diffusion_policy(DiffusionOptions(str(folders[kind])))
    options = DrawingOptions(steps=2, rows=2)
    rows, blank = plain.read(["bad"]), plain.read([""])
    # A fresh adapter does nothing.
    assert torch.equal(policy.draw(rows, blank, [1], options), plain.draw(rows, blank, [1], options))


def test_all_can_be_trained(folders):
    policy = build_diffusion_policy(DiffusionOptions(str(folders["sd"]), trained="all"))
    assert all(p.requires_grad for p in policy.model.parameters())


def test_latents_are_the_vaes(policies):
    policy = policies["sd"]
    pixels = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    mean, deviation = policy.latents(pixels)
    with torch.no_grad():
        found = policy.pipe.vae.encode(pixels.float() / 127.5 - 1).latent_dist
    torch.testing.assert_close(mean, found.mean * policy.pipe.vae.config.scaling_factor)
    torch.testing.assert_close(deviation, found.std * policy.pipe.vae.config.scaling_factor)
    mean, deviation = policies["pixel"].latents(pixels)
    torch.testing.assert_close((mean + 1) * 127.5, pixels.float(), rtol=0, atol=1e-4)
    assert not deviation.any()


def test_times_of_training():
    from diffusers import DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

    scheduler = DDPMScheduler()
    levels = noise_levels(scheduler, "x")
    assert torch.equal(levels.levels, scheduler.alphas_cumprod)
    assert levels.times.tolist() == list(range(1000))
    flow = FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow.set_timesteps(4)  # does not count
    levels = noise_levels(flow, "x")
    assert len(levels.times) == 1000
    # u = 1/2 becomes 3 u / (1 + 2 u) = 3/4
    assert levels.levels[500].item() == pytest.approx(0.75)
    assert levels.times[500].item() == pytest.approx(750)
    drawn, at = levels.draw(4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn / 1000, at)
    assert (at < 0.75).float().mean().item() == pytest.approx(0.5, abs=0.03)
    with pytest.raises(RslitError, match="EulerDiscreteScheduler, predicts 'sample'"):
        noise_levels(EulerDiscreteScheduler(prediction_type="sample"), "x")


def test_bad_pipelines(tmp_path, folders):
    import json
    import shutil

    with pytest.raises(RslitError, match=r"policy\.base: .* cannot be loaded"):
        build_diffusion_policy(DiffusionOptions(str(tmp_path / "none")))
    odd = tmp_path / "odd"
    shutil.copytree(folders["sd"], odd)
    index = json.loads((odd / "model_index.json").read_text())
    (odd / "model_index.json").write_text(json.dumps({**index, "unet": [None, None]}))
    with pytest.raises(RslitError, match="without a UNet or transformer"):
        build_diffusion_policy(DiffusionOptions(str(odd)))
    (odd / "model_index.json").write_text(json.dumps({**index, "_class_name": "DDPMPipeline"}))
    with pytest.raises(RslitError, match="is a DDPMPipeline; supported are StableDiffusionPipeline"):
        build_diffusion_policy(DiffusionOptions(str(odd)))
    (odd / "model_index.json").write_text(json.dumps(index))
    (odd / "unet" / "diffusion_pytorch_model.safetensors").rename(odd / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(RslitError, match="pickled weights are not read"):
        build_diffusion_policy(DiffusionOptions(str(odd)))
    with pytest.raises(RslitError, match=r"policy\.lora is given"):
        build_diffusion_policy(DiffusionOptions(str(folders["sd"]), lora=LoraOptions()))
    with pytest.raises(RslitError, match=r"policy\.lora"):
        build_diffusion_policy(
            DiffusionOptions(str(folders["sd"]), trained="lora", lora=LoraOptions(target_modules=["nothing"]))
        )


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rows": 0}, {"height": 12}, {"width": 4}, {"guidance": 0.5}])
def test_bad_drawing(wrong):
    with pytest.raises(RslitError, match=f"drawing.{next(iter(wrong))}"):
        DrawingOptions(**wrong)


def test_paper_share_of_stable_diffusion():
    """What the README says of Stable Diffusion 1.5's UNet; on the meta device, without weights."""
    from diffusers import UNet2DConditionModel

    from rslit.diffusion.trained import choose_trained

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    choose_trained(unet, DiffusionOptions("stable-diffusion-v1-5"))
    total = sum(p.numel() for p in unet.parameters())
    share = sum(p.numel() for p in unet.parameters() if p.requires_grad) / total
    assert total == 859_520_964
    assert share == pytest.approx(0.0516, abs=1e-4)


def test_make_pipeline_is_the_same_each_time():
    one, two = make_pipeline("sd"), make_pipeline("sd")
    assert all(torch.equal(a, b) for a, b in zip(one.unet.parameters(), two.unet.parameters(), strict=True))


def test_the_vae_decodes_in_its_own_dtype(folders):
    """Half precision of the Trainer is the denoiser's: in float16 a VAE with large activations gives black images."""
    policy = build_diffusion_policy(DiffusionOptions(str(folders["sd"])))
    seen = []
    policy.pipe.vae.decoder.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    rows, blank = policy.read(["bad"]), policy.read([""])
    with torch.autocast("cpu", torch.bfloat16):
        policy.draw(rows, blank, [1], DrawingOptions(steps=2, rows=1))
    assert seen == [torch.float32]


def test_images_that_are_not_finite_are_refused(folders):
    policy = build_diffusion_policy(DiffusionOptions(str(folders["pixel"])))
    with pytest.raises(RslitError, match="drew an image that is not finite"):
        policy._images(torch.full((1, 3, 8, 8), torch.nan))
