"""What a language policy is made of, as a user writes it in YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["EvaluationOptions", "KLOptions", "LoraOptions", "PolicyOptions", "SamplingOptions"]


@dataclass
class LoraOptions:
    """Low-rank adapters on the linear layers of the base (Hu et al. 2021), by PEFT.

    Attributes:
        r: Rank.
        alpha: The update is scaled by alpha / r (with `rslora` by alpha / sqrt(r)).
        dropout: Written into the adapter's configuration for those who train it further elsewhere. Here it has no
            effect: PPO needs the same probabilities in every pass, so all dropout is off.
        target_modules: Names of the layers, or one regular expression; None leaves the choice to PEFT.
        rslora: Rank-stabilised scaling.
        seed: Seed of the fresh factors. Not the run's: experts of one soup start from the same adapter, also when
            they are trained with different seeds.
    """

    r: int = 16
    alpha: int = 16
    dropout: float = 0.0
    target_modules: list[str] | str | None = None
    rslora: bool = False
    seed: int = 0


@dataclass
class PolicyOptions:
    """A causal language model and how it is trained.

    Attributes:
        base: Hub name or local folder of an ``AutoModelForCausalLM``.
        gguf_file: Name of a GGUF file in `base`; it is dequantised into a dense model.
        lora: Fresh LoRA adapters; the base is frozen. None, without an `adapter`, fine-tunes every weight.
        adapter: PEFT folder or hub name of a LoRA adapter to continue. It then is the initialisation and the reference.
        check_adapter_base: Refuse an `adapter` whose own record names another base.
        dtype: Of the base. Adapters are float32 whatever it is.
        quantization: Load the base in 4 or 8 bits with bitsandbytes, which needs a GPU.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, more time.
        attention: Implementation, such as ``sdpa`` or ``flash_attention_2``; None is transformers' choice.
        pad_token: Token for padding; by default the tokenizer's own, if it is not the end token, else another special
            token that a text does not need.
        eos_token: Token that ends an answer; by default the tokenizer's and those of the model's generation config.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Run Python code that comes with the model.
    """

    base: str
    gguf_file: str | None = None
    lora: LoraOptions | None = None
    adapter: str | None = None
    check_adapter_base: bool = True
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    quantization: Literal["4bit", "8bit"] | None = None
    gradient_checkpointing: bool = False
    attention: str | None = None
    pad_token: str | None = None
    eos_token: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass
class SamplingOptions:
    """How answers are sampled in training.

    Attributes:
        min_new_tokens: Shortest length that is drawn, in tokens.
        max_new_tokens: Longest; every answer's length is drawn uniformly between the two, both included.
        stop_at_eos: Let an end token end an answer before its length. False, as in the paper: an end token is one like
            any other and every answer has the length that was drawn.
        missing_eos_penalty: Taken off the score of an answer that does not end by itself, in reward units.
        temperature: Logits are divided by it, wherever probabilities are computed.
        samples_per_prompt: Answers to each prompt of a rollout; RLOO needs at least 2.
        rows: Answers generated side by side; None: all of a rollout. A matter of memory.
    """

    min_new_tokens: int = 16
    max_new_tokens: int = 32
    stop_at_eos: bool = True
    missing_eos_penalty: float | None = None
    temperature: float = 1.0
    samples_per_prompt: int = 1
    rows: int | None = None


@dataclass
class KLOptions:
    """The penalty on the distance to the reference.

    Attributes:
        coefficient: Its weight, reward units per nat; the first one if there is a `target`. 0 leaves the reference out.
        target: KL per answer that an adaptive controller steers to, nats; None keeps the coefficient.
        horizon: Answers over which the controller works off a full error.
        estimator: k1, k2 or k3, see `rslit.objectives.kl`.
        place: Taken off each token's reward, or added to the loss.
    """

    coefficient: float = 0.2
    target: float | None = None
    horizon: int = 10_000
    estimator: Literal["k1", "k2", "k3"] = "k1"
    place: Literal["reward", "loss"] = "reward"


@dataclass
class EvaluationOptions:
    """How answers are decoded in evaluation.

    Attributes:
        max_new_tokens: Longest answer.
        sample: Draw from the distribution instead of decoding greedily; all λ share the noise.
        num_beams: Beams of a search; 1 is none.
        stop_at_eos: Let an end token end an answer, also where it does not in training.
        rows: Answers decoded side by side in a sweep, over all λ: a matter of memory.
    """

    max_new_tokens: int = 32
    sample: bool = False
    num_beams: int = 1
    stop_at_eos: bool = True
    rows: int = 256
