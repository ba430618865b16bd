"""Wheels of what is installed."""

import base64
import hashlib
import importlib
import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from labkit.cluster import wheels
from labkit.errors import ClusterError


def digest(content):
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


class Prefix:
    """An environment with packages, as installers leave them."""

    def __init__(self, folder):
        self.folder = folder
        self.site = folder / "lib" / "python3" / "site-packages"

    def add(self, name, files=None, *, version="1.0", requires=(), **more):
        """Install a package; more are the files of its metadata, None for one that is not there."""
        info = f"{name}-{version}.dist-info"
        about = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        told = {
            "METADATA": "\n".join([*about, ""]),
            "WHEEL": "Tag: py3-none-any\n",
            "INSTALLER": "pip\n",
            **more,
        }
        files = {f"{name}.py": "x = 1\n"} if files is None else files
        files = files | {f"{info}/{k}": text for k, text in told.items() if text is not None}
        rows = [f"{info}/RECORD,,"]
        for path, text in files.items():
            place = self.site / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            rows.append(f"{path},sha256={digest(text.encode())},{len(text)}")
        rows.append(f"__pycache__/{name}.cpython-311.pyc,,")
        record = self.site / info / "RECORD"
        if "RECORD" not in more:
            record.write_text("\n".join([*rows, ""]))
        return Distribution.at(self.site / info)


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    made = Prefix(tmp_path / "prefix")
    made.site.mkdir(parents=True)
    monkeypatch.syspath_prepend(made.site)
    return made


def names(wheel):
    return [file.name for file in wheel.files]


def test_pip_takes_them_and_installs_what_is_here(tmp_path):
    pytest.importorskip("pip")
    for package in wheels.installed(["click", "requests"]):
        wheels.wheel_of(package).pack(tmp_path / "wheels")
    target = tmp_path / "target"
    words = ("--no-index", "--find-links", tmp_path / "wheels", "--target", target, "--no-compile")
    pip = (sys.executable, "-m", "pip", "--isolated", "install", "--quiet", *words)
    subprocess.run([*pip, "click", "requests"], check=True)
    for name in ("click", "requests", "urllib3", "certifi"):
        there, here = target / name, Path(importlib.import_module(name).__file__).parent
        own = {p.relative_to(here): p.read_bytes() for p in here.rglob("*.py")}
        assert own
        assert {p.relative_to(there): p.read_bytes() for p in there.rglob("*.py")} == own


def test_a_wheel_has_the_code_and_not_how_it_came_here(prefix):
    package = prefix.add(
        "own",
        {
            "own/__init__.py": "",
            "own/vendored/other-2.dist-info/RECORD": "",
            "../../../bin/own": "#!/here/python3\nmade by pip\n",
            "../../../bin/other": "#!/here/python3\nrun()\n",
            "../../../share/own/table.txt": "1",
        },
        **{"entry_points.txt": "[console_scripts]\nown = own:main\n", "direct_url.json": "{}"},
    )
    wheel = wheels.wheel_of(package)
    assert names(wheel) == [
        "own-1.0.data/data/share/own/table.txt",
        "own-1.0.data/scripts/other",
        "own-1.0.dist-info/METADATA",
        "own-1.0.dist-info/WHEEL",
        "own-1.0.dist-info/entry_points.txt",
        "own/__init__.py",
        "own/vendored/other-2.dist-info/RECORD",
    ]
    with zipfile.ZipFile(wheel.pack(prefix.folder)) as archive:
        assert archive.read("own-1.0.data/scripts/other") == b"#!python\nrun()\n"
        assert len(archive.read("own-1.0.dist-info/RECORD").splitlines()) == 8


def test_the_name_tells_the_content(prefix):
    package = prefix.add("own")
    first = wheels.wheel_of(package)
    assert first.name.startswith("own-1.0-0")
    assert first.name.endswith("-py3-none-any")
    assert wheels.wheel_of(package).name == first.name
    # installed elsewhere, at another time
    other = Prefix(prefix.folder / "other")
    other.site.mkdir(parents=True)
    again = other.add("own")
    os.utime(other.site / "own.py", (0, 0))
    assert wheels.wheel_of(again).name == first.name
    # changed by hand, as nobody has told its list of files
    (prefix.site / "own.py").write_text("x = 2\n")
    changed = wheels.wheel_of(package)
    assert changed.name != first.name
    with zipfile.ZipFile(changed.pack(prefix.folder)) as archive:
        assert archive.read("own.py") == b"x = 2\n"
        record = archive.read("own-1.0.dist-info/RECORD").decode()
    assert "own.py,sha256=" + digest(b"x = 2\n") in record


def test_a_wheel_that_cannot_be_packed_leaves_nothing(prefix, tmp_path):
    wheel = wheels.wheel_of(prefix.add("own"))
    (prefix.site / "own.py").unlink()
    with pytest.raises(FileNotFoundError):
        wheel.pack(tmp_path / "wheels")
    assert list((tmp_path / "wheels").iterdir()) == []


def test_tags_of_several_platforms():
    told = "Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_17_x86_64\nTag: cp311-cp311-linux_1\n"
    assert wheels._tags(told) == "cp311-cp311-manylinux_2_17_x86_64.linux_1"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"RECORD": None}, "own is installed here by pip, and cannot be sent"),
        ({"RECORD": None, "INSTALLER": None}, "own is installed here without a list of its files"),
        ({"INSTALLER": "conda\n"}, "own is installed here by conda, and cannot be sent"),
    ],
)
def test_what_is_not_whole_here_is_refused(prefix, more, what):
    package = prefix.add("own", **more)
    with pytest.raises(ClusterError, match=what):
        wheels.wheel_of(package)


def test_what_lies_outside_is_refused(prefix):
    package = prefix.add("own", {"../../../../elsewhere": ""})
    with pytest.raises(ClusterError, match=r"elsewhere, of own-1\.0\.dist-info, lies outside"):
        wheels.wheel_of(package)


def test_labkit_that_is_being_written_is_whole():
    (package,) = [
        each for each in wheels.installed(["labkit"]) if each.metadata["Name"] == "labkit"
    ]
    found = names(wheels.wheel_of(package))
    assert "labkit/cluster/wheels.py" in found
    assert "labkit/py.typed" in found
    assert not any("editable" in name or "__pycache__" in name for name in found)


# ---------- which packages ----------


def test_what_is_required_comes_too(prefix):
    prefix.add("first", requires=["second-part[more]>=1", "absent; python_version < '3'"])
    prefix.add("second_part", requires=["third; extra == 'more'", "absent; extra == 'less'"])
    prefix.add("third", requires=["first"])
    found = wheels.installed(["first"])
    assert [each.metadata["Name"] for each in found] == ["first", "second_part", "third"]


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (
            "nosuch",
            "the inventory requires nosuch, which is not installed here: pip install nosuch",
        ),
        ("first", "first requires nosuch, which is not installed here"),
        ("second>=2", "the inventory requires second>=2, and second 1.0 is installed here: pip"),
    ],
)
def test_what_is_not_installed(prefix, wanted, what):
    prefix.add("first", requires=["nosuch"])
    prefix.add("second")
    with pytest.raises(ClusterError, match=what):
        wheels.installed([wanted])
