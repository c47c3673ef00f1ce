"""docs/profiles.md says what the tables of the code say."""

import re
from enum import StrEnum
from math import inf

import pytest
from docs.support import ROOT
from profiles.test_piping import MORE, SCENES_THAT_DIFFER, More

from beam.policy import Policy
from beam.profiles import KNOBS, PROFILES
from beam.web.own import OWN
from beam.web.words import WORDS

PAGE = (ROOT / "docs" / "profiles.md").read_text()
FLAT = " ".join(PAGE.split())


def shown(value: object) -> str:
    """A value as the page writes it."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    if isinstance(value, StrEnum):
        return f"`{value.value}`"
    return "`forever`" if value == inf else f"`{value}`"


def test_the_table_of_knobs_is_that_of_the_code() -> None:
    """Each knob with its default, and the profiles that have another value."""
    rows = [[cell.strip() for cell in line.split(" | ")] for line in PAGE.partition("## Knobs")[2].splitlines()]
    found = [[cell.strip("| ") for cell in row[:3]] for row in rows if row[0].startswith("| `")]
    default = Policy()
    expected = [
        [
            f"`{name}`",
            shown(getattr(default, knob.name)),
            ", ".join(
                f"{profile}: {shown(getattr(each.policy, knob.name))}"
                for profile, each in PROFILES.items()
                if getattr(each.policy, knob.name) != getattr(default, knob.name)
            ),
        ]
        for name, knob in KNOBS.items()
    ]
    assert found == expected


@pytest.mark.parametrize("reason", sorted({each.reason for each in SCENES_THAT_DIFFER.values()}))
def test_each_difference_to_the_piping_server_is_on_the_page(reason: str) -> None:
    """With its reason, in the words of the test."""
    for part in re.sub(r" \(RFC [^)]*\)", "", reason).split("; "):
        assert part in FLAT


@pytest.mark.parametrize("more", MORE, ids=lambda each: str(each.name))
def test_each_header_that_piping_has_besides_is_on_the_page(more: More) -> None:
    """With its reason."""
    assert f"`{more.name}" in FLAT.lower()
    assert more.reason in FLAT


@pytest.mark.parametrize("profile", PROFILES)
def test_the_texts_of_a_profile_are_on_the_page(profile: str) -> None:
    """Those that take no values; the knobs name the tables that there are."""
    policy = PROFILES[profile].policy
    assert policy.words in WORDS
    assert policy.pages in OWN
    if policy.words != "piping":
        for word in WORDS[policy.words].errors.values():
            assert "{" in word.text or f"`{word.text}`" in FLAT
