"""`asym webhooks create|list|show|edit|rotate|test|replay|delete`: who outside is told what becomes of jobs."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from client.cli.output import AsJson, ago, print_json, print_table, remark

if TYPE_CHECKING:
    from client.results import Delivery, Webhook
    from client.sdk import Asym

app = typer.Typer(help="Tell other programs what becomes of jobs.", no_args_is_help=True, rich_markup_mode=None)

HookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="A webhook's id, hook_…")]
Event = Annotated[
    list[str] | None,
    typer.Option(help="job.queued, running, paused, succeeded, failed, cancelled, alert, checkpoint; repeat it."),
]
Tag = Annotated[list[str] | None, typer.Option(help="Only of jobs with this tag; repeat it for jobs that have all.")]
TEST_SECONDS, POLL_SECONDS = 20.0, 0.5


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="https://…, of a host that the operator allows.")],
    name: Annotated[str, typer.Option(help="What you call it.")] = "webhook",
    event: Event = None,
    tag: Tag = None,
    as_json: AsJson = False,
) -> None:
    """Have an address told of the team's jobs. Its secret is shown this once and cannot be read again."""
    from client.sdk import Asym

    with Asym() as asym:
        made = asym.create_webhook(url, name=name, events=_full(event), tags=tag or ())
    _show_secret(made, as_json)


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List the team's webhooks, newest first."""
    from client.sdk import Asym

    with Asym() as asym:
        found = asym.webhooks()
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "name", "url", "events", "tags", "state", "created"),
        (
            (
                each["id"],
                each["name"],
                each["url"],
                " ".join(event.removeprefix("job.") for event in each["events"]),
                " ".join(each["tags"]),
                state(each),
                ago(each["created_at"]),
            )
            for each in found
        ),
        empty="no webhook yet",
    )


def state(hook: "Webhook") -> str:
    """`on`, `failing since …`, or `off`, with the reason where the platform has one."""
    if not hook["active"]:
        return f"off: {hook['switched_off_because']}" if hook["switched_off_because"] else "off"
    return f"failing for {ago(hook['failing_since']).removesuffix(' ago')}" if hook["failing_since"] else "on"


@app.command()
def show(
    webhook: HookId,
    limit: Annotated[int, typer.Option(min=1, help="How many of its newest deliveries.")] = 20,
    as_json: AsJson = False,
) -> None:
    """A webhook and what it was told lately."""
    from client.sdk import Asym

    with Asym() as asym:
        found, told = asym.webhook(webhook), list(asym.deliveries(webhook, limit=limit))
    if as_json:
        print_json({**found, "deliveries": told})
        return
    remark(f"{found['name']}: {found['url']}, {state(found)}")
    print_table(
        ("id", "event", "job", "status", "tries", "answer", "error", "last try"),
        (
            (
                each["id"],
                each["event"],
                each["job_id"],
                each["status"],
                each["tries"],
                each["answer"],
                each["error"],
                ago(each["tried_at"]),
            )
            for each in told
        ),
        empty="nothing told yet",
    )


@app.command()
def edit(
    webhook: HookId,
    url: Annotated[str | None, typer.Option()] = None,
    name: Annotated[str | None, typer.Option()] = None,
    event: Event = None,
    tag: Tag = None,
    active: Annotated[bool | None, typer.Option("--on/--off", help="Switch it on (again), or off.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a webhook."""
    from client.sdk import Asym

    with Asym() as asym:
        changed = asym.edit_webhook(webhook, name=name, url=url, events=_full(event), tags=tag, active=active)
    if as_json:
        print_json(changed)
        return
    print(f"{changed['id']}: {state(changed)}")


@app.command()
def rotate(
    webhook: HookId,
    grace: Annotated[int, typer.Option(metavar="SECONDS", help="For how long the old secret signs, too.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Give a webhook another secret."""
    from client.sdk import Asym

    with Asym() as asym:
        changed = asym.rotate_webhook_secret(webhook, grace_seconds=grace)
    _show_secret(changed, as_json)


@app.command("test")
def try_out(webhook: HookId, as_json: AsJson = False) -> None:
    """Have a webhook told that this is a test, and see how that goes."""
    from client.sdk import Asym

    with Asym() as asym:
        delivery = _awaited(asym, webhook, asym.test_webhook(webhook))
    _say(delivery, as_json)


@app.command()
def replay(
    webhook: HookId,
    delivery: Annotated[int, typer.Argument(help="A delivery's id, as `asym webhooks show` lists it.")],
    as_json: AsJson = False,
) -> None:
    """Have a webhook told something once more."""
    from client.sdk import Asym

    with Asym() as asym:
        asked = _awaited(asym, webhook, asym.replay_delivery(webhook, delivery))
    _say(asked, as_json)


@app.command()
def delete(webhook: HookId, as_json: AsJson = False) -> None:
    """Tell a webhook nothing more."""
    from client.sdk import Asym

    with Asym() as asym:
        asym.delete_webhook(webhook)
    if as_json:
        print_json({"id": webhook, "deleted": True})
    else:
        print(f"{webhook} deleted")


def _full(events: list[str] | None) -> list[str] | None:
    """`failed` is `job.failed`."""
    return [each if "." in each else f"job.{each}" for each in events] if events else None


def _awaited(asym: "Asym", webhook: str, asked: "Delivery") -> "Delivery":
    """The delivery once it was tried, or as it is after a while."""
    deadline = time.monotonic() + TEST_SECONDS
    while asked["status"] == "pending" and not asked["error"] and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        asked = next((each for each in asym.deliveries(webhook, limit=100) if each["id"] == asked["id"]), asked)
    return asked


def _say(delivery: "Delivery", as_json: bool) -> None:
    if as_json:
        print_json(delivery)
    else:
        how = delivery["error"] or (f"answered {delivery['answer']}" if delivery["answer"] else "not tried yet")
        print(f"{delivery['id']} {delivery['status']}: {how}")
    if delivery["status"] != "delivered":
        raise typer.Exit(1)


def _show_secret(hook: "Webhook", as_json: bool) -> None:
    if as_json:
        print_json(hook)
        return
    print(hook["secret"])
    remark(f"{hook['id']}; its secret is not shown again; next: asym webhooks test {hook['id']}")
