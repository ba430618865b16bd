"""``labkit notebook``: what is shown, written, drawn, and refused."""

import json

import epyc
import pandas as pd
import pytest

import labkit
from labkit.cli.pages import KEY_DIGITS

from .conftest import listing

STATUS = labkit.Experiment.STATUS


@pytest.fixture
def walks(labkit_):
    """A notebook with six points, and one with two failures among four."""
    labkit_("run", "walks.py:Walk", "--serial", "--result-set", "six walks")
    labkit_("run", "walks.py:Stumbles", "--serial", status=1)


# ---------- ls ----------


def test_no_notebooks(labkit_, folder):
    (folder / "other.db").write_text("something else")
    (folder / "empty.db").touch()
    assert labkit_("notebook", "ls").stdout == "There is no notebook here. labkit run makes one.\n"
    assert (folder / "empty.db").stat().st_size == 0


@pytest.mark.usefixtures("walks")
def test_notebooks_of_the_folder(labkit_):
    lines = labkit_("notebook", "ls").stdout.splitlines()
    assert [line.split(maxsplit=5) for line in lines[2:]] == [
        ["stumbles.db", "1", "2", "2", "0", "A notebook"],
        ["walk.db", "2", "6", "0", "0", "How far does a walker get?"],
    ]


@pytest.mark.usefixtures("walks")
def test_result_sets_of_a_notebook(labkit_):
    with labkit.SQLiteLabNotebook("walk.db").open() as notebook:
        notebook.resultSet("six walks").finish()
        notebook.select(notebook.DEFAULT_RESULTSET).addPendingResults("s", [("k", {"a": 1})])
    lines = labkit_("notebook", "ls", "walk.db").stdout.splitlines()
    assert lines[0] == "walk.db: How far does a walker get?"
    assert lines[-2].split() == [
        labkit.LabNotebook.DEFAULT_RESULTSET,
        "0",
        "0",
        "1",
        "-",
        "-",
        "no",
    ]
    assert lines[-1] == (
        "six walks                  6       0        0  noise (3), steps (2)  "
        "end, path, steps_back  yes"
    )


# ---------- show ----------


@pytest.mark.usefixtures("walks")
def test_show(labkit_):
    lines = labkit_("notebook", "show", "walk.db", "-n", "4").stdout.splitlines()
    assert lines[0].split() == ["noise", "steps", "[m]", "end", "path", "steps_back"]
    assert len(lines) == 2 + 4 + 1
    assert all(line.split()[3] == "array" for line in lines[2:6])
    assert lines[-1] == "… 2 more; all of them: -n 6"


@pytest.mark.usefixtures("walks")
def test_show_why_some_failed(labkit_):
    lines = labkit_("notebook", "show", "stumbles.db").stdout.splitlines()
    assert lines[0].split() == ["x", "y", "failed"]
    rows = sorted(line.split(maxsplit=2) for line in lines[2:])
    assert rows == [
        ["0", "0"],
        ["1", "-", "a stone\\nat 1"],
        ["2", "4"],
        ["3", "-", "a stone\\nat 3"],
    ]


@pytest.mark.usefixtures("walks")
def test_show_metadata(labkit_):
    text = labkit_("notebook", "show", "stumbles.db", "--metadata").stdout
    values = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    names = [v[0] for v in values]
    assert names.count("labkit.key") == names.count(STATUS) == names.count("labkit.host") == 4
    assert "ValueError: a stone" in text
    assert ["epyc.experiment.exception", "a stone\\nat 1"] in values


@pytest.mark.usefixtures("walks")
def test_show_another_result_set(labkit_):
    default = labkit.LabNotebook.DEFAULT_RESULTSET
    done = labkit_("notebook", "show", "walk.db", "--result-set", default)
    assert done.stdout == f"walk.db: result set {default} has no outcomes yet\n"
    done = labkit_("notebook", "show", "walk.db", "--result-set", "six walk", status=2)
    assert "did you mean six walks?" in done.stderr


# ---------- log ----------


@pytest.mark.usefixtures("walks")
def test_log(labkit_):
    lines = labkit_("notebook", "show", "stumbles.db", "--keys").stdout.splitlines()
    rows = {line.split()[1]: line.split()[0] for line in lines[2:]}
    assert {len(key) for key in rows.values()} == {KEY_DIGITS}
    assert labkit_("notebook", "log", "stumbles.db", rows["2"]).stdout == "now at 2\n"
    text = labkit_("notebook", "log", "stumbles.db", rows["1"][:8].upper()).stdout
    assert text.startswith("now at 1\nTraceback (most recent call last):\n")
    assert text.endswith("ValueError: a stone\nat 1\n")


def test_log_of_a_point_that_said_nothing(labkit_):
    labkit_("run", "walks.py:Free", "--serial", "--set", "a=1")
    with labkit.SQLiteLabNotebook("free.db").open() as notebook:
        (key,) = notebook.current().keys_by_status()
    done = labkit_("notebook", "log", "free.db", key)
    assert done.stdout == f"The runs of point {key} printed nothing.\n"


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("abc", "too short: give at least 4 digits"),
        ("zzzz", "no key in stumbles.db begins with zzzz"),
        ("%%%%", "no key in stumbles.db begins with %%%%"),
    ],
)
def test_log_of_no_key(labkit_, key, message):
    done = labkit_("notebook", "log", "stumbles.db", key, status=2)
    assert message in done.stderr
    assert "labkit notebook show --keys stumbles.db" in done.stderr


def test_log_of_several_keys(labkit_):
    with labkit.SQLiteLabNotebook("n.db").open() as notebook:
        points = [(f"aaaa{i}", {"x": i}) for i in range(7)]
        notebook.current().addPendingResults("s", points)
    done = labkit_("notebook", "log", "n.db", "aaaa", status=2)
    assert "7 keys begin with aaaa: aaaa0, aaaa1, aaaa2, aaaa3, aaaa4, …" in done.stderr


# ---------- export and import ----------


@pytest.mark.usefixtures("walks")
def test_export(labkit_, folder):
    assert labkit_("notebook", "export", "walk.db", "w.csv").stdout == "w.csv is written\n"
    assert len(pd.read_csv("w.csv")) == 6
    assert "exists already" in labkit_("notebook", "export", "walk.db", "w.csv", status=2).stderr
    default = labkit.LabNotebook.DEFAULT_RESULTSET
    labkit_("notebook", "export", "walk.db", "w.csv", "--overwrite", "--result-set", default)
    assert len(pd.read_csv("w.csv")) == 0
    labkit_("notebook", "export", "walk.db", "w.data", "--format", "parquet")
    assert len(pd.read_parquet("w.data")) == 6
    done = labkit_("notebook", "export", "walk.db", "w.xls", status=2)
    assert ".csv" in done.stderr
    assert not (folder / "w.xls").exists()


def test_formats_are_those_of_the_library(labkit_):
    from labkit.notebook.export import FORMATS

    done = labkit_("notebook", "export", "a.db", "b", "--format", "none", status=2)
    assert all(f"'{name}'" in done.stderr for name in FORMATS)
    assert done.stderr.count("', '") == len(FORMATS) - 1


@pytest.mark.usefixtures("walks")
def test_to_epyc_and_back(labkit_):
    labkit_("notebook", "export", "stumbles.db", "s.json")
    assert epyc.JSONLabNotebook("s.json").numberOfResults() == 4
    done = labkit_("notebook", "import", "s.json", "again.db")
    assert done.stdout == "again.db holds 4 outcomes in 1 result set\n"
    row = labkit_("notebook", "ls", "again.db").stdout.splitlines()[-1].split()
    assert row[:4] == [labkit.LabNotebook.DEFAULT_RESULTSET, "2", "2", "0"]


@pytest.mark.parametrize("text", [None, "", "{", json.dumps({"a": 1})])
def test_import_of_something_else(labkit_, folder, text):
    if text is not None:
        (folder / "source.json").write_text(text)
    done = labkit_("notebook", "import", "source.json", "new.db", status=2)
    assert "source.json" in done.stderr
    assert not (folder / "new.db").exists()


# ---------- plot ----------


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize("name", ["f.png", "f.PDF", "f.svg"])
def test_plot(labkit_, folder, name):
    done = labkit_(
        "notebook", "plot", "walk.db", "--x", "steps", "--y", "end", "--hue", "noise", "-o", name
    )
    assert done.stdout == f"{name} is drawn\n"
    start = {"f.png": b"\x89PNG", "f.PDF": b"%PDF", "f.svg": b"<?xml"}[name]
    assert (folder / name).read_bytes().startswith(start)


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--x", "stps", "--y", "end", "-o", "f.png"], "did you mean steps?"),
        (["--x", "steps", "--y", "end", "-o", "f.doc"], "names no format of a picture"),
        (["--x", "steps", "--y", "end", "-o", "f"], "names no format of a picture"),
        (["--x", "steps", "--y", "path", "-o", "f.png"], "path"),
        (["--x", "steps", "--y", "end"], "Missing option '-o'"),
    ],
)
def test_what_cannot_be_drawn(labkit_, folder, options, message):
    before = listing(folder)
    assert message in labkit_("notebook", "plot", "walk.db", *options, status=2).stderr
    assert listing(folder) == before


# ---------- notebooks that are not there ----------


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize(
    "words",
    [
        ["ls"],
        ["show"],
        ["log", "abcd"],
        ["export", "out.csv"],
        ["plot", "--x", "a", "--y", "b", "-o", "f.png"],
    ],
)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wlk.db",
            "there is no notebook wlk.db; did you mean walk.db? Known: stumbles.db, walk.db",
        ),
        ("walks.py", "walks.py is not an SQLite notebook"),
        ("empty.db", "empty.db is an empty file"),
    ],
)
def test_no_notebook(labkit_, folder, words, name, message):
    (folder / "empty.db").touch()
    before = listing(folder)
    known = message.replace("Known: ", "Known: empty.db, ")
    assert known in labkit_("notebook", words[0], name, *words[1:], status=2).stderr
    assert listing(folder) == before


@pytest.mark.usefixtures("walks")
def test_reading_takes_no_lock_and_writes_nothing(labkit_, folder):
    before = listing(folder)
    labkit_("notebook", "ls")
    labkit_("notebook", "ls", "walk.db")
    labkit_("notebook", "show", "walk.db", "--metadata")
    labkit_("notebook", "log", "walk.db", "ffffffff", status=2)
    assert listing(folder) == before


# ---------- check and recover ----------


def damage(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


@pytest.mark.usefixtures("walks")
def test_check_of_a_sound_notebook(labkit_, folder):
    before = listing(folder)
    done = labkit_("notebook", "check", "walk.db")
    assert "six walks: 6 outcomes and 6 arrays sound\n" in done.stdout
    assert done.stdout.endswith("walk.db is sound.\n")
    assert listing(folder) == before
    told = json.loads(labkit_("notebook", "check", "walk.db", "--json").stdout)
    assert (told["is_sound"], told["lost_keys"], told["findings"]) == (True, [], [])


@pytest.mark.usefixtures("walks")
def test_check_and_recover_a_damaged_notebook(labkit_, folder):
    with labkit.SQLiteLabNotebook("walk.db").open() as notebook:
        rows = notebook.results("six walks")
    key, path = rows[3]["metadata"]["labkit.key"], rows[3]["results"]["path"]
    damage(folder / "walk.h5", path.tobytes(), path.tobytes()[::-1])
    done = labkit_("notebook", "check", "walk.db", status=1)
    assert "six walks: 6 outcomes and 5 arrays sound\n" in done.stdout
    assert f"array path of key {key}" in done.stdout
    assert done.stdout.endswith("  labkit notebook recover walk.db -o NEW.db\n")
    told = json.loads(labkit_("notebook", "check", "walk.db", "--json", status=1).stdout)
    assert told["lost_keys"] == [key]
    before = listing(folder)
    done = labkit_("notebook", "recover", "walk.db", "-o", "saved.db")
    assert f"array path of key {key}" in done.stdout
    assert done.stdout.endswith(
        "saved.db holds 6 outcomes in 2 result sets; what is lost is said above.\n"
    )
    assert listing(folder).items() >= before.items()
    assert labkit_("notebook", "check", "saved.db").stdout.endswith("saved.db is sound.\n")
    done = labkit_("notebook", "recover", "walk.db", "-o", "saved.db", status=2)
    assert "saved.db is there already and is not overwritten" in done.stderr


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize("command", [["show"], ["ls"], ["log"], ["export"]])
def test_commands_that_meet_damage_say_what_to_type(labkit_, folder, command):
    path = folder / "stumbles.db"
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    path.write_bytes(data)
    more = {"log": ["abcd"], "export": ["out.csv"]}
    done = labkit_("notebook", *command, path, *more.get(command[0], []), status=2)
    assert f"labkit notebook check {path}" in done.stderr


def test_nothing_to_check(labkit_, folder):
    done = labkit_("notebook", "check", "absent.db", status=2)
    assert "there is no notebook absent.db" in done.stderr
    (folder / "other.db").write_text("something else")
    done = labkit_("notebook", "recover", "other.db", "-o", "new.db", status=2)
    assert "nothing of a labkit notebook can be found" in done.stderr
    assert not (folder / "new.db").exists()
