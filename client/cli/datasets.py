"""`asym datasets upload|list|show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli import completion
from client.cli.output import AsJson, ago, print_json, print_table, remark, size, transfer_bar

if TYPE_CHECKING:
    from client.results import Dataset, Lengths

SHOWN = 100

app = typer.Typer(help="Upload, list and show data sets.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="JSONL, CSV or Parquet.")],
    name: Annotated[str | None, typer.Option(show_default="the file's name")] = None,
    prompt_column: Annotated[str | None, typer.Option(show_default="found by its name")] = None,
    answer_column: Annotated[str | None, typer.Option(show_default="found by its name")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file. A file with bad lines is refused whole, with every one of them named."""
    from client.sdk import Asym

    named = {"prompt": prompt_column, "answer": answer_column}
    with Asym() as asym, transfer_bar(f"uploading {file.name}") as progress:
        columns = {role: column for role, column in named.items() if column is not None}
        dataset = asym.upload_dataset(file, name=name, columns=columns, progress=progress)
    if as_json:
        print_json(dataset)
        return
    print(dataset["id"])
    remark(f"{dataset['name']}, version {dataset['version']}: {dataset['rows']} rows, {size(dataset['bytes'])}")
    for line in _described(dataset):
        remark(line)
    remark(f"next: put it into a spec as `data: {{train: {dataset['id']}}}` and `asym submit` that")


@app.command("list")
def list_all(
    name: Annotated[str | None, typer.Option(help="Only the versions of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List data sets, newest first."""
    from client.sdk import Asym

    with Asym() as asym:
        found = list(asym.datasets(name=name, limit=limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "version", "format", "rows", "size", "created"),
        (
            (
                *(each["id"], each["name"], each["version"], each["format"], each["rows"]),
                *(size(each["bytes"]), ago(each["created_at"])),
            )
            for each in found
        ),
        empty="no data sets; `asym datasets upload FILE` makes one",
    )


@app.command()
def show(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A data set's id, ds_…", autocompletion=completion.datasets)
    ],
    model: Annotated[str | None, typer.Option(help="Count the prompts' tokens for this model, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a data set holds: lengths, duplicates, answers, the first rows."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.dataset(dataset)
        tokens = None if model is None else asym.dataset_tokens(dataset, model)
        rows = asym.dataset_rows(dataset, limit=3)["data"]
    if as_json:
        print_json({**found, "tokens": tokens, "preview": rows})
        return
    print(f"{found['name']}, version {found['version']}: {found['rows']} rows, {size(found['bytes'])}")
    for line in _described(found):
        print(line)
    if tokens is not None:
        print(
            f"prompts in tokens of {tokens['model']}: {_range(tokens['prompt_tokens'])}; {tokens['over_512']} over 512"
        )
    for row in rows:
        prompt = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
        print(f"row {row['row']}: {_shortened(prompt)} -> {_shortened(row['answer'])}")


def _described(dataset: "Dataset") -> list[str]:
    """Lines on what its rows are like; none where that was not counted."""
    found = dataset["statistics"]
    if found is None:
        return []
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["answer_kinds"].items())
    lines = [
        f"prompts in characters: {_range(found['prompt_characters'])}; answers: {_range(found['answer_characters'])}",
        f"answers look like: {kinds}",
    ]
    if found["duplicate_prompts"]:
        lines.append(f"{found['duplicate_prompts']} rows repeat an earlier row's prompt")
    return lines


def _range(lengths: "Lengths") -> str:
    return f"{lengths['min']} to {lengths['max']}, median {lengths['median']}"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
