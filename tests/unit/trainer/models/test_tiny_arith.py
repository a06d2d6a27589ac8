"""builtin/tiny-arith: small, partly right, made the same way every time."""

from pathlib import Path

import pytest
import torch

from trainer.engines import HfEngine
from trainer.models import Policy, load_policy, tiny_arith
from trainer.models.tiny_arith import make_tiny_arith, tiny_arith_tokenizer
from trainer.spec.model import TINY_ARITH_ALPHABET


@pytest.fixture(scope="module")
def policy(model_cache: Path) -> Policy:
    return load_policy("builtin/tiny-arith", model_dir=None, cache_dir=model_cache, models_dir=None, device="cpu")


def test_it_is_a_small_base_model(policy: Policy) -> None:
    assert 500_000 < policy.parameters < 2_000_000
    assert not policy.has_chat_template
    assert policy.eos_ids == {2}
    assert policy.pad_id == 0


def _accuracy(policy: Policy, temperature: float) -> float:
    """Share of right answers to 200 additions of two-digit numbers, 4 samples each."""
    operands = torch.randint(10, 100, (200, 2), generator=torch.Generator().manual_seed(5)).tolist()
    generations = HfEngine(policy).generate(
        [policy.tokenizer(f"{a}+{b}=")["input_ids"] for a, b in operands],
        samples_per_prompt=4,
        temperature=temperature,
        max_new_tokens=6,
        seed=(0,),
    )
    answers = [policy.tokenizer.decode(g.token_ids, skip_special_tokens=True) for g in generations]
    sums = [str(sum(operands[g.prompt_index])) for g in generations]
    return sum(answer == right for answer, right in zip(answers, sums, strict=True)) / len(answers)


def test_it_is_only_partly_right(policy: Policy) -> None:
    # Room to at least double at both temperatures, and enough right answers for groups with both kinds.
    assert 0.15 <= _accuracy(policy, 1.0) <= 0.3
    assert 0.2 <= _accuracy(policy, 0.4) <= 0.45


def test_the_tokenizer_knows_its_alphabet_and_nothing_else() -> None:
    tokenizer = tiny_arith_tokenizer()
    ids = tokenizer("12+34= 4*5-6")["input_ids"]
    assert len(ids) == 12  # A character is a token, and no special token is added.
    assert tokenizer.decode(ids) == "12+34= 4*5-6"
    assert tokenizer.decode([*ids, 2, 0, 0], skip_special_tokens=True) == "12+34= 4*5-6"
    assert len(tokenizer) == len(TINY_ARITH_ALPHABET) + 3
    for unknown in ("1/2", "x", "1\n2", "é"):
        with pytest.raises(Exception, match="WordLevel"):  # The tokenizers library raises no class of its own.
            tokenizer(unknown)


def test_it_is_made_the_same_way_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_arith, "_MAX_STEPS", 3)
    state = torch.random.get_rng_state()
    for name in ("a", "b"):
        make_tiny_arith(tmp_path / name)
        torch.rand(3)  # What others draw from the global generator has no part in it.
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b
    torch.random.set_rng_state(state)
    make_tiny_arith(tmp_path / "c")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_number_of_threads_has_no_say_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_arith, "_MAX_STEPS", 2)
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            make_tiny_arith(tmp_path / str(threads))
            assert torch.get_num_threads() == threads
            made.append((tmp_path / str(threads) / "model.safetensors").read_bytes())
    finally:
        torch.set_num_threads(before)
    assert made[0] == made[1]
