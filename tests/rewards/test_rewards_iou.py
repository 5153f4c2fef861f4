"""Overlap and hits per size class by hand; their arguments, from Python and from YAML."""

from __future__ import annotations

import math

import pytest
import torch
from jsonargparse import ArgumentParser
from reward_tester import RewardTester

from rslit.errors import RslitError
from rslit.rewards import Reward, score
from rslit.rewards.iou import BoxHitReward, IoUReward
from rslit.samples import Samples

NAN = math.nan
NONE = [NAN] * 4
# Targets of 100 x 100 (small), 100 x 300 and 200 x 400 (medium), 250 x 400 and 500 x 400 (large).
SMALL, LEAST_MEDIUM, MEDIUM, LEAST_LARGE, LARGE = (
    [10.0, 20.0, 10.0 + width, 20.0 + height]
    for width, height in [(100, 100), (100, 300), (200, 400), (250, 400), (500, 400)]
)
ROWS = [
    (SMALL, SMALL, 1.0),
    ([10.0, 20.0, 110.0, 70.0], SMALL, 0.5),
    ([10.0, 20.0, 110.0, 71.0], SMALL, 0.51),
    (NONE, SMALL, 0.0),
    (LEAST_MEDIUM, LEAST_MEDIUM, 1.0),
    ([10.0, 20.0, 210.0, 120.0], MEDIUM, 0.25),
    ([0.0, 0.0, 5.0, 5.0], LEAST_LARGE, 0.0),
    ([10.0, 20.0, 510.0, 400.0], LARGE, 0.95),
    (NONE, LARGE, 0.0),
]
OVERLAPS = [overlap for _, _, overlap in ROWS]
# Above one half, not at it.
HITS = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
SIZES = ["small"] * 4 + ["medium"] * 2 + ["large"] * 3


@pytest.fixture
def samples() -> Samples:
    boxes, targets, _ = zip(*ROWS, strict=True)
    fields = {
        "box": torch.tensor(boxes),
        "target": torch.tensor(targets),
        "image_size": torch.tensor([[640, 480]] * len(ROWS)),
        "expression": ["the one"] * len(ROWS),
    }
    return Samples([f"ref {row}" for row in range(len(ROWS))], fields)


def test_overlap(samples):
    RewardTester().run(IoUReward(), samples, OVERLAPS)
    assert (IoUReward().name, IoUReward().unit, IoUReward().range) == ("iou", "IoU", (0.0, 1.0))


@pytest.mark.parametrize("sizes", [["small"], ["medium"], ["large"], ["small", "large"], ["large", "medium", "small"]])
def test_hits_of_the_paper_are_0_for_other_sizes(samples, sizes):
    expected = [hit if size in sizes else 0.0 for hit, size in zip(HITS, SIZES, strict=True)]
    RewardTester(0.0).run(BoxHitReward(sizes), samples, expected)


@pytest.mark.parametrize("sizes", [["small"], ["medium"], ["large"], ["small", "medium"]])
def test_accuracy_per_size_leaves_other_sizes_out(samples, sizes):
    reward = BoxHitReward(sizes, other_sizes="leave_out")
    expected = [hit if size in sizes else NAN for hit, size in zip(HITS, SIZES, strict=True)]
    RewardTester(0.0).run(reward, samples, expected)
    counted = [hit for hit, size in zip(HITS, SIZES, strict=True) if size in sizes]
    assert score(reward, samples, 0).nanmean().item() == pytest.approx(sum(counted) / len(counted))


def test_thresholds(samples):
    RewardTester(0.0).run(
        BoxHitReward(["small", "medium", "large"], threshold=0.2), samples, [1, 1, 1, 0, 1, 1, 0, 1, 0]
    )
    # Targets of 10,000 are medium now, those of 30,000 and more large.
    small_images = BoxHitReward(["medium"], small_below=10_000, large_from=30_000, other_sizes="leave_out")
    RewardTester(0.0).run(small_images, samples, [1, 0, 1, 0, NAN, NAN, NAN, NAN, NAN])


def test_names_and_units():
    assert BoxHitReward(["small", "medium"]).name == "small+medium"
    assert BoxHitReward(["small"], name="acc_small").name == "acc_small"
    assert BoxHitReward(["small"], threshold=0.75).unit == "accuracy at IoU > 0.75"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": []}, r"sizes are \[\]; give one or more of small, medium, large"),
        ({"sizes": ["tiny"]}, r"BoxHitReward 'tiny': sizes are \['tiny'\]"),
        ({"sizes": ["small", "small"]}, "each once"),
        ({"sizes": ["small"], "threshold": 1.0}, r"threshold is 1.0; overlaps lie in \[0, 1\]"),
        ({"sizes": ["small"], "threshold": -0.1}, "threshold is -0.1"),
        (
            {"sizes": ["small"], "small_below": 500, "large_from": 500},
            "small_below is 500 and large_from 500; give two",
        ),
        ({"sizes": ["small"], "small_below": 0}, "small_below is 0"),
        ({"sizes": ["small"], "large_from": NAN}, "large_from nan"),
        ({"sizes": ["small"], "other_sizes": "nan"}, "other_sizes is 'nan'; choose zero or leave_out"),
    ],
)
def test_arguments_that_cannot_be(arguments, message):
    with pytest.raises(RslitError, match=message):
        BoxHitReward(**arguments)


@pytest.mark.parametrize("reward", [IoUReward(), BoxHitReward(["small"])])
def test_fields_that_cannot_be(reward):
    box = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])

    def scored(box, target):
        fields = {"box": box, "target": target}
        return score(reward, Samples(["a", "b"], {k: v for k, v in fields.items() if v is not None}), 0)

    with pytest.raises(RslitError, match=r"target of item 'b' is \(3.0, 0.0, 3.0, 1.0\), which has no area"):
        scored(box, torch.tensor([[0.0, 0, 1, 1], [3, 0, 3, 1]]))
    with pytest.raises(RslitError, match=r"target of item 'a' is \(nan, 0.0, 1.0, 1.0\)"):
        scored(box, torch.tensor([[NAN, 0, 1, 1], [3, 0, 4, 1]]))
    with pytest.raises(RslitError, match=r"field 'box' has shape \(2, 2\), not \(2, 4\)"):
        scored(box[:, :2], box)
    with pytest.raises(RslitError, match="no field 'target'; the samples have: box"):
        scored(box, None)


def test_fields_of_other_dtypes():
    samples = Samples([0], {"box": [[0, 0, 10, 10]], "target": torch.tensor([[0, 0, 10, 6]])})
    assert score(IoUReward(), samples, 0).tolist() == [pytest.approx(0.6)]


def test_from_yaml(samples):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--reward", type=Reward)
    text = """
    reward:
      class_path: rslit.rewards.iou.BoxHitReward
      init_args:
        sizes: [small, medium]
        small_below: 400
        large_from: 1600.5
        other_sizes: leave_out
    """
    reward = parser.instantiate_classes(parser.parse_string(parser.dump(parser.parse_string(text)))).reward
    assert reward.name == "small+medium"
    assert score(reward, samples, 0).isnan().all()
