import collections
import enum
import json
import os
import subprocess
import sys
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.errors import ParameterError, UnhashableParameterError
from labkit.point import are_plain, canonical, generator, key, keys
from labkit.table import Table

WIDE = 2**64


def key_of(value):
    return key("walks.Walk", 1, {"a": value})


# Every type that a key tells apart, as text that tells the same apart.
def faithful(value):
    if isinstance(value, dict):
        pairs = sorted((faithful(k), faithful(v)) for k, v in value.items())
        return f"dict{pairs}"
    if isinstance(value, list | tuple):
        return f"list{[faithful(v) for v in value]}"
    if isinstance(value, frozenset):
        return f"set{sorted(faithful(v) for v in value)}"
    return f"{type(value).__name__} {value!r}"


# What a canonical form stands for: that there is an inverse means that no two
# values share one.
def value_of(plain):
    if isinstance(plain, list):
        return [value_of(v) for v in plain]
    if not isinstance(plain, dict):
        return plain
    tags = [k for k in plain if k.startswith("!")]
    if not tags:
        return {k: value_of(v) for k, v in plain.items()}
    assert len(plain) == 1
    return UNTAG[tags[0]](plain[tags[0]])


def hashable(value):
    return tuple(hashable(v) for v in value) if isinstance(value, list) else value


UNTAG = {
    "!dict": lambda pairs: {hashable(value_of(k)): value_of(v) for k, v in pairs},
    "!complex": lambda parts: complex(*map(float, parts)),
    "!bytes": bytes.fromhex,
    "!datetime": datetime.fromisoformat,
    "!date": date.fromisoformat,
    "!time": time.fromisoformat,
    "!timedelta": lambda parts: timedelta(*parts[:3]),
    "!set": lambda values: frozenset(hashable(value_of(v)) for v in values),
    "!int": lambda digits: int(digits, 16),
}


# Python holds moments for equal whatever their fold.
def unfolded(moment):
    return moment.replace(fold=0)


# names that look like tags, too
text = st.text(st.characters(), max_size=5) | st.sampled_from(
    [*UNTAG, "!", "!!dict", "\ud83d\ude00", "😀", "\ud83d", "\x00"]
)
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(WIDE - 2, WIDE**2)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | text
    | st.binary(max_size=5)
    | st.datetimes(timezones=st.none() | st.just(UTC)).map(unfolded)
    | st.dates()
    | st.times().map(unfolded)
    | st.timedeltas()
)
flat = atoms | st.tuples(atoms, atoms)
parameters = st.recursive(
    atoms | st.frozensets(atoms, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(text, inner, max_size=3)
        | st.dictionaries(flat, inner, max_size=3)
    ),
    max_leaves=8,
)


# ---------- canonical ----------


@given(parameters)
def test_no_two_values_share_a_canonical_form(value):
    plain = canonical(value)
    assert faithful(value_of(plain)) == faithful(value)
    # only what JSON tells apart
    assert faithful(json.loads(json.dumps(plain, ensure_ascii=False))) == faithful(plain)


@given(parameters)
def test_a_dict_that_imitates_a_tag_has_another_key(value):
    imitation = canonical(value)
    if faithful(imitation) == faithful(value):
        assert key_of(imitation) == key_of(value)
    else:
        assert key_of(imitation) != key_of(value)


@given(parameters, parameters)
def test_keys_are_equal_when_the_values_are(one, other):
    assert (key_of(one) == key_of(other)) == (faithful(one) == faithful(other))


def test_types_that_python_holds_for_equal_have_keys_of_their_own():
    alike = [
        1,
        1.0,
        "1",
        True,
        1 + 0j,
        b"1",
        [1],
        {"1": 1},
        {1: 1},
        {1.0: 1},
        frozenset({1}),
        "1.0",
    ]
    alike += [
        None,
        "null",
        "None",
        0,
        False,
        "",
        [],
        {},
        b"",
        frozenset(),
        np.array(1),
        np.array([1]),
    ]
    alike += [np.array([1.0]), np.array([[1]]), np.array([1], dtype=np.int8), np.array(["1"])]
    assert len({key_of(value) for value in alike}) == len(alike)


def test_infinities_and_nan_have_keys():
    odd = [float("nan"), float("inf"), float("-inf"), "NaN", "Infinity", None]
    assert len({key_of(value) for value in odd}) == len(odd)
    assert key_of(float("nan")) == key_of(np.float32("nan"))
    assert key_of(np.inf) == key_of(float("inf"))


@pytest.mark.parametrize("power", [63, 64, 65, 200, 20_000])
def test_whole_numbers_may_be_of_any_length(power):
    value = 2**power
    assert key_of(value) == key_of(value + 1 - 1)
    assert len({key_of(value), key_of(value + 1), key_of(-value), key_of([value])}) == 4


@pytest.mark.parametrize(
    ("numpys", "pythons"),
    [
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float16(0.5), 0.5),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.complex64(1 + 2j), 1 + 2j),
        (np.complex128(1 + 2j), 1 + 2j),
        (np.True_, True),
        (np.str_("ä"), "ä"),
        (np.bytes_(b"x"), b"x"),
        ([np.int64(1)], [1]),
        ({np.str_("k"): np.float64(2)}, {"k": 2.0}),
        ({np.int64(1): 2}, {1: 2}),
        (np.void(b"abc"), b"abc"),
    ],
    ids=repr,
)
def test_a_numpy_scalar_equals_its_python_value(numpys, pythons):
    assert key_of(numpys) == key_of(pythons)


def test_numpy_scalars_without_python_value_have_keys():
    values = [
        np.longdouble(1) / 3,
        np.longdouble(2) / 3,
        np.clongdouble(1) / 3,
        np.datetime64("2024-01-01"),
        np.datetime64("2024-01-01", "ns"),
        np.datetime64("NaT", "s"),
        np.timedelta64(1, "s"),
        np.timedelta64(1, "ms"),
        1 / 3,
    ]
    assert len({key_of(value) for value in values}) == len(values)


class Colour(enum.IntEnum):
    RED = 1


class Kind(enum.StrEnum):
    LONG = "long"


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        (Colour.RED, 1),
        (Kind.LONG, "long"),
        (bytearray(b"x"), b"x"),
        ({1, 2}, frozenset([2, 1])),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}),
        ({2: 1, "a": 2}, {"a": 2, 2: 1}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (pd.Timestamp("2024-01-01T12:00"), datetime(2024, 1, 1, 12)),
        (pd.Timedelta("1s"), timedelta(seconds=1)),
    ],
    ids=repr,
)
def test_values_that_are_equal_have_equal_keys(given, same):
    assert key_of(given) == key_of(same)


def test_times_are_told_apart():
    noon = datetime(2024, 1, 1, 12)
    moments = [
        noon,
        noon.replace(tzinfo=UTC),
        noon.replace(tzinfo=timezone(timedelta(hours=1))),
        noon.replace(microsecond=1),
        noon.date(),
        noon.time(),
        noon.isoformat(),
        pd.Timestamp(noon) + pd.Timedelta(1, "ns"),
        np.datetime64(noon),
        timedelta(seconds=1),
        timedelta(microseconds=1),
        pd.Timedelta(1, "ns"),
        pd.Timedelta(2, "ns"),
    ]
    assert len({key_of(m) for m in moments}) == len(moments)


def test_arrays_are_equal_whatever_their_layout():
    a = np.arange(6.0).reshape(2, 3)
    for same in (np.asfortranarray(a), a[:, ::-1][:, ::-1], a.astype(">f8"), a.copy()):
        assert key_of(same) == key_of(a)
    a[0, 0] = 9
    assert key_of(a) != key_of(np.arange(6.0).reshape(2, 3))


def test_arrays_of_every_type_have_keys():
    structured = np.zeros(2, dtype=[("a", "i4"), ("b", "f4")])
    arrays = [
        np.zeros((2, 0)),
        np.zeros((0, 2)),
        np.array(5),
        np.array([1, 2]),
        np.array([1, 2], dtype=np.uint64),
        np.array(["a", "b"]),
        np.array(["2024-01-01"], dtype="M8[D]"),
        np.array(["2024-01-01"], dtype="M8[s]"),
        np.array([True]),
        np.array([1j]),
        structured,
        structured.view([("x", "i4"), ("y", "f4")]),
    ]
    assert len({key_of(a) for a in arrays}) == len(arrays)


# ---------- key ----------


# names that equal others, and whose text is another
class Oddly(str, enum.Enum):  # noqa: UP042
    TAG = "!set"
    FACE = "😀"


@given(st.dictionaries(text, parameters, max_size=5), st.data())
def test_a_key_does_not_depend_on_the_order_of_the_parameters(params, data):
    shuffled = {name: params[name] for name in data.draw(st.permutations(list(params)))}
    assert key("walks.Walk", 1, shuffled) == key("walks.Walk", 1, params)


def test_a_key_depends_on_all_that_names_a_point():
    keys = [
        key("walks.Walk", 1, {"a": 1}),
        key("walks.Walker", 1, {"a": 1}),
        key("walks.Walk", 2, {"a": 1}),
        key("walks.Walk", "1", {"a": 1}),
        key("walks.Walk", 1, {"a": 2}),
        key("walks.Walk", 1, {"b": 1}),
        key("walks.Walk", 1, {"a": 1, "b": 1}),
        key("walks.Walk", 1, {}),
        key("walks.Walk", 1, {"a": 1}, 0),
        key("walks.Walk", 1, {"a": 1}, 1),
        key("walks.Walk", 1, {"a": 1}, [0]),
        key("walks.Walk", 1, {"a": 1}, (0, 1)),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(k) == 32 and int(k, 16) >= 0 for k in keys)


names = text | text.map(np.str_) | st.sampled_from(Oddly)


def have_other_texts(chosen):
    """Test whether no two names are the same text: '' and np.str_('') can both be in a dict."""
    return len({*map(str, chosen)}) == len(chosen)


named = st.dictionaries(names, parameters | st.floats(), max_size=4).filter(have_other_texts)


@given(st.lists(named, max_size=4))
def test_a_key_is_the_sum_of_a_points_canonical_json(points):
    key_of = keys("w\ud83d", "2b", (0, 3))
    assert key_of.all(points) == [*map(key_of, points)]
    for params in points:
        plain = {str(name): canonical(value) for name, value in params.items()}
        whole = json.dumps(
            ["w\ud83d", "2b", plain, (0, 3)],
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
        )
        digest = blake2b(whole.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        assert digest == key_of(params) == key("w\ud83d", "2b", params, (0, 3))


@given(st.sets(names, max_size=3).filter(have_other_texts), st.data())
def test_keys_of_points_with_the_same_parameters(chosen, data):
    values = parameters | st.floats() | st.integers() | st.booleans()
    points = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(chosen, values)), max_size=6))
    key_of = keys("walks.Walk", 1)
    assert key_of.all(points) == [*map(key_of, points)]
    columns = {name: [point[name] for point in points] for name in points[0]} if points else {}
    table = Table(columns)
    assert key_of.all(table) == [*map(key_of, table)]
    assert are_plain(table) == are_plain([*table])
    if columns:
        assert ([*table], len(table), table[-1]) == (points, len(points), points[-1])
        assert [*table[1:]] == points[1:]


def test_keys_of_mappings_that_make_up_values():
    points = [collections.Counter(a=1), collections.Counter(b=2)]
    key_of = keys("walks.Walk", 1)
    assert key_of.all(points) == [*map(key_of, points)]


def test_one_of_many_points_that_cannot_be_hashed_is_named():
    with pytest.raises(UnhashableParameterError, match=r"parameter a of walks\.Walk"):
        keys("walks.Walk", 1).all([{"a": 1, "b": 2}, {"a": object(), "b": 2}])


def test_the_format_of_keys_is_kept():
    # A change here makes every point of every notebook a new one. Do not.
    params = {
        "window": 50,
        "noise": 0.1,
        "kind": "größer",
        "flags": [True, None],
        "nested": {"a": (1, 2.0), 3: b"\x00"},
        "wide": 2**70,
        "array": np.arange(3, dtype=np.int64),
        "when": datetime(2024, 5, 1, 12, tzinfo=UTC),
    }
    canonical_json = b'["walks.Walk",1,{"a":1},null]'
    assert key("walks.Walk", 1, {"a": 1}) == "791923017687f4576edee6eaec87619c"
    assert blake2b(canonical_json, digest_size=16).hexdigest() == "791923017687f4576edee6eaec87619c"
    assert key("walks.Walk", "2b", params, (0, 3)) == "eedcd5765a6b24b2b8bc0fcc8319447e"


IN_ANOTHER_PROCESS = """
import json, sys
from labkit.point import generator, key
params = {
    "set": {"x", "y", "z", 1, 2.5, None}, "dict": {3: "c", "a": "b"}, "text": "ä\\ud83d",
    "number": 0.1, "bytes": b"x",
}
if len(sys.argv) > 1:
    params = dict(reversed(params.items()))
k = key("walks.Walk", 1, params)
print(json.dumps([k, generator(3, k).random(4).tolist()]))
"""


def test_keys_and_streams_are_the_same_in_all_processes():
    answers = set()
    for seed, more in (("0", []), ("1", []), ("2", ["reversed"])):
        root = str(Path(labkit.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS, *more],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            check=True,
            capture_output=True,
            text=True,
        )
        answers.add(done.stdout)
    (answer,) = answers
    k, stream = json.loads(answer)
    assert generator(3, k).random(4).tolist() == stream


class Opaque:
    pass


cycle: list = []
cycle.append(cycle)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Opaque(), "an Opaque"),
        ([1, {"deep": Opaque()}], "an Opaque"),
        ({Opaque(): 1}, "an Opaque"),
        (len, "a builtin_function_or_method"),
        (range(3), "a range"),
        (np.array([None, 1]), "array of Python objects"),
        (np.ma.masked_array([1, 2], mask=[True, False]), "masked array"),
        (pd.Series([1]), "a Series"),
        (pd.DataFrame({"a": [1]}), "a DataFrame"),
        (cycle, "recursion"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_what_cannot_be_hashed_is_an_error_that_names_the_parameter(value, reason):
    with pytest.raises(UnhashableParameterError) as caught:
        key("walks.Walk", 1, {"fine": 1, "window": value})
    message = str(caught.value)
    assert message.startswith("parameter window of walks.Walk cannot be hashed: ")
    assert reason in message
    assert "use numbers, text" in message
    assert isinstance(caught.value, ParameterError)
    assert isinstance(caught.value, TypeError)


def test_the_name_of_a_parameter_is_text():
    with pytest.raises(UnhashableParameterError, match=r"parameter 1 of walks.Walk.*name is not"):
        key("walks.Walk", 1, {1: 2})
    assert key("w", 1, {np.str_("a"): 1}) == key("w", 1, {"a": 1})


# ---------- generator ----------


def test_each_key_and_each_seed_has_a_stream_of_its_own():
    keys = [key("walks.Walk", 1, {"a": i}) for i in range(50)]
    first = {generator(seed, k).random() for seed in range(4) for k in keys}
    assert len(first) == 200


def test_a_stream_starts_anew_with_each_generator():
    k = key("walks.Walk", 1, {"a": 1})
    assert generator(1, k).random(5).tolist() == generator(1, k).random(5).tolist()


def test_the_streams_are_kept():
    # as test_the_format_of_keys_is_kept: what was computed can be computed again
    k = "00112233445566778899aabbccddeeff"
    drawn = generator(7, k).bit_generator.random_raw(2).tolist()
    assert drawn == [4796296953536466838, 11118590781625720492]
    words = [0x00112233, 0x44556677, 0x8899AABB, 0xCCDDEEFF]
    sequence = np.random.SeedSequence(entropy=7, spawn_key=words)
    assert drawn == np.random.default_rng(sequence).bit_generator.random_raw(2).tolist()
