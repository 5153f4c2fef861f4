from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from table_files import write
from tiny_models import tiny_tokenizer

from rslit.datamodules import PromptTable, RewardedDataModule, TextDataModule
from rslit.datamodules.text_templates import prefix_length
from rslit.errors import RslitError
from rslit.seeds import stream_seed

TOKENIZER = tiny_tokenizer("llama")
ROWS = [{"id": f"p{k:02}", "ask": f"Question {k}?", "best": f"The answer is {k}, of course."} for k in range(23)]


@pytest.fixture
def source(tmp_path: Path) -> PromptTable:
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.jsonl", [row | {"id": f"e{k:02}"} for k, row in enumerate(ROWS[:11])])
    return PromptTable(str(tmp_path), "ask", reference="best", id="id", instruction="Answer.")


def put(
    given: TextDataModule, *, rank: int = 0, world: int = 1, epoch: int = 0, module: Any = None, **more: Any
) -> TextDataModule:
    """Under a stand-in for Lightning's trainer."""
    module = module or SimpleNamespace(tokenizer=TOKENIZER, **more)
    trainer = SimpleNamespace(global_rank=rank, world_size=world, current_epoch=epoch, lightning_module=module)
    given.trainer = trainer  # type: ignore[assignment]
    return given


def data(source: PromptTable, **options: Any) -> TextDataModule:
    return TextDataModule(source, **{"batch_size": 4, **options})


def items(batches: Any) -> list[list[str]]:
    return [batch["items"] for batch in batches]


def flat(lists: Sequence[Sequence[str]]) -> list[str]:
    return [item for part in lists for item in part]


def test_a_batch_by_hand(source: PromptTable) -> None:
    given = put(data(source, prefix_tokens=(2, 7), eval_batch_size=2))
    assert isinstance(given, RewardedDataModule)
    batch = next(iter(given.val_dataloader()))
    text = "<|im_start|>user\nAnswer.\n\nQuestion 0?<|im_end|>\n<|im_start|>assistant\n"
    start = TOKENIZER("The answer is 0, of course.")["input_ids"][: prefix_length("e00", (2, 7))]
    assert {name: column[0] for name, column in batch.items()} == {
        "items": "e00",
        "prompt_ids": TOKENIZER(text)["input_ids"] + start,
        "question": "Question 0?",
        "prompt": text,
        "prefix_ids": start,
        "prefix": TOKENIZER.decode(start),
        "reference": "The answer is 0, of course.",
    }
    assert {len(column) for column in batch.values()} == {2}
    assert "The answer is 0, of course.".startswith(batch["prefix"][0])
    assert batch["prefix"][0]


def test_without_prefix(source: PromptTable) -> None:
    batch = next(iter(put(data(source, template="plain")).val_dataloader()))
    assert batch["prefix"] == [""] * 4
    assert batch["prefix_ids"] == [[]] * 4
    assert batch["prompt_ids"][3] == TOKENIZER("Question 3?")["input_ids"]


def test_an_epoch_is_one_pass_in_an_order_of_its_own(source: PromptTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "9")
    first, second = items(put(data(source)).batches()), items(put(data(source), epoch=1).batches())
    assert len(put(data(source)).batches()) == len(first) == 23 // 4
    stream = torch.Generator().manual_seed(stream_seed(9, "prompts", 0))
    order = torch.randperm(23, generator=stream).tolist()
    assert flat(first) == [f"p{k:02}" for k in order[:20]]
    assert len(set(flat(first))) == len(set(flat(second))) == 20
    assert first != second
    assert items(put(data(source)).batches()) == first
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert items(put(data(source)).batches()) != first


def test_orders_are_those_of_older_versions(source: PromptTable, monkeypatch: pytest.MonkeyPatch) -> None:
    # Recorded, not derived: a run of an older version goes on with the same prompts.
    monkeypatch.setenv("PL_GLOBAL_SEED", "9")
    orders = [
        [15, 0, 19, 12, 2, 22, 1, 14, 16, 13, 6, 8, 17, 10, 21, 11, 18, 7, 4, 3],
        [8, 12, 11, 1, 13, 16, 19, 10, 22, 3, 17, 9, 20, 4, 2, 0, 5, 6, 18, 21],
    ]
    for epoch, order in enumerate(orders):
        assert flat(items(put(data(source), epoch=epoch).batches())) == [f"p{k:02}" for k in order]
    share = put(data(source, batch_size=3, rollouts_per_epoch=5), rank=1, world=2, epoch=2)
    parts = [(21, 12, 3), (4, 7, 5), (21, 8, 15), (13, 1, 16), (6, 19, 3)]
    assert items(share.batches()) == [[f"p{k:02}" for k in part] for part in parts]


def test_short_epochs_go_on_where_the_one_before_stopped(source: PromptTable) -> None:
    passes = [items(put(data(source), epoch=epoch).batches()) for epoch in range(3)]
    walk = passes[0] + passes[1] + passes[2]
    for epoch in range(7):
        given = put(data(source, rollouts_per_epoch=2), epoch=epoch)
        assert len(given.batches()) == 2
        assert items(given.batches()) == walk[2 * epoch : 2 * epoch + 2]
    # More rollouts than one pass has: the second pass begins within the epoch.
    assert items(put(data(source, rollouts_per_epoch=7)).batches()) == walk[:7]


def test_a_resumed_run_sees_the_prompts_that_the_whole_run_sees(source: PromptTable) -> None:
    whole = put(data(source, prefix_tokens=(1, 3)))
    seen = []
    for epoch in range(4):
        assert whole.trainer is not None
        whole.trainer.current_epoch = epoch  # type: ignore[misc]
        seen.append(list(whole.batches()))
    resumed = put(data(source, prefix_tokens=(1, 3)), epoch=2)
    assert list(resumed.batches()) == seen[2]


def test_ranks_get_disjoint_shares_of_the_same_number_of_batches(source: PromptTable) -> None:
    shares = [items(put(data(source, batch_size=3), rank=rank, world=3).batches()) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert all(len(batch) == 3 for share in shares for batch in share)
    assert len(set(flat([flat(share) for share in shares]))) == 18
    # The pass is the one that a single process with the same total batch makes.
    one = items(put(data(source, batch_size=9)).batches())
    assert [flat([share[k] for share in shares]) for k in range(2)] == one


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader", "predict_dataloader"])
def test_the_first_held_out_prompts_are_dealt_out_without_repeats(source: PromptTable, loader: str) -> None:
    shares = []
    for rank in range(3):
        batches = getattr(put(data(source, eval_prompts=7, eval_batch_size=2), rank=rank, world=3), loader)()
        assert len(batches) == len(list(batches))
        shares.append(items(batches))
    assert shares == [[["e00", "e03"], ["e06"]], [["e01", "e04"]], [["e02", "e05"]]]


def test_evaluation_is_the_same_whatever_seed_epoch_ranks_and_batches(
    source: PromptTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(**options: Any) -> dict[str, tuple[Any, ...]]:
        batches = put(data(source, prefix_tokens=(2, 7), eval_batch_size=options.pop("size", 4)), **options)
        table = [row for b in batches.val_dataloader() for row in zip(*b.values(), strict=True)]
        return {row[0]: row for row in table}

    base = rows()
    assert list(base) == [f"e{k:02}" for k in range(11)]
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert rows(epoch=3, size=5) == base
    assert rows(rank=0, world=2) | rows(rank=1, world=2) == base


def test_more_ranks_than_prompts(source: PromptTable) -> None:
    batches = put(data(source, eval_prompts=2), rank=2, world=3).val_dataloader()
    assert len(batches) == 0
    assert list(batches) == []


def test_what_was_read_and_left_out_is_said_once(
    source: PromptTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("rslit.datamodules.text.rank_zero_info", said.append)
    longest = max(len(TOKENIZER(row["ask"])["input_ids"]) for row in ROWS)
    left = sum(len(TOKENIZER(row["ask"])["input_ids"]) < longest for row in ROWS)
    given = put(data(source, template="plain", max_prompt_tokens=longest - 1))
    assert max(len(ids) for batch in given.batches() for ids in batch["prompt_ids"]) == longest - 1
    given.batches()
    given.val_dataloader()
    assert 0 < left < 23
    assert said[0] == (
        f"data: {left} prompts to train on from {tmp_path} (split 'train'): 23 rows, of which filters took "
        f"{23 - left} by 'more than {longest - 1} tokens'"
    )
    held = sum(len(TOKENIZER(row["ask"])["input_ids"]) < longest for row in ROWS[:11])
    assert said[1].startswith(
        f"data: {held} prompts to evaluate on (eval_prompts asks for 200) from {tmp_path} (split 'test'): 11 rows"
    )
    assert len(said) == 2


def test_the_prefix_counts_as_prompt(source: PromptTable) -> None:
    bare = max(len(ids) for b in put(data(source)).batches() for ids in b["prompt_ids"])
    with pytest.raises(RslitError, match=rf"23 by 'more than {bare - 9} tokens'"):
        put(data(source, prefix_tokens=(7, 7), max_prompt_tokens=bare - 9)).batches()


def test_the_tokenizer_may_be_the_evaluators_modules(source: PromptTable) -> None:
    module = SimpleNamespace(tokenizer=TOKENIZER, context_length=None)
    evaluator = SimpleNamespace(module=module)
    assert len(put(data(source), module=evaluator).val_dataloader()) == 3


def test_a_module_without_tokenizer(source: PromptTable) -> None:
    for module in (LightningModule(), SimpleNamespace(module=SimpleNamespace())):
        with pytest.raises(RslitError, match=f"data: {type(module).__name__} has no tokenizer"):
            put(data(source), module=module).val_dataloader()
    with pytest.raises(RslitError, match="has no tokenizer"):
        data(source).val_dataloader()


def test_prompt_and_answer_must_fit_the_context(source: PromptTable) -> None:
    lengths = {b["items"][0]: len(b["prompt_ids"][0]) for b in put(data(source, batch_size=1)).batches()}
    longest = max(lengths.values())
    fits = {"context_length": longest + 8, "max_new_tokens": 8}
    assert len(put(data(source), **fits).batches()) == 5
    with pytest.raises(RslitError) as caught:
        put(data(source), **fits | {"max_new_tokens": 9}).batches()
    first = next(item for item in sorted(lengths) if lengths[item] == longest)
    assert str(caught.value) == (
        f"data: the prompt of item {first} has {longest} tokens, with 9 new ones more than the model's context of "
        f"{longest + 8}; set data.max_prompt_tokens to {longest - 1} or less"
    )
    mended = put(data(source, batch_size=1, max_prompt_tokens=longest - 1), **fits | {"max_new_tokens": 9})
    assert 0 < len(mended.batches()) < 23


def test_batches_larger_than_the_data(source: PromptTable, tmp_path: Path) -> None:
    with pytest.raises(RslitError, match=r"data.batch_size: 12 prompts on each of 2 devices are more than the 23 of"):
        put(data(source, batch_size=12), world=2).batches()
    assert len(put(data(source, batch_size=23)).batches()) == 1


def test_a_prefix_needs_references(source: PromptTable, tmp_path: Path) -> None:
    bare = PromptTable(str(tmp_path), "ask")
    with pytest.raises(RslitError, match=r"data.prefix_tokens: the prompts have no references"):
        put(data(bare, prefix_tokens=(2, 7))).batches()


def test_nothing_left_names_the_filters(source: PromptTable, tmp_path: Path) -> None:
    with pytest.raises(RslitError) as caught:
        put(data(source, max_prompt_tokens=2)).batches()
    assert str(caught.value) == (
        f"data.source: no prompt is left of {tmp_path} (split 'train'): 23 rows, of which filters took "
        "23 by 'more than 2 tokens'"
    )


@pytest.mark.parametrize(
    "name", ["batch_size", "rollouts_per_epoch", "eval_prompts", "eval_batch_size", "max_prompt_tokens"]
)
def test_sizes_below_one_are_refused(source: PromptTable, name: str) -> None:
    for value in (0, -3):
        with pytest.raises(RslitError, match=f"data.{name} must be at least 1, got {value}"):
            data(source, **{name: value})


def test_options_that_do_not_go_together(source: PromptTable) -> None:
    for bounds in ((7, 2), (-1, 2)):
        with pytest.raises(RslitError, match=r"data.prefix_tokens must be two bounds, the smaller first"):
            data(source, prefix_tokens=bounds)
    with pytest.raises(RslitError, match=r"data.system is the system's turn of template 'chat'; template 'alpaca' has"):
        data(source, template="alpaca", system="Be kind.")


def test_yaml_names_the_source_by_class(tmp_path: Path) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(RewardedDataModule, "data")
    news = {"class_path": "rslit.datamodules.NewsSummary", "init_args": {"path": str(tmp_path)}}
    table = {
        "class_path": "rslit.datamodules.PromptTable",
        "init_args": {"path": "x.csv", "question": "ask", "id": "k"},
    }
    for given in (news, table):
        options = {"source": given, "prefix_tokens": [2, 7], "template": "alpaca"}
        config = parser.parse_object({"data": {"class_path": "rslit.datamodules.TextDataModule", "init_args": options}})
        made = parser.instantiate(config).data
        assert type(made.source).__name__ == given["class_path"].split(".")[-1]
        assert (made.prefix_tokens, made.template, made.batch_size) == ((2, 7), "alpaca", 128)
