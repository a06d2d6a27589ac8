"""The README speaks of what is there: its tree is the repository's, and its pictures, examples and commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from trainer.spec import JobSpec
from trainer.spec.presets import PRESETS
from trainer.spec.reward import FAMILIES, kind_form, option_names

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_tree_is_the_one_on_disk():
    section = README.partition("## The tree")[2].partition("##")[0]
    described = set(re.findall(r"^    (\w+)/", section, re.MULTILINE))
    on_disk = {
        path.name
        for path in ROOT.iterdir()
        if path.is_dir()
        and not path.name.startswith((".", "__"))
        and not path.name.endswith(".egg-info")
        and any(file.is_file() and "__pycache__" not in file.parts for file in path.rglob("*"))
        and path.name not in ("build", "dist", "runs", "site")
    }
    assert described == on_disk


def test_every_link_into_the_repository_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_preset_is_named():
    for preset in PRESETS:
        assert preset in README


def test_every_verifier_and_its_options_are_named():
    rows = dict(re.findall(r"^\| `([a-z_]+(?::[A-Z]+)?)` \|.*\| ([^|]*)\|$", README, re.MULTILINE))
    for family in FAMILIES:
        # A plugin's options are its own.
        names = () if family == "plugin" else option_names(kind_form(family))
        assert all(f"`{name}`" in rows[kind_form(family)] for name in names), family


def test_the_job_spec_shown_is_one():
    section = README.partition("## A job spec")[2].partition("##")[0]
    text = section.partition("```yaml\n")[2].partition("```")[0]
    spec = yaml.safe_load(text.replace("ds_...", "ds_1").replace("@STEP", "@1"))
    assert JobSpec.model_validate(spec).algorithm.beta_pos == 0.9


def test_every_asym_command_shown_exists():
    listed = subprocess.run(
        [sys.executable, "-m", "client", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    commands = set(re.findall(r"^asym (\w+)", README, re.MULTILINE)) | set(re.findall(r"`asym (\w+)", README))
    assert commands
    for command in commands:
        assert re.search(rf"^\W*{command}\b", listed, re.MULTILINE), command
