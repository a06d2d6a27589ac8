"""What the updates do: loss, divergence, clipping, gradients, and what they gain on the tokens they were made of."""

from dashboard import colors
from dashboard.chart import Chart
from dashboard.curves import Columns
from dashboard.panels.section import Section, Spec, Subject, lines

_KEYS = [
    *(f"policy/{name}" for name in ("loss", "grad_norm", "lr", "kl_old", "kl_ref", "ratio_max")),
    *(f"policy/clip_fraction_{part}" for part in ("low", "high", "negative", "positive", "dual")),
    *(f"logprob/gain_{kind}" for kind in ("correct", "incorrect")),
    *(f"rollout/logprob_diff_{kind}" for kind in ("mean", "max")),
]


def _charts(columns: Columns, subject: Subject) -> dict[str, Chart]:
    clip = subject.spec.get("algorithm") or {}
    low, high = clip.get("clip_low", "clip_low"), clip.get("clip_high", "clip_high")
    limit = (subject.spec.get("optim") or {}).get("max_grad_norm")
    return {
        "loss": Chart(
            "Policy loss",
            "clipped surrogate; its level says little, its jumps do",
            lines(columns, ("policy/loss", "loss", colors.BLUE)),
        ),
        "grad_norm": Chart(
            "Gradient norm",
            f"largest update of the step, before it is clipped to {limit}" if limit else "before clipping",
            lines(columns, ("policy/grad_norm", "grad norm", colors.BLUE)),
            y_min=0.0,
        ),
        "clip": Chart(
            "Clipped tokens by the sign of their advantage",
            "share of the tokens of that sign",
            lines(
                columns,
                ("policy/clip_fraction_positive", f"above 0, at 1 + {high}", colors.BLUE),
                ("policy/clip_fraction_negative", f"below 0, at 1 − {low}", colors.VERMILION),
            ),
            unit="%",
            y_min=0.0,
        ),
        "clip_all": Chart(
            "Clipped tokens",
            "share of all response tokens",
            lines(
                columns,
                ("policy/clip_fraction_high", "at the upper bound", colors.BLUE),
                ("policy/clip_fraction_low", "at the lower bound", colors.VERMILION),
                ("policy/clip_fraction_dual", "by the dual clip", colors.PURPLE),
            ),
            unit="%",
            y_min=0.0,
        ),
        "kl": Chart(
            "KL divergence",
            "nats per token",
            lines(
                columns,
                ("policy/kl_old", "to the sampling policy", colors.BLUE),
                ("policy/kl_ref", "to the reference", colors.VERMILION),
            ),
            y_min=0.0,
        ),
        "gain": Chart(
            "Log-prob gain",
            "nats per token, same tokens before and after the update",
            lines(
                columns,
                ("logprob/gain_correct", "correct", colors.INFORMATIVE),
                ("logprob/gain_incorrect", "incorrect", colors.SPURIOUS),
                points=True,
            ),
            empty="Measured every diagnostics.every steps; none yet",
        ),
        "ratio": Chart(
            "Largest probability ratio",
            "new policy over sampling policy",
            lines(columns, ("policy/ratio_max", "ratio max", colors.BLUE)),
        ),
        "engine": Chart(
            "Engine mismatch",
            "nats per token between the engine's and the trainer's log-probs",
            lines(
                columns,
                ("rollout/logprob_diff_mean", "mean", colors.BLUE),
                ("rollout/logprob_diff_max", "max", colors.VERMILION),
            ),
            y_min=0.0,
        ),
        "lr": Chart("Learning rate", "", lines(columns, ("policy/lr", "lr", colors.BLUE)), y_min=0.0),
    }


def _keys(spec: Spec) -> list[str]:
    del spec
    return list(_KEYS)


SECTION = Section(_keys, _charts)
