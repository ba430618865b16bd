"""What is kept of prints and logs, and what others see meanwhile."""

import logging
import sys

import pytest

from labkit.engine.capture import LIMIT_BYTES, Capture


def test_prints_to_both_streams_are_kept():
    with Capture(echo=False) as capture:
        print("out")
        print("err", file=sys.stderr)
        assert capture.take() == "out\nerr\n"
        assert capture.take() == ""


def test_echo_prints_as_well(capsys):
    with Capture(echo=True):
        print("seen")
    assert capsys.readouterr().out == "seen\n"


def test_streams_and_logging_are_restored_after_an_error():
    before = sys.stdout, sys.stderr, logging.getLogger().level, list(logging.getLogger().handlers)
    with pytest.raises(ValueError, match="x"), Capture(echo=False):
        raise ValueError("x")
    assert (
        sys.stdout,
        sys.stderr,
        logging.getLogger().level,
        list(logging.getLogger().handlers),
    ) == before


def test_info_is_kept_and_other_handlers_see_no_more_than_before(caplog):
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append(record.levelname)

    root = logging.getLogger()
    handler = Handler()
    root.addHandler(handler)
    try:
        with Capture(echo=False) as capture:
            for level in ("debug", "info", "warning"):
                getattr(logging.getLogger("some.module"), level)("at %s", level)
            text = capture.take()
    finally:
        root.removeHandler(handler)
    assert text == "INFO some.module: at info\nWARNING some.module: at warning\n"
    assert seen == ["WARNING"]


def test_the_end_of_a_long_text_is_kept():
    with Capture(echo=False) as capture:
        for i in range(50):
            print("ü" * 50_000, i)
        text = capture.take()
    assert len(text.encode()) <= LIMIT_BYTES
    assert text.endswith(" 49\n")


def test_half_a_character_at_the_cut_is_dropped():
    with Capture(echo=False) as capture:
        capture.add("ü" * LIMIT_BYTES)
        assert set(capture.take()) == {"ü"}


def test_half_a_surrogate_pair_is_kept_readable():
    with Capture(echo=False) as capture:
        print("\ud800")
        assert capture.take() == "\\ud800\n"


def test_warnings_are_shown_where_there_are_no_handlers(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with Capture(echo=True) as capture:
        logging.getLogger("m").warning("seen")
        logging.getLogger("m").info("kept")
        assert capture.take() == "WARNING m: seen\nINFO m: kept\n"
    assert capsys.readouterr().err == "WARNING m: seen\n"
