"""Files of other people, broken or hostile: each becomes one short error in a moment, or is read.

One code server reads the files of all projects. 369 bytes of YAML once became a message of 7 MB, and a little more of
them hung every project; an unfinished merge or a mistyped date ended a tick with a stack trace.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_assets.config.documents import DocumentError, parse_json, parse_yaml, read_object, read_text
from llmops_assets.config.project import parse_config
from llmops_assets.config.settings import Settings
from llmops_assets.config.smoke_tests import parse_smoke_tests
from llmops_assets.config.yaml_validation import ConfigError, validate_yaml
from resources.project_source.dvc_files import tracked_by

GOOD = "name: zoo\nmodel: {base: {path: models/base}}\ndata: {train: a.jsonl, test: b.jsonl}\n"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{here}: &{here} [{','.join([f'*{before}'] * 10)}]\n" for before, here in zip("abcdefg", "bcdefgh", strict=True)
)
"""368 bytes that expand to 100 million items."""


def config(text: str) -> object:
    return parse_config(text)


def smoke_tests(text: str) -> object:
    return parse_smoke_tests(text, "smoke.yaml")


def settings_of(text: str) -> object:
    return validate_yaml(Settings, text, "settings.yaml")


def dvc_files(text: str) -> object:
    return list(tracked_by("data/train.jsonl", lambda name: text.encode(errors="surrogatepass")))


PARSERS: list[Callable[[str], object]] = [config, smoke_tests, settings_of, dvc_files]
BROKEN = {
    "aliases that multiply": BOMB,
    "aliases in a known key": GOOD + BOMB.replace("\nb:", "\ngates:"),
    "merged keys that multiply": "a: &a {k: v}\nb: &b {<<: [" + "*a," * 2000 + "]}\nc: {<<: [" + "*b," * 2000 + "]}\n",
    "a list that holds itself": GOOD + "gates: &all [*all]\n",
    "a mapping that holds itself": "a: &a {b: *a}\n",
    "a hundred thousand open lists": "[" * 100_000,
    "a hundred thousand open mappings": "{a: " * 100_000,
    "deep, by indentation": "".join("  " * n + "a:\n" for n in range(400)),
    "deep, by dashes": "- " * 50_000 + "x",
    "an unfinished merge": GOOD + "<<<<<<< HEAD\nprompt: a\n=======\nprompt: b\n>>>>>>> theirs\n",
    "a date that does not exist": GOOD + "prompt: 2026-13-45\n",
    "a time that does not exist": "outs: 2026-01-01T99:99:99Z\n",
    "a number of a hundred thousand digits": GOOD + "training: {seed: " + "9" * 100_000 + "}\n",
    "a number in base 60": GOOD + "training: {seed: 1" + ":59" * 50_000 + "}\n",
    "a tag that the value does not fit": "a: !!int ''\nb: !!bool maybe\nc: !!float x\nd: !!timestamp x\n",
    "a tag of Python": "a: !!python/object/apply:os.system ['true']\n",
    "half of a character": 'a: "\\ud800"\n',
    "NUL": 'a: "\\0"\n',
    "control characters": "a: \x1b[2J\n",
    "twenty thousand keys": "outs: {" + ",".join(f"k{n}" for n in range(20_000)) + "}",
    "a key of a hundred thousand letters": GOOD + "x" * 100_000 + ": 1\n",
    "a value of a hundred thousand letters": GOOD + "outs: ../" + "x" * 100_000 + "\n",
    "a list as a key": "? [a, b]\n: c\n",
    "two documents": "a: 1\n---\nb: 2\n",
}


@contextmanager
def quickly(seconds: float = 10.0) -> Iterator[None]:
    """Fails if it takes unreasonably long; what these tests guard against takes minutes, or all memory."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


def told(read: Callable[[str], object], text: str) -> str:
    with quickly(), pytest.raises(ConfigError) as error:
        read(text)
    return str(error.value)


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("read", PARSERS)
def test_a_hostile_file_is_one_short_error(read: Callable[[str], object], text: str) -> None:
    said = told(read, text)
    assert len(said) < 25_000 and all(len(line) < 1_200 and line.isprintable() for line in said.split("\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "llmops.yaml:4: not valid YAML: its aliases expand to more than ten times the file"),
        (GOOD + "gates: &all [*all]\n", "llmops.yaml:4: not valid YAML: an alias refers to the value that contains it"),
        ("a:\n  " + "[" * 100, "llmops.yaml:2: not valid YAML: nested more than 40 levels deep"),
        (GOOD + "prompt: 2026-13-45\n", "llmops.yaml:4: not valid YAML: month must be in 1..12"),
        (GOOD + "<<<<<<< HEAD\n", "llmops.yaml:5: not valid YAML: could not find expected ':'"),
        (GOOD + "prompt: \x1b[2J\n", r"llmops.yaml:4: not valid YAML: the character '\x1b' is not allowed"),
        (GOOD + 'prompt: "\\ud800"\n', "llmops.yaml:4: not valid YAML: a text with a character that cannot be stored"),
        (GOOD + "training: {seed: " + "9" * 5000 + "}\n", "llmops.yaml:4: not valid YAML: a number or date of more"),
        (GOOD + "prompt: " + "x" * 300 + "\n", "llmops.yaml:4: prompt: 'xxx"),
    ],
)
def test_the_error_says_where_and_what(text: str, said: str) -> None:
    assert told(config, text).startswith(said)


def test_of_many_mistakes_the_first_are_named() -> None:
    lines = told(config, GOOD + "".join(f"k{n}: 1\n" for n in range(3000))).splitlines()
    assert lines[0] == "llmops.yaml:4: k0: unknown key; known here: " + lines[0].split("known here: ")[1]
    assert len(lines) == 21 and lines[-1].endswith("more problems")


def test_anchors_of_a_real_file_are_read() -> None:
    """A limit on aliases must not forbid the usual way not to repeat oneself."""
    tests = "- &first {name: a, input: " + "x" * 200 + "}\n" + "- {<<: *first, name: b}\n" * 30
    assert len(parse_smoke_tests(tests, "smoke.yaml").tests) == 31


scalars = (
    st.text(max_size=20)
    | st.integers().map(str)
    | st.sampled_from(
        ["*a", "&a x", "<<", "~", "1e999", ".nan", "2026-02-30", "!!set {a}", "0o7", "[", "{", "? x", "- y"]
    )
)
documents = st.lists(
    st.tuples(
        st.sampled_from(["", "  ", "    ", "- ", "? "]), st.sampled_from(["name", "outs", "tests", "a", "<<"]), scalars
    ),
    max_size=8,
).map(lambda lines: "".join(f"{indent}{key}: {value}\n" for indent, key, value in lines))


@pytest.mark.parametrize("read", PARSERS)
@settings(max_examples=150, deadline=None)
@given(text=documents | st.text(max_size=60) | st.text("abc:-[]{}&*!|>'\"#%@? \n\t123.", max_size=80))
def test_whatever_a_file_holds_it_is_read_or_refused_with_its_reason(read: Callable[[str], object], text: str) -> None:
    try:
        read(text)
    except ConfigError as error:
        assert error.problems and all(p.isprintable() for p in error.problems)


# -- files and JSON -------------------------------------------------------------------------------------------------


def test_a_file_is_read_up_to_its_limit_only(tmp_path: Path) -> None:
    """`prompt: prompts/ask.jinja` was once a link to /dev/zero."""
    (tmp_path / "large").write_bytes(b"x" * 2049)
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "binary").write_bytes(b"ab\xff")
    said = {}
    for name in ("large", "endless", "binary", "missing", "."):
        with pytest.raises(DocumentError) as error:
            read_text(tmp_path / name, 2048)
        said[name] = str(error.value)
    assert said == {
        "large": "it is larger than 2 KB, the limit for such a file; make it smaller",
        "endless": "not a file",
        "binary": "it is not UTF-8 text (byte 2)",
        "missing": "no such file",
        ".": "not a file",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "expected a JSON object with keys, not a list"),
        ('"text"', "expected a JSON object with keys, not text"),
        ("null", "expected a JSON object with keys, not null"),
        ("{", "not valid JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[" * 100_000, "not valid JSON: nested more than 40 levels deep"),
        ('{"a": ' * 60 + "1" + "}" * 60, "not valid JSON: nested more than 40 levels deep"),
        ('{"a": ' + "9" * 10_000 + "}", "Exceeds the limit (4300 digits) for integer string conversion"),
    ],
)
def test_json_of_the_wrong_kind_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with quickly(), pytest.raises(DocumentError) as error:
        read_object(tmp_path / "config.json")
    assert str(error.value).startswith(said)


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_whatever_bytes_are_json_or_refused(data: bytes | str) -> None:
    try:
        value = parse_json(data)
    except DocumentError:
        return
    json.dumps(value)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda v: st.lists(v, max_size=3), max_leaves=8))
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


def test_what_yaml_means_is_unchanged() -> None:
    _, value = parse_yaml("a: 1\nb: [x, 2.5, yes, ~]\nc: {d: 2026-01-02, e: '5'}\n")
    assert str(value) == "{'a': 1, 'b': ['x', 2.5, True, None], 'c': {'d': datetime.date(2026, 1, 2), 'e': '5'}}"
