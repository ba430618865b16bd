"""The machines of the tests are what they are taken for."""


def test_machines_have_names_addresses_homes_and_processes_of_their_own(bed):
    ctl, h1 = bed["ctl"], bed["h1"]
    assert ctl.execute("ssh", "h1", "hostname").strip() == "h1"
    ctl.execute("sh", "-c", "touch ~/of-ctl /tmp/of-ctl")
    assert "of-ctl" not in h1.execute("ls", bed.home, "/tmp")
    assert len(h1.processes("[listener]")) == 1


def test_a_power_cut_ends_all_and_the_machine_comes_back(bed):
    h3 = bed["h3"]
    h3.start("sleep", "1000")
    h3.power_off()
    h3.boot()
    h3.wait()
    assert not h3.processes("sleep 1000")
    assert bed["ctl"].execute("ssh", "h3", "hostname").strip() == "h3"
