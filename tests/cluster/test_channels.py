"""What comes through the connection with an agent."""

import time

import pytest

from labkit.cluster.channels import Channel
from labkit.errors import ClusterError


def said(code):
    """Return the connection with what says something on this machine."""
    return Channel("h1", ["sh", "-c", code], "token")


def test_a_report_that_is_cut_off_is_none_and_the_end_is_told():
    channel = said("""echo 'token{"can": 2}'; printf 'token{"pid": 47'; exit 3""")
    assert channel.receive(time.monotonic() + 5) == {"can": 2}
    began = time.monotonic()
    with pytest.raises(ClusterError, match="h1: the connection ended with status 3"):
        channel.receive(time.monotonic() + 20)
    assert time.monotonic() - began < 10
    channel.close()


def test_what_login_scripts_print_is_no_report():
    channel = said("""echo "token is a word"; echo 'you have mail'; echo 'token{"can": 2}'""")
    assert channel.receive(time.monotonic() + 5) == {"can": 2}
    channel.close()
