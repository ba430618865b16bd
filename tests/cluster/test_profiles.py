"""Profiles: written whole or not at all, found again, never overwritten unasked."""

import errno
import os
import signal

import pytest

from labkit.cluster import profiles
from labkit.cluster.configs import CONTROLLER, ENGINE, STARTER
from labkit.cluster.inventory import load
from labkit.errors import InventoryError, ProfileError

TEXT = "controller: {host: cl-0, interface: 10.0.0.1}\nhosts:\n  cl-[1-4]: {engines: 8}\n"


@pytest.fixture
def hosts(tmp_path):
    file = tmp_path / "hosts.yaml"
    file.write_text(TEXT)
    return file


@pytest.fixture
def plan(hosts, tmp_path):
    """Plan the profile of the inventory as it is now."""
    return lambda **options: profiles.plan(load(hosts), folder=tmp_path / "ipython", **options)


@pytest.fixture
def found(plan, tmp_path):
    """Return the profile, which has been written."""
    plan().write()
    return lambda: profiles.find("cluster", tmp_path / "ipython")


def contents(folder):
    return {p.name: (p.read_text(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_a_profile_has_three_files(plan, tmp_path):
    plan().write()
    folder = tmp_path / "ipython" / "profile_cluster"
    assert sorted(p.name for p in folder.iterdir()) == sorted([STARTER, CONTROLLER, ENGINE])
    assert list((tmp_path / "ipython").iterdir()) == [folder]


def test_writing_again_changes_nothing(plan):
    plan().write()
    before = contents(plan().folder)
    assert not plan().is_needed
    plan().write()
    assert contents(plan().folder) == before


def test_only_what_has_changed_is_written(plan, hosts):
    plan().write()
    before = contents(plan().folder)
    hosts.write_text(TEXT.replace("engines: 8", "engines: 2"))
    assert [c.target.name for c in plan().changes if c.is_needed] == [STARTER]
    assert not plan().handmade
    assert '-    "cl-[1-4]": ' in plan().changes[0].diff()
    plan().write()
    after = contents(plan().folder)
    assert after[CONTROLLER] == before[CONTROLLER]
    assert '"cl-[1-4]": 2' in after[STARTER][0]


def test_changes_by_hand_are_seen(plan):
    plan().write()
    file = plan().folder / CONTROLLER
    file.write_text(file.read_text() + "c.IPController.db_class = 'NoDB'\n")
    (only,) = plan().handmade
    assert only == file
    assert plan().changes[1].diff().endswith("-c.IPController.db_class = 'NoDB'\n")


def test_a_file_that_somebody_else_wrote_is_handmade(plan, tmp_path):
    folder = tmp_path / "ipython" / "profile_cluster"
    folder.mkdir(parents=True)
    (folder / ENGINE).write_text("c = get_config()\n")
    assert plan().handmade == [folder / ENGINE]


def test_another_name_and_another_launcher(plan, tmp_path):
    plan(name="night", stock=True).write()
    found = profiles.find("night", tmp_path / "ipython")
    assert found.stock
    assert found.state() == "up to date"


@pytest.mark.parametrize("name", ["../x", "", "a b", "-x"])
def test_a_name_that_cannot_be(plan, name):
    with pytest.raises(ProfileError, match="is no name of a profile"):
        plan(name=name)


def test_nothing_is_half_written(plan, monkeypatch, tmp_path):
    made = plan()
    monkeypatch.setattr(os, "fsync", lambda fd: os.write(fd, b"x" * 2**20) and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.write()
    assert list((tmp_path / "ipython").iterdir()) == []


def test_an_error_in_the_middle_leaves_all_files_as_they_were(plan, hosts, monkeypatch):
    plan().write()
    before = contents(plan().folder)
    hosts.write_text(TEXT.replace("10.0.0.1", "10.0.0.2").replace("8", "4"))
    made = plan()
    assert len([c for c in made.changes if c.is_needed]) > 1
    written, real = [], os.fsync

    def fsync(number):
        written.append(number)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ProfileError, match="profile_cluster cannot be written: No space left"):
        made.write()
    assert contents(plan().folder) == before


def write_and_be_killed(plan):
    """Write a profile in another process, which is killed at the second file."""
    child = os.fork()
    if child == 0:
        written, real = [], os.fsync

        def fsync(number):
            written.append(number)
            if len(written) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            real(number)

        os.fsync = fsync
        plan.write()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_what_a_killed_process_has_left_is_removed(plan, found, hosts):
    plan().write()
    before = contents(plan().folder)
    hosts.write_text(TEXT.replace("10.0.0.1", "10.0.0.2").replace("8", "4"))
    write_and_be_killed(plan())
    assert contents(plan().folder).items() > before.items()
    plan().write()
    assert contents(plan().folder).keys() == before.keys()
    hosts.write_text(TEXT)
    write_and_be_killed(plan())
    assert found().remove() == []


def test_what_ipyparallel_does_not_understand_is_not_planned(plan, monkeypatch, tmp_path):
    def outdated(inventory, *, stock):
        return {**real(inventory, stock=stock), CONTROLLER: "c.IPControler.ip = '10.0.0.1'\n"}

    real = profiles.configs
    monkeypatch.setattr(profiles, "configs", outdated)
    with pytest.raises(ProfileError) as told:
        plan()
    assert "does not understand this profile; nothing was written" in str(told.value)
    assert f"{CONTROLLER}: ipyparallel has no class IPControler; did you mean" in str(told.value)
    assert not (tmp_path / "ipython").exists()


def test_a_place_that_cannot_be_written(plan, tmp_path):
    made = plan()
    (tmp_path / "ipython").write_text("a file")
    with pytest.raises(ProfileError, match=r"profile_cluster cannot be written: "):
        made.write()


def test_states(found, hosts):
    assert found().state() == "up to date"
    hosts.write_text(TEXT.replace("8", "4"))
    assert found().state() == "inventory changed"
    hosts.write_text("hosts: {}\n")
    assert found().state() == "inventory wrong"
    hosts.unlink()
    assert found().state() == "inventory gone"


def test_a_changed_profile(found):
    file = found().folder / STARTER
    file.write_text(f"{file.read_text()}# by hand\n")
    assert found().state() == "changed by hand"
    assert found().complaints() == []


def test_profiles_are_found(found, tmp_path):
    other = tmp_path / "ipython" / "profile_default"
    other.mkdir()
    assert [p.name for p in profiles.profiles(tmp_path / "ipython")] == ["cluster"]
    (other / STARTER).write_text("c = get_config()\n")
    names = [(p.name, p.state()) for p in profiles.profiles(tmp_path / "ipython")]
    assert names == [("cluster", "up to date"), ("default", "not labkit's")]
    assert found().inventory == tmp_path / "hosts.yaml"


def test_an_unknown_profile(found, tmp_path):
    with pytest.raises(ProfileError, match=r"no profile clutser in .* mean cluster\?"):
        profiles.find("clutser", tmp_path / "ipython")


# ---------- removal ----------


def test_removal_leaves_nothing(found):
    for name in ("security/ipcontroller-client.json", "log/ipengine.out", "pid/x"):
        path = found().folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folder = found().folder
    assert found().remove() == []
    assert not folder.exists()


def test_removal_leaves_what_is_not_known(found):
    folder = found().folder
    (folder / "startup").mkdir()
    (folder / "startup" / "mine.py").touch()
    assert found().remove() == [folder / "startup" / "mine.py"]
    assert not (folder / STARTER).exists()


def test_a_profile_of_a_running_cluster_stays(found):
    (found().folder / "security").mkdir()
    (found().folder / "security" / "cluster-.json").touch()
    with pytest.raises(ProfileError, match=r"labkit cluster stop --profile cluster"):
        found().remove()
    assert (found().folder / STARTER).exists()


def test_a_profile_of_somebody_else_stays(found):
    (found().folder / STARTER).write_text("c = get_config()\n")
    with pytest.raises(ProfileError, match="not made by labkit"):
        found().remove()


def test_what_ipyparallels_launcher_cannot_do_is_told_first(plan, hosts, tmp_path):
    hosts.write_text(TEXT.replace("8", "cores"))
    with pytest.raises(InventoryError, match="counts no cores"):
        plan(stock=True)
    assert not (tmp_path / "ipython").exists()
