"""From sampled responses to verdicts, for training and evaluation alike."""

from collections.abc import Callable, Sequence

from trainer.engines import Generation
from trainer.prompts import Prompt
from trainer.rewards import Verdict, VerifierPool, VerifyItem


def judge(
    verifier: VerifierPool,
    decode: Callable[[Sequence[int]], str],
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
) -> tuple[list[str], list[Verdict]]:
    """Text and verdict of each generation, in their order; `prompts` are those they were generated from."""
    texts = [decode(generation.token_ids) for generation in generations]
    asked = [prompts[generation.prompt_index] for generation in generations]
    items = [
        VerifyItem(text, prompt.answer, prompt.kind, prompt.options, prompt.question, prompt.metadata)
        for text, prompt in zip(texts, asked, strict=True)
    ]
    return texts, verifier.score(items)
