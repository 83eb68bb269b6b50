"""A regular expression of a project takes time linear in the text, and means what it means in Python."""

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmops_assets.domain.patterns import PatternError, compiled, occurs, translated


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){20}$", "([a-z]+)*[0-9]", r"(\w+\s?)*!$"])
def test_a_pattern_that_would_run_for_minutes_answers_at_once(pattern: str) -> None:
    """A smoke test's regular expression ran over 45 s on one answer, and blocked the rollout."""
    began = time.process_time()
    assert not occurs(pattern, "a" * 5_000 + "?")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "pattern",
    ["(", "[", "a**", "*", r"\1", r"(a)\1", "(?=a)", "(?!sorry)", "(?<=a)b", "((a{500}){500}){500}",
     "x" * 3000, r"\ud800", "(?P<n>a)(?P=n)", "\ud800", "a++", "(?>a)b", "(?x)a b", "(?m:a)b$", "[+--]", r"\b{start}",
     "(?a)a", "(" * 1900],
)  # fmt: skip
def test_what_is_not_supported_is_one_clear_error(pattern: str) -> None:
    with pytest.raises(PatternError) as error:
        compiled(pattern)
    assert re.match("(not )?a regular expression", str(error.value)) and len(str(error.value)) < 600
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        (r"\w{2,}", ["héé", "日本語", "ab"], ["?", "a b"]),
        (r"^\W+$", ["?!", "¿"], ["é", "a"]),
        (r"[\w-]+@", ["é-ü@"], ["@"]),
        (r"\d", ["٣", "3"], ["x"]),
        (r"^\S$", ["x", "é"], [" ", "\u00a0", "\u2003"]),
        (r"[\s]", ["\u00a0", "\t", "\x0b"], ["x"]),
        ("yes$", ["yes", "yes\n", "no\nyes"], ["yes\nno", "yes\n\n"]),
        ("(?m)^yes$", ["no\nyes\nno"], ["yes!"]),
        (r"yes\Z", ["yes"], ["yes\n"]),
        ("^a{,2}$", ["", "aa"], ["aaa", "a{,2}"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[^]a]", ["b"], ["]a"]),
        ("[[a]", ["[", "a"], ["b"]),
        ("[$]", ["$"], ["x\n"]),
        (r"\$", ["$"], ["x\n"]),
        (r"\[\w\]", ["[é]"], ["é"]),
        ("(?i)STRASSE|straße", ["Straße", "strasse"], ["x"]),
        ("(?s)a.b", ["a\nb"], ["ab"]),
        ("[[:alpha:]]", [":]", "a]"], ["b"]),
        (r"\bété\b", ["un été.", "été"], ["étés", "l'hiver"]),
        (r"\bja\b", ["ja!", "ja"], ["jaé", "éja", "ja3"]),
        (r"\Bé", ["cafés"], ["é"]),
        (r"^[^\W\d]+$", ["é"], ["é3", "-"]),
        (r"[\W]", ["¿", "é!"], ["é"]),
        (r"[\D]", ["x"], ["٣"]),
        (r"\<b\>", ["<b>"], ["b"]),
        ("[&&a]", ["&", "a"], ["b"]),
        ("[a~~b]", ["~", "b"], ["-"]),
        (r"[+\--]", ["-", "+"], ["a"]),
        (r"[\b]", ["\x08"], ["b", "\\"]),
        ("a{1000}", ["a" * 1000], ["a" * 999]),
    ],
)
def test_a_pattern_means_what_it_means_in_python(pattern: str, found: list[str], not_found: list[str]) -> None:
    for text in [*found, *not_found]:
        assert occurs(pattern, text) == (re.search(pattern, text) is not None) == (text in found), (
            text,
            translated(pattern),
        )


def test_an_answer_that_ends_in_half_of_a_character_is_searched_too() -> None:
    assert occurs("ok", "ok \ud83d")


@settings(max_examples=300, deadline=None)
@given(st.text(r"ab\wdsBWZ[]^$(){},?*+|é.-1&<:im", max_size=12), st.text("abé \n$[]{},1&<-", max_size=8))
@example("[?]{,}", "")
@example("a{,1b", "a{,1b")
@example(r"\b|1", "é")
@example("(?:a|b)$", "a\n")
def test_any_pattern_is_refused_or_finds_what_python_finds(pattern: str, text: str) -> None:
    try:
        found = occurs(pattern, text)
    except PatternError:
        return
    if not text and r"\B" in pattern:
        return  # Python 3.14 has changed it
    assert found == (re.search(pattern, text) is not None)
