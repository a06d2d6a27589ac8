"""`asym datasets upload|list`."""

from pathlib import Path
from typing import Annotated

import typer

from client.cli.output import AsJson, ago, print_json, print_table, remark, size

app = typer.Typer(help="Upload and list data sets.", no_args_is_help=True, rich_markup_mode=None)


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
    with Asym() as asym:
        columns = {role: column for role, column in named.items() if column is not None}
        dataset = asym.upload_dataset(file, name=name, columns=columns)
    if as_json:
        print_json(dataset)
        return
    print(dataset["id"])
    remark(f"{dataset['name']}: {dataset['rows']} rows, {size(dataset['bytes'])}")
    remark(f"next: put it into a spec as `data: {{train: {dataset['id']}}}` and `asym submit` that")


@app.command("list")
def list_all(limit: Annotated[int, typer.Option(min=1)] = 20, as_json: AsJson = False) -> None:
    """List data sets, newest first."""
    from client.sdk import Asym

    with Asym() as asym:
        found = list(asym.datasets(limit=limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "format", "rows", "size", "created"),
        (
            (each["id"], each["name"], each["format"], each["rows"], size(each["bytes"]), ago(each["created_at"]))
            for each in found
        ),
        empty="no data sets; `asym datasets upload FILE` makes one",
    )
