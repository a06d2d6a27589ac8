"""Which GPU each engine gets: those of the job are divided without a rest, and none twice."""

import pytest

from trainer.engines.vllm.places import Places, places, visible_gpus
from trainer.errors import RunError
from trainer.ranks import World


def all_places(ranks: int, own_gpus: int, visible: list[str]) -> list[Places]:
    return [places(own_gpus, World(rank, ranks), visible) for rank in range(ranks)]


def test_one_rank_shares_what_it_has() -> None:
    for visible in ([], ["3"], ["3", "5"]):
        assert all_places(1, 0, visible) == [Places((None,), shared=True)]


def test_each_rank_has_an_engine_on_its_own_gpu() -> None:
    visible = ["GPU-a", "GPU-b", "GPU-c"]
    assert all_places(3, 0, visible) == [Places((gpu,), shared=True) for gpu in visible]
    assert all_places(2, 0, []) == [Places((None,), shared=True)] * 2


def test_gpus_that_only_generate_are_the_last_and_the_leading_ranks_to_command() -> None:
    none = Places((), shared=False)
    assert all_places(2, 2, ["4", "5", "6", "7"]) == [Places(("6", "7"), shared=False), none]
    assert all_places(1, 3, ["4", "5", "6", "7"]) == [Places(("5", "6", "7"), shared=False)]
    assert all_places(1, 1, ["0", "1", "2"]) == [Places(("1",), shared=False)]
    assert all_places(2, 2, []) == [Places((None, None), shared=False), none]


def test_too_few_gpus_are_said() -> None:
    with pytest.raises(RunError, match="to have 4 GPUs, 2 of them for generation, and this process sees 3") as error:
        places(2, World(1, 2), ["0", "1", "2"])
    assert error.value.code == "too_few_gpus"


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        (None, 2, ["0", "1"]),
        ("3, 5", 2, ["3", "5"]),
        ("GPU-1,MIG-2,-1,4", 2, ["GPU-1", "MIG-2"]),
        ("", 0, []),
    ],
)
def test_visible_gpus_are_those_that_cuda_counts(
    given: str | None, count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    if given is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == expected
