"""CITATION.cff follows the citation file format, and cites this version and the paper."""

import importlib.metadata
import json
from pathlib import Path

import jsonschema
import yaml

ROOT = Path(__file__).parents[2]
# cffconvert itself wants an older jsonschema; its copy of the format's schema is all that is needed.
SCHEMA = Path(str(importlib.metadata.distribution("cffconvert").locate_file("cffconvert/schemas/1.2.0/schema.json")))


def test_it_is_valid_and_about_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    validator = jsonschema.validators.validator_for(json.loads(SCHEMA.read_text()))(json.loads(SCHEMA.read_text()))
    assert [error.message for error in validator.iter_errors(citation)] == []
    assert [error.message for error in validator.iter_errors({**citation, "licence": "x"})]
    assert citation["version"] == importlib.metadata.version("asym-core")
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2604.04894"
