"""Word problems to prompt with, made up so that the repository ships no data set.

Their lengths in SmolLM2 tokens are 24 / 40 / 54 / 66 / 86 at the 5th, 25th, 50th, 75th and 95th percentile, near those
of GSM8K's training questions (33 / 45 / 56 / 71 / 101), so that padding costs about what it costs there.
"""

import json
import random
from pathlib import Path

_NAMES = ("Natalie", "Omar", "Weng", "Priya", "Lucas", "Betty", "Kofi", "Julia", "Tomas", "Ingrid")
_PLACES = ("bakery", "library", "workshop", "farm", "school", "harbour", "market", "museum")
_THINGS = ("apples", "notebooks", "candles", "tickets", "bricks", "postcards", "eggs", "marbles", "lamps")
_FACTS = (
    "In the morning {name} sells {a} {things}.",
    "{name} then buys {a} boxes with {b} {things} in each box.",
    "A friend gives {name} {a} more {things}, but {b} of them are broken.",
    "Every {things_one} costs ${a} and is sold for ${c}.",
    "On each of the next {b} days {name} makes {a} {things}.",
    "Half of the {things} are kept for the {place}, and {a} are given away to the neighbours.",
    "{name} also pays ${a} for the bus and ${b} for lunch.",
)
_QUESTIONS = (
    "How many {things} does {name} have in the end?",
    "How much money, in dollars, does {name} have left?",
    "How many {things} are needed altogether?",
)
_FACT_COUNTS = (0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4)
"""One drawn for each problem: its number of facts."""


def make_problems(count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` problems {"question", "answer"}, the same for the same seed on every machine.

    The answers are numbers and nothing more: the benchmark's reward does not look at them.
    """
    # random() is the one method whose sequence Python promises to keep.
    generator = random.Random(f"bench/{seed}")  # noqa: S311 - reproducible, not secret

    def below(limit: int) -> int:
        return int(generator.random() * limit)

    problems = []
    for _ in range(count):
        name, place = _NAMES[below(len(_NAMES))], _PLACES[below(len(_PLACES))]
        things = _THINGS[below(len(_THINGS))]
        numbers = {"a": 2 + below(60), "b": 2 + below(12), "c": 70 + below(200)}
        sentences = [f"{name} works at the {place} and has {3 + below(90)} {things}."]
        for _ in range(_FACT_COUNTS[below(len(_FACT_COUNTS))]):
            fact = _FACTS[below(len(_FACTS))]
            sentences.append(fact.format(name=name, place=place, things=things, things_one=things[:-1], **numbers))
            numbers = {key: value + 1 + below(9) for key, value in numbers.items()}
        sentences.append(_QUESTIONS[below(len(_QUESTIONS))].format(name=name, things=things))
        problems.append({"question": " ".join(sentences), "answer": f"#### {below(1000)}"})
    return problems


def read_problems(path: Path, count: int) -> list[dict[str, str]]:
    """The first `count` problems of a file in GSM8K's form. ValueError when it has fewer."""
    problems = [json.loads(line) for line in path.read_text().splitlines()[:count]]
    if len(problems) < count:
        raise ValueError(f"{path} has {len(problems)} problems, {count} are needed")
    return [{"question": problem["question"], "answer": problem["answer"]} for problem in problems]


def write_problems(path: Path, problems: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
