from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rslit.datamodules import CaptioningDataModule, GroundingDataModule, RewardedDataModule, VqaDataModule
from rslit.errors import RslitError
from rslit.seeds import stream_seed
from rslit.vision.files import CaptionSource, Part, QuestionSource, RegionSource
from rslit.vision.rows import CaptionRow, QuestionRow, RegionRow


class Captions(CaptionSource):
    def __init__(self, train: int = 23, held_out: int = 11) -> None:
        self.counts: dict[Part, int] = {"train": train, "eval": held_out}
        self.reads = 0

    def place(self, part: Part) -> str:
        return f"memory ({part})"

    def read(self, part: Part) -> list[CaptionRow]:
        self.reads += 1
        count, start = self.counts[part], part[0]
        said = [tuple(f"Caption {j} of {k}." for j in range(5)) for k in range(count)]
        return [CaptionRow(f"{start}{k:02}", Path(f"{k}.png"), said[k]) for k in range(count)]


class Questions(QuestionSource):
    def place(self, part: Part) -> str:
        return "memory"

    def read(self, part: Part) -> list[QuestionRow]:
        answers = ("no", "yes", "yes", "no", "yes")
        return [QuestionRow(str(k), Path(f"{k}.png"), f"Is it {k}?", answers) for k in range(400)]


class Regions(RegionSource):
    def place(self, part: Part) -> str:
        return "memory"

    def read(self, part: Part) -> list[RegionRow]:
        return [RegionRow(str(k), Path(f"{k}.png"), f"the {k}th", (1.0, 2.0, 3.0 + k, 4.0), (80, 60)) for k in range(4)]


def put(given: Any, *, rank: int = 0, world: int = 1, epoch: int = 0) -> Any:
    """Under a stand-in for Lightning's trainer."""
    given.trainer = SimpleNamespace(global_rank=rank, world_size=world, current_epoch=epoch)
    return given


def data(**options: Any) -> CaptioningDataModule:
    return CaptioningDataModule(Captions(), **{"batch_size": 4, **options})


def items(batches: Any) -> list[list[str]]:
    return [batch["items"] for batch in batches]


def flat(lists: Sequence[Sequence[str]]) -> list[str]:
    return [item for part in lists for item in part]


def test_a_captioning_batch() -> None:
    given = put(data(eval_batch_size=2))
    assert isinstance(given, RewardedDataModule)
    batch = next(iter(given.val_dataloader()))
    said = [[f"Caption {j} of {k}." for j in range(5)] for k in (0, 1)]
    assert batch == {
        "items": ["e00", "e01"],
        "image": [Path("0.png"), Path("1.png")],
        "references": said,
        "target": [said[0][0], said[1][0]],
    }


def test_a_vqa_batch() -> None:
    batch = next(iter(put(VqaDataModule(Questions(), eval_items=400, batch_size=2)).val_dataloader()))
    assert batch == {
        "items": ["0", "1"],
        "image": [Path("0.png"), Path("1.png")],
        "question": ["Is it 0?", "Is it 1?"],
        "answers": [["no", "yes", "yes", "no", "yes"]] * 2,
        "target": ["yes", "yes"],
    }


def test_a_grounding_batch() -> None:
    batch = next(iter(put(GroundingDataModule(Regions(), batch_size=2)).val_dataloader()))
    boxes = [(1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 4.0, 4.0)]
    assert batch == {
        "items": ["0", "1"],
        "image": [Path("0.png"), Path("1.png")],
        "expression": ["the 0th", "the 1th"],
        "box": boxes,
        "image_size": [(80, 60), (80, 60)],
        "target": boxes,
    }


def test_an_epoch_is_one_pass_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "9")
    first, second = items(put(data()).batches()), items(put(data(), epoch=1).batches())
    assert len(put(data()).batches()) == len(first) == 23 // 4
    order = torch.randperm(23, generator=torch.Generator().manual_seed(stream_seed(9, "images", 0))).tolist()
    assert flat(first) == [f"t{k:02}" for k in order[:20]]
    assert len(set(flat(first))) == len(set(flat(second))) == 20
    assert first != second
    assert items(put(data()).batches()) == first
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert items(put(data()).batches()) != first


def test_orders_and_targets_are_those_of_older_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    # Recorded, not derived: a run of an older version goes on with the same images and targets.
    monkeypatch.setenv("PL_GLOBAL_SEED", "9")

    def dealt(given: Any) -> tuple[list[int], str]:
        batches = list(given.batches())
        order = [int(item[1:]) for item in flat(items(batches))]
        return order, "".join(target.split()[1] for batch in batches for target in batch["target"])

    first = [1, 16, 22, 3, 11, 18, 9, 21, 4, 10, 2, 20, 12, 6, 13, 5, 7, 0, 15, 19]
    assert dealt(put(data())) == (first, "33314033412020134121")
    second = [13, 15, 10, 7, 1, 0, 22, 14, 16, 6, 20, 9, 3, 11, 5, 21, 2, 17, 18, 12]
    assert dealt(put(data(), epoch=1)) == (second, "00131444144031312242")
    share = put(data(batch_size=3, rollouts_per_epoch=5), rank=1, world=2, epoch=2)
    assert dealt(share) == ([20, 7, 11, 15, 5, 1, 12, 21, 6, 22, 4, 14, 19, 7, 9], "001124113200231")


def test_short_epochs_go_on_where_the_one_before_stopped() -> None:
    walk = [batch for epoch in range(3) for batch in put(data(), epoch=epoch).batches()]
    for epoch in range(7):
        given = put(data(rollouts_per_epoch=2), epoch=epoch)
        assert len(given.batches()) == 2
        assert list(given.batches()) == walk[2 * epoch : 2 * epoch + 2]
    # More rollouts than one pass has: the second pass begins within the epoch.
    assert list(put(data(rollouts_per_epoch=7)).batches()) == walk[:7]


def test_a_resumed_run_sees_what_the_whole_run_sees() -> None:
    whole = put(data(rollouts_per_epoch=3))
    seen = []
    for epoch in range(5):
        whole.trainer.current_epoch = epoch
        seen.append(list(whole.batches()))
    for epoch in range(5):
        assert list(put(data(rollouts_per_epoch=3), epoch=epoch).batches()) == seen[epoch]
    assert put(data()).state_dict() == {}


def test_ranks_get_disjoint_shares_of_the_same_number_of_batches() -> None:
    shares = [list(put(data(batch_size=3), rank=rank, world=3).batches()) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert len(set(flat([flat(items(share)) for share in shares]))) == 18
    # The pass is the one that a single process with the same total batch makes, targets and all.
    one = list(put(data(batch_size=9)).batches())
    for name in one[0]:
        assert [[x for share in shares for x in share[k][name]] for k in range(2)] == [batch[name] for batch in one]


def test_targets_are_drawn_anew_in_each_pass_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def targets(epoch: int) -> dict[str, str]:
        batches = put(data(batch_size=23), epoch=epoch).batches()
        return {i: t for batch in batches for i, t in zip(batch["items"], batch["target"], strict=True)}

    first = targets(0)
    assert first["t07"] == f"Caption {stream_seed(0, 'target', 0, 't07') % 5} of 7."
    assert targets(0) == first
    seen = [targets(epoch)["t07"] for epoch in range(500)]
    assert set(seen) == {f"Caption {j} of 7." for j in range(5)}
    assert min(Counter(seen).values()) > 70  # of 100 expected, three standard deviations off
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert targets(0) != first


def test_answers_are_drawn_as_often_as_annotators_gave_them() -> None:
    batch = next(iter(put(VqaDataModule(Questions(), batch_size=400)).batches()))
    assert 205 < Counter(batch["target"])["yes"] < 275  # 240 expected, 9.8 the standard deviation


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader", "predict_dataloader"])
def test_held_out_items_are_spread_and_dealt_out_without_repeats(loader: str) -> None:
    shares = []
    for rank in range(3):
        batches = getattr(put(data(eval_items=7, eval_batch_size=2), rank=rank, world=3), loader)()
        assert len(batches) == len(list(batches))
        shares.append(items(batches))
    # 7 of 11: one each of 0, 1-2, 3, 4-5, 6, 7-8, 9-10.
    assert shares == [[["e00", "e05"], ["e10"]], [["e02", "e06"]], [["e03", "e07"]]]


def test_held_out_items_are_of_all_kinds() -> None:
    """Say every image has four questions of four kinds in one order: equal steps would ask one kind only."""
    batches = put(VqaDataModule(Questions(), eval_items=100, batch_size=100)).val_dataloader()
    kinds = Counter(int(item) % 4 for item in next(iter(batches))["items"])
    assert len(kinds) == 4
    assert min(kinds.values()) >= 15  # 25 expected, 4.3 the standard deviation


def test_evaluation_is_the_same_whatever_seed_epoch_ranks_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(**options: Any) -> dict[str, tuple[Any, ...]]:
        batches = put(data(eval_batch_size=options.pop("size", 4)), **options).val_dataloader()
        return {row[0]: row[2:] for b in batches for row in zip(*map(map, [str] * 4, b.values()), strict=True)}

    base = rows()
    assert list(base) == [f"e{k:02}" for k in range(11)]
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert rows(epoch=3, size=5) == base
    assert rows(rank=0, world=2) | rows(rank=1, world=2) == base


def test_more_ranks_than_items() -> None:
    batches = put(data(eval_items=2), rank=2, world=3).val_dataloader()
    assert len(batches) == 0
    assert list(batches) == []


def test_parts_are_read_once_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("rslit.datamodules.vision.rank_zero_info", said.append)
    given = put(data())
    for _ in range(2):
        given.batches()
        given.val_dataloader()
    assert len(given.rows("train")) == 23
    assert said == [
        "data: 23 items to train on from memory (train)",
        "data: 11 of 11 items to evaluate on (eval_items asks for 200) from memory (eval)",
    ]
    assert given.source.reads == 2


def test_sources_without_rows_or_with_an_item_twice() -> None:
    with pytest.raises(RslitError, match=r"data.source: memory \(train\) has no rows"):
        put(CaptioningDataModule(Captions(train=0))).batches()

    class Twice(Captions):
        def read(self, part: Part) -> list[CaptionRow]:
            return super().read(part) + super().read(part)[3:4]

    with pytest.raises(RslitError, match=r"data.source: memory \(eval\) has item e03 twice; keep one of the two"):
        put(CaptioningDataModule(Twice())).val_dataloader()


def test_batches_larger_than_the_data() -> None:
    with pytest.raises(RslitError, match=r"data.batch_size: 12 items on each of 2 devices are more than the 23"):
        put(data(batch_size=12), world=2).batches()
    assert len(put(data(batch_size=23)).batches()) == 1


@pytest.mark.parametrize("name", ["batch_size", "rollouts_per_epoch", "eval_items", "eval_batch_size"])
def test_sizes_below_one_are_refused(name: str) -> None:
    for value in (0, -3):
        with pytest.raises(RslitError, match=f"data.{name} must be at least 1, got {value}"):
            data(**{name: value})


def test_a_part_of_the_training_images() -> None:
    """Whole images, and together the parts are everything, each once."""
    lower, upper = (data(train_part=part).rows("train") for part in ((0.0, 0.8), (0.8, 1.0)))
    assert (len(lower), len(upper)) == (18, 5)  # 0.8 x 23 = 18.4
    assert [*lower, *upper] == data().rows("train")
    assert len(data(train_part=(0.8, 1.0)).rows("eval")) == 11, "what is held out stays whole"

    class Twice(Questions):
        def read(self, part: Part) -> list[QuestionRow]:
            rows = super().read(part)[:10]
            return [
                QuestionRow(f"{k} {row.item}", row.image, row.question, row.answers) for k in (0, 1) for row in rows
            ]

    part = VqaDataModule(Twice(), batch_size=2, train_part=(0.5, 1.0)).rows("train")
    assert [row.item for row in part] == [f"{k} {item}" for k in (0, 1) for item in range(5, 10)]


@pytest.mark.parametrize(
    ("part", "found"), [((0.5, 0.5), "[0.5, 0.5]"), ((-0.1, 1.0), "[-0.1, 1]"), ((0, 2), "[0, 2]")]
)
def test_parts_that_are_none(part: tuple[float, float], found: str) -> None:
    with pytest.raises(RslitError) as caught:
        data(train_part=part)
    assert str(caught.value) == f"data.train_part must be two fractions, the smaller first, got {found}"
    with pytest.raises(RslitError, match="none of the 23 training images is in that part; widen it"):
        data(train_part=(0.0, 0.01)).rows("train")
