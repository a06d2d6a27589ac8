"""`asym keys create|list|revoke`."""

from typing import Annotated, Literal

import typer

from client.cli.output import AsJson, ago, print_json, print_table, remark

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what it is for.")],
    role: Annotated[Literal["viewer", "member", "admin"], typer.Option()] = "member",
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once and cannot be read again."""
    from client.sdk import Asym

    with Asym() as asym:
        key = asym.create_key(name, role=role)
        url = asym.api_url
    if as_json:
        print_json(key)
        return
    print(key["key"])
    remark(f"{key['id']}, role {key['role']}; it is not shown again")
    remark(f"its holder sets ASYM_API_URL={url} and ASYM_API_KEY")


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the team's keys."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.keys()
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "key", "role", "created", "last used", "revoked"),
        (
            (
                each["id"],
                each["name"],
                f"{each['prefix']}…",
                each["role"],
                ago(each["created_at"]),
                ago(each["last_used_at"]),
                ago(each["revoked_at"]),
            )
            for each in found
        ),
        empty="no keys",
    )


@app.command()
def revoke(key: Annotated[str, typer.Argument(metavar="KEY_ID", help="key_…, as `asym keys list` shows it.")]) -> None:
    """Make a key invalid at once and for good."""
    from client.sdk import Asym

    with Asym() as asym:
        asym.revoke_key(key)
    print(f"{key} revoked")
