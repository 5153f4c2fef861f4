"""Answers to held-out images: greedy, by beams, sampled; and of many λ at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_vision import BOXES, CAPTIONS, KINDS, LORA, TASKS, Bases, Recorder, batch_of, build, move
from transformers import AutoImageProcessor, GenerationConfig, VisionEncoderDecoderModel

from rslit.errors import RslitError
from rslit.modules import RewardedModule
from rslit.soup import Soup
from rslit.vision.answers import AnswerDecoding
from rslit.vision.images import load_image

LAMS = [{"one": 1.0, "two": 0.0}, {"one": 0.25, "two": 0.75}, {"one": 0.5, "two": 0.5}, {"one": 0.0, "two": 1.0}]
SAID = {"captioning": "caption", "vqa": "answer", "grounding": "box"}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("bases"))


class Raw:
    """Keeps what a module generates: boxes of an untrained model are all the same, its tokens are not."""

    def __init__(self, module: Any) -> None:
        self.tokens: list[Any] = []
        own = module.samples

        def samples(batch: Any, answers: Any, group: int) -> Any:
            self.tokens.append([row[mask].tolist() for row, mask in zip(answers.tokens, answers.mask, strict=True)])
            return own(batch, answers, group)

        module.samples = samples


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_transformers_alone(bases: Bases, tmp_path: Path, beams: int) -> None:
    evaluation = {"num_beams": beams, "max_new_tokens": 10}
    module, batch = build("captioning", bases, evaluation=evaluation), batch_of("captioning", tmp_path / "p")
    move(module)
    samples = module.evaluate(batch, seed=0)
    folder = bases[KINDS["captioning"]]
    plain: Any = VisionEncoderDecoderModel.from_pretrained(folder).eval()
    plain.load_state_dict(module.policy_state(), strict=False)
    plain.generation_config = plain.decoder.generation_config = GenerationConfig()
    end = module.parts.eos_ids[0]
    settings = GenerationConfig(
        max_new_tokens=10,
        num_beams=beams,
        do_sample=False,
        decoder_start_token_id=plain.config.decoder_start_token_id,
        eos_token_id=end,
        pad_token_id=end,
    )
    processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
    for row, path in enumerate(batch["image"]):
        pixels = processor(images=[load_image(path)], return_tensors="pt")["pixel_values"]
        ids = plain.generate(pixels, generation_config=settings)[0, 1:]
        assert samples["caption"][row] == module.parts.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert len(set(samples["caption"])) > 1
    assert samples.items == batch["items"]
    assert samples["references"] == [[text, f"{text} again"] for text in CAPTIONS[:4]]
    assert samples.scores["recorded"].tolist() == [0.0, 1.0, 4.0, 2.0]


@pytest.mark.parametrize("task", TASKS)
def test_sampled_answers_follow_the_seed(bases: Bases, tmp_path: Path, task: str) -> None:
    module, batch = build(task, bases, evaluation={"sample": True}), batch_of(task, tmp_path / "p")
    raw = Raw(module)
    for seed in (5, 5, 6):
        module.evaluate(batch, seed)
    module.evaluation.sample = False
    module.evaluate(batch, 5)
    first, same, other, greedy = raw.tokens
    assert first == same
    assert first != other
    assert first != greedy


def test_every_evaluation_reward_scores_the_same_answers(bases: Bases, tmp_path: Path) -> None:
    rewards = [Recorder("one"), Recorder("two")]
    module = build("grounding", bases, evaluation_rewards=rewards)
    samples = module.evaluate(batch_of("grounding", tmp_path / "p"), 0)
    assert samples.scores.keys() == {"one", "two"}
    assert rewards[0].seen == rewards[1].seen == [samples]
    assert not module.reward.seen
    assert samples["target"].tolist() == [list(map(float, box)) for box in BOXES[:4]]
    assert module.latest is None, "no rollout"


# -- soups ----------------------------------------------------------------------------------------------------------


def experts(task: str, bases: Bases, policy: dict[str, Any], **soup: Any) -> tuple[Any, Soup]:
    built = [build(task, bases, policy) for _ in range(2)]
    states = {
        name: move(module, 0.2, seed) for seed, (name, module) in enumerate(zip(("one", "two"), built, strict=True))
    }
    adapter = built[0].parts.adapter
    given = {} if adapter is None else {"adapters": dict.fromkeys(states, adapter)}
    return built[0], Soup(states, trainable_keys=built[0].trainable_keys, **given, **soup)


@pytest.mark.parametrize("options", [{}, {"sample": True}, {"num_beams": 2}])
@pytest.mark.parametrize("task", TASKS)
def test_all_soups_in_one_batch_equal_one_after_the_other(
    bases: Bases, tmp_path: Path, task: str, options: dict[str, Any]
) -> None:
    """Same images and, where sampled, same noise for every λ; however many rows are decoded at a time."""
    _, soup = experts(task, bases, {"lora": LORA}, space="factors")
    module, batch = build(task, bases, {"lora": LORA}, evaluation=options), batch_of(task, tmp_path / "p", 3)
    raw = Raw(module)
    RewardedModule.evaluate_soups(module, batch, 3, soup, LAMS)
    poured = list(raw.tokens)
    assert len({str(answers) for answers in poured}) == len(LAMS), "every soup says something else"
    module.evaluate(batch, 3)
    before = raw.tokens.pop()
    for rows in (256, 6, 1):
        module.evaluation.rows = rows
        raw.tokens.clear()
        found = module.evaluate_soups(batch, 3, soup, LAMS)
        assert raw.tokens == poured, rows
        assert [samples.items for samples in found] == [batch["items"]] * 4
        assert all(samples.scores["recorded"].tolist() == [0.0, 1.0, 4.0] for samples in found)
    module.evaluate(batch, 3)
    assert raw.tokens[-1] == before, "the policy is as it was"


@pytest.mark.parametrize("task", TASKS)
def test_soups_of_products_equal_bases_with_the_products_added(bases: Bases, tmp_path: Path, task: str) -> None:
    _, soup = experts(task, bases, {"lora": LORA}, space="delta")
    module, batch = build(task, bases, {"lora": LORA}), batch_of(task, tmp_path / "p", 3)
    raw = Raw(module)
    module.evaluate_soups(batch, 0, soup, LAMS)
    found = list(raw.tokens)
    names = {name.split(".lora_")[0] for name in soup.trainable_keys}
    for lam, answers in zip(LAMS, found, strict=True):
        plain = build(task, bases, {"lora": LORA})
        weights = plain.policy.state_dict()
        for name in names:
            a, b = ({e: s[f"{name}.lora_{f}.default.weight"] for e, s in soup.states.items()} for f in "AB")
            delta = sum(2.0 * lam[e] * b[e] @ a[e] for e in lam)  # alpha / r
            whole = weights[f"{name}.base_layer.weight"]
            whole += delta.T if task == "captioning" else delta  # GPT-2 has its weights the other way round
        own = Raw(plain)
        plain.evaluate(batch, 0)
        assert own.tokens == [answers]


@pytest.mark.parametrize("task", TASKS)
def test_a_soup_of_whole_decoders_is_their_average_by_hand(bases: Bases, tmp_path: Path, task: str) -> None:
    module, soup = experts(task, bases, None)  # type: ignore[arg-type]
    batch = batch_of(task, tmp_path / "p", 3)
    raw, looks = Raw(module), []
    own = module.parts.family.tower(module.policy)
    own.register_forward_pre_hook(lambda *_: looks.append(1))
    module.evaluate_soups(batch, 0, soup, LAMS)
    assert len(looks) == 1, "every λ has the same features"
    assert len({str(answers) for answers in raw.tokens}) == len(LAMS)
    for lam, answers in zip(LAMS, raw.tokens, strict=True):
        plain = build(task, bases)
        keys = soup.trainable_keys
        average = {key: sum(lam[e] * soup.states[e][key].double() for e in lam).float() for key in keys}
        plain.policy.load_state_dict(average, strict=False)
        said = Raw(plain)
        plain.evaluate(batch, 0)
        assert said.tokens == [answers]


def test_options_out_of_range() -> None:
    for wrong in ({"max_new_tokens": 0}, {"num_beams": 0}, {"rows": 0}):
        with pytest.raises(RslitError, match="evaluation: max_new_tokens, num_beams and rows must be at least 1"):
            AnswerDecoding(**wrong)
    with pytest.raises(RslitError, match="evaluation: beams are for decoding without sampling; give one of the two"):
        AnswerDecoding(num_beams=2, sample=True)
