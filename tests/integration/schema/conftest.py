"""`--examples N`: how many requests are made up for each operation of the API."""

import pytest

DEFAULT_EXAMPLES = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--examples", type=int, default=DEFAULT_EXAMPLES, help="requests made up for each operation of the API"
    )
