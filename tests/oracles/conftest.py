"""Other projects' code as oracles: Asym's numbers against verl's and TRL's, and how far apart they were.

`./dev setup` installs the packages. Without one its tests are skipped and say so; a package that is there but broken
is an error. They are imported by the tests that need them only, since that takes seconds.
"""

import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

PROPERTY = "largest difference"
VERSIONS = {"verl": "0.9.1", "trl": "1.16.0"}


def imported(package: str, module: str) -> ModuleType:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} {VERSIONS[package]} is not installed: ./dev setup does it")
    assert importlib.metadata.version(package) == VERSIONS[package]
    return importlib.import_module(module)


@pytest.fixture(scope="session")
def verl_algorithms() -> ModuleType:
    return imported("verl", "verl.trainer.ppo.core_algos")


@pytest.fixture(scope="session")
def verl_corrections() -> ModuleType:
    return imported("verl", "verl.trainer.ppo.rollout_corr_helper")


@pytest.fixture(scope="session")
def verl_module() -> Callable[[str], ModuleType]:
    """Any module of verl's by its name. Importing them warns of engines and accelerators that are not there."""

    def import_quietly(name: str) -> ModuleType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return imported("verl", name)

    return import_quietly


@pytest.fixture(scope="session")
def trl_chunked() -> ModuleType:
    return imported("trl", "trl.kernels.chunked_logprob")


@pytest.fixture(scope="session")
def trl_grpo() -> ModuleType:
    return imported("trl", "trl.trainer.grpo_trainer")


Same = Callable[[Tensor | float, Tensor | float, float], None]


@pytest.fixture
def same(request: pytest.FixtureRequest) -> Same:
    """same(ours, theirs, tolerance): the largest |difference| over max(1, largest |theirs|) is within the tolerance.

    The largest over all calls of a test is shown in the summary at the end of the run.
    """

    def compare(ours: Tensor | float, theirs: Tensor | float, tolerance: float) -> None:
        a, b = (torch.as_tensor(value).detach().double() for value in (ours, theirs))
        assert a.shape == b.shape
        assert a.isfinite().all()
        assert b.isfinite().all()
        difference = ((a - b).abs().max() / b.abs().max().clamp(min=1.0)).item() if a.numel() else 0.0
        earlier = dict(request.node.user_properties).get(PROPERTY, 0.0)
        request.node.user_properties[:] = [(PROPERTY, max(earlier, difference))]
        assert difference <= tolerance

    return compare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    by_test: dict[str, float] = {}
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for name, value in report.user_properties:
            if name == PROPERTY:
                test = report.nodeid.partition("[")[0]
                by_test[test] = max(by_test.get(test, 0.0), value)
    if by_test:
        terminalreporter.section("largest difference from the oracle")
        for test, value in sorted(by_test.items()):
            terminalreporter.write_line(f"{value:9.2e}  {test}")
