"""Stands in for the Python of verl's environment: answers what it has, and plays a verl run by its overrides.

FAKE_VERL, JSON: `steps` (those to log), `code` (the exit code), `hang` (wait to be ended), `lacks` (modules).
"""

import json
import os
import re
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq


def main() -> int:
    play = json.loads(os.environ["FAKE_VERL"])
    if sys.argv[1:3] == ["-P", "-c"]:
        print(json.dumps([play.get("lacks", []), play.get("version", "0.9.1"), ["trainer.backends.verl.estimator"]]))
        return 0
    assert sys.argv[1:4] == ["-P", "-m", "verl.trainer.main_ppo"]
    given = dict(one.lstrip("+").split("=", 1) for one in sys.argv[4:])
    text = {key: value.strip("'") for key, value in given.items()}
    print("hello from verl", flush=True)
    metrics = Path(text["ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"])
    checkpoints = Path(text["trainer.default_local_dir"])
    files = re.findall(r"'([^']*)'", given["data.val_files"])
    if given["trainer.val_before_train"] == "true":
        validate(0, text, files)
        log(metrics, 0, {"val-core/test/acc/mean@2": 0.5})
    for step in play["steps"]:
        data: dict[str, float | None] = {
            "training/global_step": step, "actor/loss": step / 10, "actor/entropy": 1.5, "actor/grad_norm": 2.0,
            "critic/score/mean": 0.25, "response/aborted_ratio": 0.0, "actor/kl_loss": None,
            "timing_s/old_log_prob": 1.0, "timing_s/adv": 0.5, "timing_s/update_actor": 2.0, "perf/time_per_step": 9.0,
        }  # fmt: skip
        with Path(text["algorithm.asym.group_log"]).open("a") as groups:
            groups.write(json.dumps({"group/mixed": step / 4}) + "\n")
        last = step == int(given["trainer.total_training_steps"])
        if last or step % int(given["trainer.save_freq"]) == 0:
            actor = checkpoints / f"global_step_{step}" / "actor"
            (actor / "huggingface").mkdir(parents=True)
            (actor / "model_world_size_1_rank_0.pt").write_bytes(b"shard")
            (actor / "huggingface" / "model.safetensors").write_bytes(b"weights")
        if int(given["trainer.test_freq"]) > 0 and (last or step % int(given["trainer.test_freq"]) == 0):
            validate(step, text, files)
            data["val-core/test/acc/mean@2"] = 0.5
        log(metrics, step, data)
    if play.get("hang"):
        time.sleep(600)
    return int(play.get("code", 0))


def log(metrics: Path, step: int, data: dict[str, float | None]) -> None:
    with metrics.open("a") as file:
        file.write(json.dumps({"step": step, "data": data}) + "\n")


def validate(step: int, text: dict[str, str], files: list[str]) -> None:
    """Two samples of each problem, of which the first is right."""
    folder = Path(text["trainer.validation_data_dir"])
    folder.mkdir(exist_ok=True)
    with (folder / f"{step}.jsonl").open("w") as out:
        for file in files:
            for row in pq.read_table(file).to_pylist():
                for acc in (1.0, 0.0):
                    sample = {"acc": acc, "benchmark": row["data_source"], "row": str(row["extra_info"]["index"])}
                    out.write(json.dumps(sample) + "\n")


if __name__ == "__main__":
    sys.exit(main())
