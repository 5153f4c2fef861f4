"""score: what it converts, what it refuses, and that each message names the reward, the step and the item."""

from __future__ import annotations

import math

import pytest
import torch
from user_rewards import brevity

from rslit.errors import RslitError
from rslit.rewards import FunctionReward, reward_name, score
from rslit.samples import Samples

SAMPLES = Samples(items=["q1", "q2", "q3"], fields={"text": ["one", "two words", ""]})


def returning(value) -> FunctionReward:
    return FunctionReward(lambda samples: value, name="helpful")


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.bool]
)
def test_every_real_dtype_becomes_float32(dtype):
    values = score(returning(torch.tensor([1, 0, 1], dtype=dtype)), SAMPLES, 0)
    assert values.dtype == torch.float32
    assert values.tolist() == [1.0, 0.0, 1.0]


def test_the_result_is_a_copy_without_graph():
    field = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    values = score(returning(field), SAMPLES, 0)
    assert not values.requires_grad
    values.zero_()
    assert field.tolist() == [1.0, 2.0, 3.0]


def test_the_reward_runs_without_gradient_even_on_its_own_parameters():
    weight = torch.ones(3, requires_grad=True)
    seen = []

    def model(samples):
        seen.append(torch.is_grad_enabled())
        return weight * 2

    assert not score(FunctionReward(model), SAMPLES, 0).requires_grad
    assert seen == [False]
    assert torch.is_grad_enabled()


def test_nan_is_allowed_and_an_inapplicable_batch_too():
    assert score(returning(torch.tensor([1.0, math.nan, 0.0])), SAMPLES, 0).isnan().tolist() == [False, True, False]
    assert score(returning(torch.full((3,), math.nan)), SAMPLES, 0).isnan().all()


def test_complete_refuses_nan_and_names_the_first_item():
    values = torch.tensor([1.0, math.nan, math.nan])
    words = r"reward 'helpful' does not apply \(NaN\) to item 'q2' at step 7 \(2 of 3 items\).*leave such items out"
    with pytest.raises(RslitError, match=words):
        score(returning(values), SAMPLES, 7, complete=True)
    assert score(returning(torch.ones(3)), SAMPLES, 7, complete=True).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor([0.0, 0.0, math.inf]), "gave inf for item 'q3' at step 7, infinite in float32; clip it"),
        (torch.tensor([0.0, -math.inf, math.inf]), "gave -inf for item 'q2' at step 7"),
        (
            torch.tensor([1e300, 0.0, 0.0], dtype=torch.float64),
            r"gave 1e\+300 for item 'q1' at step 7, infinite in float32",
        ),
        ([1.0, 2.0, 3.0], r"returned list at step 7; return a tensor of shape \(3,\)"),
        (None, "returned NoneType at step 7"),
        (torch.ones(3, 1), r"returned shape \(3, 1\) at step 7; it must be \(3,\).*squeeze the last dimension"),
        (torch.ones(2), r"returned shape \(2,\) at step 7; it must be \(3,\)"),
        (torch.tensor(1.0), r"returned shape \(\) at step 7"),
        (torch.ones(3, dtype=torch.complex64), "returned dtype torch.complex64 at step 7; return real numbers"),
    ],
)
def test_bad_values(value, words):
    with pytest.raises(RslitError, match=f"reward 'helpful' {words}") as caught:
        score(returning(value), SAMPLES, 7)
    assert "\n" not in str(caught.value)


def test_an_exception_is_wrapped_with_its_message_and_place():
    def broken(samples):
        raise ValueError("tokenizer\nmissing")

    with pytest.raises(RslitError) as caught:
        score(FunctionReward(broken), SAMPLES, 7)
    line = broken.__code__.co_firstlineno + 1
    message = f"reward 'broken' failed at step 7: ValueError: tokenizer missing (test_rewards_score.py:{line})"
    assert str(caught.value) == message
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_missing_field_names_the_fields_there_are():
    with pytest.raises(
        RslitError, match=r"reward 'brevity' failed at step 2: KeyError: samples have no field 'text'; they"
    ):
        score(FunctionReward(brevity), Samples(items=[1], fields={"caption": ["x"]}), 2)


def test_an_interrupt_is_not_the_rewards_fault():
    def interrupted(samples):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(FunctionReward(interrupted), SAMPLES, 0)


def test_an_empty_batch_has_an_empty_score():
    assert score(FunctionReward(brevity), Samples(items=[], fields={"text": []}), 0, complete=True).shape == (0,)


def test_a_reward_without_a_name():
    with pytest.raises(RslitError, match="reward brevity has no name; set its attribute `name`, or wrap a function"):
        score(brevity, SAMPLES, 0)
    with pytest.raises(RslitError, match="reward Nameless has no name"):
        reward_name(type("Nameless", (), {"name": ""})())
    assert reward_name(FunctionReward(brevity)) == "brevity"
