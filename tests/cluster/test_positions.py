"""YAML files that know where everything stands."""

import pytest

from labkit.cluster.positions import Document
from labkit.errors import InventoryError


def mistakes(text):
    with pytest.raises(InventoryError) as told:
        Document("hosts.yaml", text).mistakes.check()
    return list(told.value.mistakes)


def test_values_and_their_places():
    document = Document("h.yaml", "a:\n  b: [1, x, 2.5, null, yes]\n  'c d': {e: true}\n")
    assert document.value == {"a": {"b": [1, "x", 2.5, None, "yes"], "c d": {"e": True}}}
    assert str(document.place(("a", "b", 1))) == "h.yaml:2:10"
    assert str(document.place(("a", "c d", "e"))) == "h.yaml:3:14"
    assert str(document.place(("a", "c d", "e"), of_key=True)) == "h.yaml:3:11"
    assert str(document.place(("a", "nothing", "there"))) == "h.yaml:2:3"


def test_anchors_and_merged_mappings():
    document = Document("h.yaml", "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: *x\n")
    assert document.value["y"] == {"a": 1, "b": 3}
    assert document.value["z"] == {"a": 1, "b": 2}
    assert str(document.place(("y", "a"))) == "h.yaml:1:11"


def test_every_double_key_is_told():
    assert mistakes("a: 1\nb: {c: 1, c: 2}\na: 2\n") == [
        "hosts.yaml:2:11: c is there already, at line 2",
        "hosts.yaml:3:1: a is there already, at line 1",
    ]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", "1:1", "empty"),
        ("# nothing\n", "1:1", "empty"),
        ("a: 1\n\tb: 2\n", "2:1", "a tab"),
        ("a: {b: 1\nc: 2\n", "2:2", "flow mapping"),
        ("a: b: c\n", "1:5", "quote a value that holds a colon"),
        ("a: {b[1]: 1}\n", "1:6", "quote a name with brackets"),
        ("a: *b\n", "1:4", "undefined alias 'b'; quote"),
        ("a: 1\n---\nb: 1\n", "2:1", "single document"),
        ("a: \x01\n", "1:4", "character 0x01"),
        ("[a, b]: 1\n", "1:1", "must be text"),
        ("a: &a\n  b: *a\n", "1:4", "holds itself"),
        ("a:\n  <<: 3\n", "2:7", "merges mappings only"),
        ("[" * 5000, "1:1", "nested too deeply"),
    ],
)
def test_what_is_no_yaml(text, place, what):
    (told,) = mistakes(text)
    assert told.startswith(f"hosts.yaml:{place}: ")
    assert what in told


def test_what_is_no_utf_8(tmp_path):
    file = tmp_path / "hosts.yaml"
    file.write_bytes("hosts:\n  größe: {}\n".encode("latin-1"))
    with pytest.raises(InventoryError, match=r"hosts.yaml:2:5: byte 0xf6 is no UTF-8"):
        Document.read(file)


def test_a_byte_order_mark_is_nothing(tmp_path):
    file = tmp_path / "hosts.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert Document.read(file).value == {"a": 1}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InventoryError, match=r"nothing.yaml: No such file"):
        Document.read(tmp_path / "nothing.yaml")
