"""Which code is local, and how it is packed."""

import importlib
import io
import sys
import zipfile

import cloudpickle
import numpy as np
import pytest

import labkit
from labkit import bundle
from labkit.bundle import bundles_of, is_importable

FILES = {
    "alone.py": "import nearby.deep.low, json, numpy\n",
    "nearby/deep/low.py": "def f():\n    from . import sibling\n    return sibling.VALUE\n",
    "nearby/deep/sibling.py": "VALUE = 1\n",
    "nearby/deep/unused.py": "",
    "whole/__init__.py": "",
    "whole/inner/__init__.py": "from ..part import g\nfrom . import *\n",
    "whole/part.py": "def g():\n    import alone\n",
    "whole/odd.py": "PATTERN = '\\d'\n",
    "whole/table.csv": "1,2\n",
    "whole/__pycache__/part.pyc": "",
    "whole/.hidden/secret.py": "",
    "whole/venv/pyvenv.cfg": "",
    "whole/venv/lib.py": "",
    "broken/__init__.py": "def (:\n",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in list(sys.modules):
        if name.partition(".")[0] in ("alone", "nearby", "whole", "broken"):
            del sys.modules[name]


def bundles_for(thing):
    return {b.name: b.archive for b in bundles_of(cloudpickle.dumps(thing))}


def names_in(archive):
    return zipfile.ZipFile(io.BytesIO(archive.array.tobytes())).namelist()


def test_a_package_travels_whole_with_what_it_imports(place):
    found = bundles_for(importlib.import_module("whole.inner").g)
    assert list(found) == ["alone", "nearby.deep.low", "nearby.deep.sibling", "whole"]
    assert names_in(found["whole"]) == [
        "whole/__init__.py",
        "whole/odd.py",
        "whole/part.py",
        "whole/table.csv",
        "whole/inner/__init__.py",
    ]
    assert names_in(found["nearby.deep.low"]) == ["nearby/deep/low.py"]


def test_what_everybody_has_or_has_installed_does_not_travel():
    assert bundles_for([np.mean, labkit.Lab, cloudpickle.dumps, importlib.reload]) == {}


def test_the_same_files_are_the_same_archive(place):
    g = importlib.import_module("whole.part").g
    first = bundles_for(g)["whole"].digest
    (place / "whole" / "part.py").touch()
    (place / "whole" / "__pycache__" / "more.pyc").touch()
    assert bundles_for(g)["whole"].digest == first
    (place / "whole" / "table.csv").write_text("1,3\n")
    assert bundles_for(g)["whole"].digest != first


def test_who_has_the_same_files_can_import_them(place):
    found = bundles_of(cloudpickle.dumps(importlib.import_module("whole")))
    (whole,) = (b for b in found if b.name == "whole")
    assert is_importable(whole)
    (place / "whole" / "new.py").touch()
    assert not is_importable(whole)
    (place / "whole" / "new.py").unlink()
    assert is_importable(whole)
    (place / "whole").rename(place / "gone")
    del sys.modules["whole"]
    importlib.invalidate_caches()
    assert not is_importable(whole)


def test_a_package_with_too_much_data_does_not_travel(place, monkeypatch):
    g = importlib.import_module("whole.part").g
    monkeypatch.setattr(bundle, "MOST_BYTES", 100)
    (place / "whole" / "data.bin").write_bytes(bytes(101))
    assert list(bundles_for(g)) == ["alone", "nearby.deep.low", "nearby.deep.sibling"]


def test_what_is_no_python_is_left_to_who_imports_it(place):
    with pytest.raises(SyntaxError):
        importlib.import_module("broken")
    (place / "whole" / "part.py").write_text("import alone\n")
    (place / "alone.py").write_text("try:\n    import broken\nexcept SyntaxError:\n    pass\n")
    assert "broken" in bundles_for(importlib.import_module("whole.part"))
