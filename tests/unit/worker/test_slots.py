import os
import stat

import pytest

from worker.slots import Share, Slots, describe_gpus, offered_gpus, visible_gpus


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", ["0"]),
        ("2,0", ["2", "0"]),
        ("0,-1,1", ["0"]),  # CUDA stops at the first that is no device
        ("GPU-8932f937,MIG-12", ["GPU-8932f937", "MIG-12"]),
    ],
)
def test_the_given_devices_are_read_as_cuda_reads_them(given, seen):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": given}) == seen


def test_nvidia_smi_is_counted_when_nothing_is_given(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'\n"
        "echo '  MIG 1g.10gb Device 0: (UUID: MIG-1)'\n"
        "echo 'GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)'\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert visible_gpus({}) == ["0", "1"]
    tool.write_text("#!/bin/sh\necho 'no devices were found'\nexit 6\n")
    assert visible_gpus({}) == []


def test_the_operator_may_offer_fewer_but_not_more():
    assert offered_gpus(["3", "5"], None) == ["3", "5"]
    assert offered_gpus(["3", "5"], 1) == ["3"]
    assert offered_gpus(["3", "5"], 0) == []
    with pytest.raises(ValueError, match="visible are 2"):
        offered_gpus(["3", "5"], 3)


def test_slots_are_taken_and_given_back():
    slots = Slots(["0", "1", "2"], cpu_slots=1)
    two = slots.take(2)
    assert two == Share(("0", "1"), 0)
    cpu = slots.take(0)
    assert cpu == Share((), 1)
    assert (len(slots.free_gpus), slots.free_cpu_slots) == (1, 0)
    for gpus in (0, 2):
        with pytest.raises(ValueError, match="no room"):
            slots.take(gpus)
    slots.give_back(two)
    slots.give_back(cpu)
    assert (len(slots.free_gpus), slots.free_cpu_slots) == (3, 1)


def test_a_job_gets_gpus_of_the_memory_it_asks_for_and_no_larger_than_it_must(tmp_path):
    slots = Slots(["0", "1", "2", "3"], cpu_slots=0, memory=[86, 25, 86, None])
    assert slots.free_gpus == [86, 25, 86, None]
    assert slots.take(1).gpus == ("3",)
    assert slots.take(1, 24).gpus == ("1",)
    with pytest.raises(ValueError, match="no room"):
        slots.take(3, 80)
    assert slots.take(2, 80).gpus == ("0", "2")


def test_names_and_memory_come_from_nvidia_smi(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        "echo '0, GPU-1a, NVIDIA H100 80GB HBM3, 81559'\n"
        "echo '1, GPU-1b, NVIDIA GH200, [N/A]'\n"
        "echo 'a warning'\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    h100 = {"name": "NVIDIA H100 80GB HBM3", "memory_gb": 86}
    gh200, unknown = {"name": "NVIDIA GH200", "memory_gb": None}, {"name": None, "memory_gb": None}
    assert describe_gpus(["1", "0", "7"]) == [gh200, h100, unknown]
    assert describe_gpus(["GPU-1a", "GPU-1", "MIG-1a"]) == [h100, unknown, unknown]  # GPU-1 is two of them
    tool.unlink()
    assert describe_gpus(["0"]) == [unknown]
