"""builtin/tiny-arith: a character model of 0.64 M parameters that half knows addition, trained in place in seconds.

It is a Llama like the real ones, only small, so that nothing downstream treats it apart. Supervised training stops
as soon as it samples a fair share of right answers, which is where reinforcement learning can show what it does: some
rollouts of most groups are right and some are wrong.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.models.policy import Model
from trainer.spec.model import TINY_ARITH_ALPHABET

RECIPE = 1
"""Part of the cached folder's name: raise it whenever anything here changes what is made."""

_log = logging.getLogger(__name__)

_SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
_PAD, _BOS, _EOS = range(3)
_VOCABULARY = {token: i for i, token in enumerate([*_SPECIAL_TOKENS, *TINY_ARITH_ALPHABET])}
_MAX_POSITIONS = 128

_SEED = 2
_BATCH = 48
_LEARNING_RATE = 2e-3
_WARMUP_STEPS = 20
_MAX_STEPS = 1500
_CHECK_EVERY = 10
_TARGET_ACCURACY = 0.2
_ONE_DIGIT_SHARE = 0.15
"""Share of the operands below 10; the others have two digits."""


def make_tiny_arith(folder: Path) -> None:
    """Train the model and write it, with its tokenizer, to `folder`. The same on every run on one machine."""
    started = time.monotonic()
    with _one_thread():
        model = _train()
    model.save_pretrained(folder)
    tiny_arith_tokenizer().save_pretrained(folder)
    _log.info("made builtin/tiny-arith in %.0f s", time.monotonic() - started)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Work this small gains nothing from a second thread, and loses minutes to it when the cores are busy; and so the
    weights do not depend on how many threads there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def tiny_arith_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character of TINY_ARITH_ALPHABET; encoding any other raises. Adds no special tokens."""
    tokenizer = Tokenizer(WordLevel(_VOCABULARY))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    pad, bos, eos = _SPECIAL_TOKENS
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
        model_max_length=_MAX_POSITIONS,
    )


def _train() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model: Model = LlamaForCausalLM(  # type: ignore[no-untyped-call]
            LlamaConfig(
                vocab_size=len(_VOCABULARY),
                hidden_size=128,
                intermediate_size=384,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=_MAX_POSITIONS,
                tie_word_embeddings=True,
                pad_token_id=_PAD,
                bos_token_id=_BOS,
                eos_token_id=_EOS,
            )
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    generator = torch.Generator().manual_seed(_SEED)
    measured_on = _additions(300, torch.Generator().manual_seed(_SEED + 1), one_digit_share=0.0)
    accuracy = 0.0
    for step in range(1, _MAX_STEPS + 1):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * min(1.0, step / _WARMUP_STEPS)
        loss_per_token, is_answer = _answer_losses(model, *_additions(_BATCH, generator, _ONE_DIGIT_SHARE))
        loss = loss_per_token.sum() / is_answer.sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % _CHECK_EVERY == 0:
            with torch.no_grad():
                # The chance to sample exactly the right answer, so no sampling noise decides when to stop.
                accuracy = float((-_answer_losses(model, *measured_on)[0].sum(dim=1)).exp().mean())
            if accuracy >= _TARGET_ACCURACY:
                break
        if step % (10 * _CHECK_EVERY) == 0:
            _log.info("making builtin/tiny-arith: step %d, loss %.2f, accuracy %.2f", step, loss.item(), accuracy)
    _log.info("builtin/tiny-arith stops at step %d with an accuracy of %.2f at temperature 1", step, accuracy)
    return model.eval()


def _additions(count: int, generator: torch.Generator, one_digit_share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """`12+34=46<eos>` as token ids, padded on the right, and which of them belong to the answer; both [count, 10]."""
    two_digits = torch.rand(count, 2, generator=generator) >= one_digit_share
    operands = torch.randint(10, 100, (count, 2), generator=generator)
    operands = torch.where(two_digits, operands, operands % 10)
    ids = torch.full((count, len("99+99=198") + 1), _PAD)
    is_answer = torch.zeros_like(ids, dtype=torch.bool)
    for row, (a, b) in enumerate(operands.tolist()):
        prompt, answer = f"{a}+{b}=", str(a + b)
        tokens = [_VOCABULARY[character] for character in prompt + answer] + [_EOS]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        is_answer[row, len(prompt) : len(tokens)] = True
    return ids, is_answer


def _answer_losses(
    model: torch.nn.Module, ids: torch.Tensor, is_answer: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each answer token, 0 elsewhere, and where the answers are: both [N, T - 1]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    is_answer = is_answer[:, 1:]
    losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    return losses * is_answer, is_answer
