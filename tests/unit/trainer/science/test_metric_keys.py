"""The vocabulary holds every key of the specification and no key twice, and importing it imports no torch."""

import subprocess
import sys

import pytest

from trainer.spec.metric_keys import DIFFICULTY_BUCKETS, METRICS, find, is_known

SPECIFIED = """
entropy/policy entropy/informative entropy/spurious entropy/informative_tokens entropy/spurious_tokens
entropy/drive_informative entropy/drive_spurious entropy/realised_informative entropy/realised_spurious
logprob/gain_correct logprob/gain_incorrect
group/accuracy group/none_solved group/mixed group/all_solved group/histogram
pass_at_k/train/1 pass_at_k/train/4096 eval/math-500/pass_at_k/1 eval/AIME_24.v2/pass_at_k/64
reward/mean reward/std policy/loss policy/grad_norm policy/lr policy/clip_fraction_low policy/clip_fraction_high
policy/kl_old policy/kl_ref policy/ratio_max rollout/length_mean rollout/length_max rollout/truncated_fraction
rollout/logprob_diff_mean rollout/logprob_diff_max perf/step_seconds perf/rollout_seconds perf/reward_seconds
perf/update_seconds perf/tokens_per_second perf/peak_memory_bytes progress/prompts progress/tokens progress/epoch
perf/engine_memory_bytes perf/finished_at
reward/timeouts
"""


@pytest.mark.parametrize("key", SPECIFIED.split())
def test_every_specified_key_is_known(key: str) -> None:
    assert is_known(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "entropy",
        "entropy/policy/",
        "entropy/policyx",
        "xentropy/policy",
        "entropy/bucket/30_50",
        "pass_at_k/train/0",
        "pass_at_k/train/x",
        "eval/pass_at_k/1",
        "eval/a/b/pass_at_k/1",
        "eval/{name}/pass_at_k/{k}",
        "entropy/policy\n",
    ],
)
def test_other_keys_are_not(key: str) -> None:
    assert find(key) is None


def test_what_is_known_of_a_key() -> None:
    metric = find("eval/math500/pass_at_k/8")
    assert metric is not None
    assert (metric.template, metric.unit, metric.better) == ("eval/{name}/pass_at_k/{k}", "fraction", "higher")
    assert all(
        is_known(f"{stem}/{name}") for stem in ("entropy/bucket", "logprob/gain/bucket") for name in DIFFICULTY_BUCKETS
    )


def test_templates_are_unique_and_described() -> None:
    templates = [metric.template for metric in METRICS]
    assert len(set(templates)) == len(templates)
    for metric in METRICS:
        assert metric.description.endswith(".")
        assert len(metric.description) > 5


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, trainer.spec.metric_keys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
