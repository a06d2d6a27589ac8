"""`asym sample`: ask a checkpoint, or any model that a job may name."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.cli.output import AsJson, print_json, remark

if TYPE_CHECKING:
    from client.sdk import Asym


def register(app: typer.Typer) -> None:
    app.command()(sample)


def sample(
    model: Annotated[str, typer.Argument(help="job/JOB_ID@STEP (or JOB_ID: its newest checkpoint), or a model's id.")],
    prompt: Annotated[str, typer.Argument(help="What the user says; with --text what is to be gone on with.")],
    samples: Annotated[int, typer.Option("-n", "--samples", min=1, help="How many answers.")] = 1,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of each answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 takes the likeliest token (default: 1).")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw only from the likeliest tokens of so much probability.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answers.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="An answer ends before it; may be repeated.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    text: Annotated[bool, typer.Option("--text", help="No chat: go on with the prompt as it is.")] = False,
    verify: Annotated[str | None, typer.Option(metavar="KIND", help="Judge each answer by this verifier.")] = None,
    answer: Annotated[str | None, typer.Option(help="What the verifier holds it against.")] = None,
    as_json: AsJson = False,
) -> None:
    """Sample from a model; it is loaded by a worker when it is first asked for."""
    from client.sdk import Asym

    if (verify is None) != (answer is None):
        raise typer.BadParameter("--verify and --answer go together")
    if text and system is not None:
        raise typer.BadParameter("a text has no system message: leave out --system or --text")
    options: dict[str, Any] = {
        "n": samples,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": stop or None,
        "verify": None if verify is None else {"kind": verify, "answer": answer},
    }
    with Asym() as asym:
        chosen = _model(asym, model)
        if text:
            found = asym.complete(chosen, prompt, **options)
        else:
            messages = [] if system is None else [{"role": "system", "content": system}]
            found = asym.chat(chosen, [*messages, {"role": "user", "content": prompt}], **options)
    if as_json:
        print_json(found)
        return
    for choice in found["choices"]:
        said = choice["text"] if text else choice["message"]["content"]
        if samples > 1 or verify is not None:
            remark(f"--- {choice['index'] + 1}{_verdict(choice)}")
        print(said)


def _model(asym: "Asym", named: str) -> str:
    """A job's id stands for its newest checkpoint, and `JOB_ID@STEP` is taken, too."""
    if not named.startswith("job_"):
        return named
    if "@" in named:
        return f"job/{named}"
    return f"job/{named}@{asym.newest_checkpoint(named)}"


def _verdict(choice: dict[str, Any]) -> str:
    told = choice.get("asym")
    if told is None:
        return ""
    return f": cannot be judged: {told['error']}" if told["reward"] is None else f": reward {told['reward']:g}"
