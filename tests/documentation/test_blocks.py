"""Every command and every example of the documentation is run, or checked, or says why not.

The blocks of a page are run in their order, by one shell, in a folder of their own with a copy of examples/ in it,
against a platform that is up. What stands for something of the reader's (`JOB_ID`, `ds_...`) is put in before.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from typer._click.exceptions import UsageError

from client.cli import app
from handbook import blocks
from handbook.blocks import Block
from handbook.reference.commands import PARTS
from tests.documentation.conftest import Platform, copy_examples
from tests.documentation.manifests import check_compose, check_kubernetes
from trainer.spec import JobSpec
from trainer.spec.sweep import SweepSpec

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): blocks.of(page) for page in blocks.pages()}
BLOCKS = [block for page in PAGES.values() for block in page]
RUN = ("bash", "python")
CHECKED = ("yaml", "json", "toml")
SILENT = ("text", "math")
INSTALLS = ("pip", "apt-get", "sudo", "docker", "systemctl")
"""What would change the machine that the tests run on: blocks of it say that they are not run."""
PAGE_SECONDS = 400.0
MINIMAL = {
    "name": "example", "model": {"id": "builtin/tiny-arith"}, "data": {"train": "ds_1"}, "reward": {"kind": "exact"},
}  # fmt: skip
"""What a part of a spec is laid over."""


def only_dev(block: Block) -> bool:
    """A block of this repository's own commands; CI runs those, and here it is looked whether they exist."""
    lines = commands(block)
    return block.language == "bash" and bool(lines) and all(line.startswith("./dev ") for line in lines)


def commands(block: Block) -> list[str]:
    """The lines of a shell block that are commands, without comments and what is continued put together."""
    joined = block.text.replace("\\\n", " ")
    return [line for each in joined.splitlines() if (line := each.strip()) and not line.startswith("#")]


def executed(block: Block) -> bool:
    return block.language in RUN and block.reason is None and not only_dev(block)


def refuse_installing(block: Block) -> None:
    changes = [line for line in commands(block) if executed(block) and line.split()[0] in INSTALLS]
    assert not changes, f"{block.place}: {changes[0]!r} would change the machine of whoever runs the tests"


def test_every_block_is_run_or_checked_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"run": 0, "checked": 0, "excused": 0}
    for block in BLOCKS:
        assert block.language in (*RUN, *CHECKED, *SILENT), (
            f"{block.place}: nobody knows what to do with {block.language}"
        )
        if block.language in SILENT:
            typed = [line for line in block.text.splitlines() if blocks.COMMAND.match(line)]
            assert not typed, f"{block.place}: {typed[0]!r} is a command; name the block's language"
        elif block.reason is not None:
            assert len(block.reason.split()) > 2, f"{block.place}: {block.reason!r} is no reason"
            counts["excused"] += 1
        else:
            refuse_installing(block)
            counts["run" if executed(block) else "checked"] += 1
    with capsys.disabled():
        print(f"\ndocumentation: {counts['run']} blocks run, {counts['checked']} checked, {counts['excused']} excused")
    assert counts["run"] > counts["excused"]


@pytest.mark.parametrize("page", blocks.pages(), ids=lambda page: page.name)
def test_no_command_is_hidden_in_indented_text(page: Path) -> None:
    assert blocks.stray_commands(page) == []


@pytest.mark.timeout(900)  # the first of them waits for the platform and its two runs; a busy machine takes its time
@pytest.mark.parametrize("page", [page for page, found in PAGES.items() if any(map(executed, found))])
def test_the_commands_of_a_page_work(page: str, platform: Platform, tmp_path: Path) -> None:
    copy_examples(tmp_path / "examples")
    found = [block for block in PAGES[page] if executed(block)]
    script = ["set -euo pipefail"]
    for number, block in enumerate(found):
        refuse_installing(block)
        text = with_values(block.text, platform)
        if block.language == "python":
            (tmp_path / f".block-{number}.py").write_text(text)
            text = f"{shlex.quote(sys.executable)} .block-{number}.py\n"
        script.append(f"echo {number} >.block\n{text}")
    code, said = run_script("\n".join(script), tmp_path, platform)
    platform.clear()
    at = found[int((tmp_path / ".block").read_text())]
    why = f"did not end within {PAGE_SECONDS:g} s" if code == -1 else f"ended with {code}"
    assert code == 0, f"{at.place} {why}:\n{at.text}\n{said}"


def run_script(script: str, folder: Path, platform: Platform) -> tuple[int, str]:
    """Exit status and the end of what was said. Nothing that a page started outlives it."""
    with (folder / ".said").open("wb") as said:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=platform.environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(PAGE_SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    return code, (folder / ".said").read_text(errors="replace")[-6000:]


def with_values(text: str, platform: Platform) -> str:
    values = {
        "OTHER_JOB_ID": platform.other_job,
        "JOB_ID@100": f"{platform.job}@2",
        "JOB_ID": platform.job,
        "8990": str(platform.spare_port),
        "ds_...": platform.dataset,
        "sweep_...": platform.sweep,
        "member_...": platform.member,
        "key_...": platform.key,
        "http://127.0.0.1:8000": platform.asym.api_url,
        "http://127.0.0.1:8501": platform.asym.dashboard_url or "",
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "bash"], ids=lambda block: block.place)
def test_commands_that_are_shown_exist_with_their_options(block: Block) -> None:
    """Also of the blocks that are not run: `asym` lines are parsed, `./dev` lines looked for in the script."""
    known = set(re.findall(r"^    ([a-z-]+)\)", (ROOT / "dev").read_text(), re.MULTILINE))
    for line in commands(block):
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words[:1] == ["./dev"]:
            assert words[1] in known, f"{block.place}: {line}"
        elif words[:1] == ["asym"]:
            end = next(
                (i for i, word in enumerate(words) if word in ("|", ">", "&", "&&", ";") or word.startswith(">")), None
            )
            parse(words[1:end], f"{block.place}: {line}")


def parse(words: list[str], place: str) -> None:
    command = typer.main.get_command(app)
    name = words[0]
    if name.startswith("--"):
        assert any(name in parameter.opts for parameter in command.params), place
        return
    assert name in command.commands, place
    if name in PARTS:
        return
    command, rest = command.commands[name], words[1:]
    if hasattr(command, "commands"):
        assert rest, place
        assert rest[0] in command.commands, place
        command, rest = command.commands[rest[0]], rest[1:]
    wrong = None
    try:
        command.make_context(name, rest)
    except UsageError as error:
        wrong = str(error)
    # The files of the examples are where the blocks are run.
    assert wrong is None or "does not exist" in wrong, f"{place}: {wrong}"


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language in CHECKED and b.reason is None], ids=lambda b: b.place
)
def test_examples_of_data_are_right(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
        return
    if block.language == "json":
        assert json.loads(block.text)
        return
    text = block.text.replace("ds_...", "ds_1").replace("@STEP", "@1").replace("JOB_ID", "job_1")
    for document in yaml.safe_load_all(text):
        check_yaml(document, block.place)


def check_yaml(document: dict, place: str) -> None:
    """A Kubernetes object, a compose file, a sweep's plan or a part of one, a job spec or a part of one."""
    if "apiVersion" in document:
        check_kubernetes(document)
    elif "services" in document:
        check_compose(document)
    elif "search" in document:
        base = {
            name: MINIMAL.get(name) if value == "..." else value for name, value in document.get("base", {}).items()
        }
        SweepSpec.model_validate({**document, "base": {**MINIMAL, **base}, "name": "sweep", "metric": "reward/mean"})
    else:
        unknown = document.keys() - JobSpec.model_fields.keys()
        assert not unknown, f"{place}: no part of a spec: {', '.join(unknown)}"
        JobSpec.model_validate({**MINIMAL, **document})
