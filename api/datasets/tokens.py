"""How long prompts are in a model's tokens, by its tokenizer alone: no torch, no transformers."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from sqlalchemy.orm import Session
from tokenizers import Tokenizer

from api.datasets.schemas import LengthsOut, TokensOut
from api.model_catalog import missing_because
from api.problems import invalid, missing
from api.state import ApiState
from store import checkpoints
from store.access import Identity
from store.errors import NotFound
from trainer.spec.dataset import Lengths, Problem
from trainer.spec.model import parse_model_id

MAX_ROWS = 100_000
_AT_ONCE = 1000
_DEFAULT_LIMIT = 512
"""Of `data.max_prompt_tokens`."""


def tokenizer_of(session: Session, state: ApiState, identity: Identity, model_id: str) -> Tokenizer:
    """Problem 422 for what is no model id, 404 for a model that the caller has not or whose tokenizer is not here."""
    loc: list[str | int] = ["query", "model"]
    try:
        source, name = parse_model_id(model_id)
    except ValueError as error:
        raise invalid(loc, str(error)) from error
    if (reason := missing_because(model_id, state.settings)) is not None:
        raise missing(loc, reason)
    folder: Path | None = None
    if source == "path" and state.settings.models_dir is not None:
        folder = state.settings.models_dir / name
    elif source == "builtin":
        # The worker makes them in a folder that ends with the recipe's number.
        made = state.settings.models_cache.glob(f"{name}-*/tokenizer.json")
        folder = max((file.parent for file in made), default=None)
    elif source == "job":
        job_id, _, step = name.partition("@")
        try:
            stored = checkpoints.of_model(session, identity.team_id, job_id, int(step))
        except NotFound as error:
            raise missing(loc, f"no model {model_id!r}") from error
        folder = state.artifacts.resolve(stored.path) / "model"
    file = None if folder is None else folder / "tokenizer.json"
    if file is None or not file.is_file():
        raise missing(loc, f"the tokenizer of {model_id!r} is not on this machine; a job on the model brings it")
    return Tokenizer.from_file(str(file))


def count(model_id: str, tokenizer: Tokenizer, problems: Iterable[Problem]) -> TokensOut:
    """Over the first `MAX_ROWS` rows, of which there is one at least."""
    lengths: Counter[int] = Counter()
    rows = islice(problems, MAX_ROWS)
    while some := list(islice(rows, _AT_ONCE)):
        texts = [_texts(problem) for problem in some]
        flat = [text for of_row in texts for text in of_row]
        encoded = iter(tokenizer.encode_batch(flat, add_special_tokens=False))
        lengths.update(sum(len(next(encoded).ids) for _ in of_row) for of_row in texts)
    return TokensOut(
        model=model_id,
        rows=lengths.total(),
        prompt_tokens=LengthsOut(**asdict(Lengths.of(lengths))),
        over_512=sum(rows for length, rows in lengths.items() if length > _DEFAULT_LIMIT),
    )


def _texts(problem: Problem) -> list[str]:
    prompt = problem.prompt
    return [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
