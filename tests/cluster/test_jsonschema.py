"""The schema with which editors check hosts.yaml: it says what the check says."""

from pathlib import Path

import jsonschema
import pytest

from labkit.cluster.jsonschema import schema
from labkit.cluster.positions import Document

from .test_inventory import EXAMPLE

PROFILES = sorted(Path(__file__).parents[2].glob("profiles/*/hosts.yaml"))


@pytest.fixture(scope="module")
def validator():
    made = schema()
    checker = jsonschema.validators.validator_for(made)
    checker.check_schema(made)
    return checker(made)


@pytest.mark.parametrize("text", [EXAMPLE, *(path.read_text() for path in PROFILES)])
def test_what_is_sound(validator, text):
    validator.validate(Document("hosts.yaml", text).value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("profile: lab", "profil: lab"),
        ("engines: 8", "engines: 0"),
        ("engines: cores-1", "engines: some"),
        ("port: 2222", "port: 99999"),
        ("encryption: yes", "encryption: perhaps"),
        ("ports: 10000-10099", "ports: 10000"),
        ("threads_per_engine: 4", "threads_per_engine: four"),
        ("jump: cl-1", "jmp: cl-1"),
    ],
)
def test_what_is_wrong(validator, before, after):
    assert before in EXAMPLE
    wrong = Document("hosts.yaml", EXAMPLE.replace(before, after)).value
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(wrong)
