"""The paper's table by one command (arXiv 2604.04894):  python examples/paper/reproduce.py --scale tiny

Runs the specs of table/ (with --ablations those of ablations/ too) for each seed, and writes table.md, results.json,
entropy.png, none_solved.png and pass_at_k.png into --out. `--scale tiny` lays tiny.yaml over every spec: the same
algorithms on a character model, minutes on two cores. `--scale full` is the paper's own: Qwen3-4B on GPUs, with its
data in examples/paper/data (see README.md there).
"""

import argparse
import os
import sys
import time
from pathlib import Path

import yaml
from report import write_report
from runs import Spec, read_spec, run_all
from tiny_data import write_tiny_data

HERE = Path(__file__).resolve().parent
TABLE = ("reinforce", "grpo", "grpo_entropy", "grpo_clip_higher", "dr_grpo", "asymgrpo", "asymgrpo_clip_higher")


def main() -> int:
    arguments = parse_arguments()
    started = time.monotonic()
    specs = [HERE / "table" / f"{name}.yaml" for name in TABLE]
    if arguments.ablations:
        specs += sorted((HERE / "ablations").glob("*.yaml"))
    if arguments.only:
        specs = [spec for spec in specs if spec.stem in arguments.only]
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    overlay: Spec = {}
    data_folder = None
    if arguments.scale == "tiny":
        overlay = yaml.safe_load((HERE / "tiny.yaml").read_text())
        data_folder = out
        (out / "data").mkdir(exist_ok=True)
        write_tiny_data(out / "data")
    if arguments.steps is not None:
        overlay["train"] = {**overlay.get("train", {}), "steps": arguments.steps}
    # Seed by seed: whoever looks in early sees every method.
    jobs = [(spec.stem, read_spec(spec, overlay, seed, data_folder)) for seed in arguments.seeds for spec in specs]
    benchmarks = [benchmark["name"] for benchmark in jobs[0][1]["eval"]]
    runs = run_all(jobs, out, arguments.at_once)
    runs.sort(key=lambda run: [spec.stem for spec in specs].index(run.method))
    print(write_report(runs, benchmarks, out))
    print(f"{len(runs)} runs in {time.monotonic() - started:.0f} s; plots in {out}", file=sys.stderr)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=["tiny", "full"], required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ablations", action="store_true", help="the ablations too")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these specs, e.g. asymgrpo grpo")
    parser.add_argument("--steps", type=int, help="in place of the specs'")
    parser.add_argument("--out", type=Path, default=Path("paper"))
    parser.add_argument("--at-once", type=int, help="runs side by side (default: a core each when tiny, else one)")
    arguments = parser.parse_args()
    if arguments.at_once is None:
        arguments.at_once = (os.cpu_count() or 1) if arguments.scale == "tiny" else 1
    return arguments


if __name__ == "__main__":
    sys.exit(main())
