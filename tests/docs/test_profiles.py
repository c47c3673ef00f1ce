"""docs/profiles.md says what the tables of the code say."""

import re
from enum import StrEnum
from math import inf

import pytest
from docs.support import ROOT
from profiles.scenes import SCENES
from profiles.test_piping import MORE, SCENES_THAT_DIFFER, More

from beam.flags import FLAGS
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


def test_as_many_exchanges_are_played_as_the_page_says() -> None:
    """The number is that of the scenes."""
    assert f"{len(SCENES)} exchanges" in FLAT


@pytest.mark.parametrize("profile", [name for name, each in PROFILES.items() if each.variables])
def test_the_variables_of_a_profile_are_on_the_page(profile: str) -> None:
    """The first column of its table has each bare name that it reads."""
    found = {name for cell in originals(profile) for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert found == PROFILES[profile].variables


def test_the_flags_that_are_the_same_are_flags() -> None:
    """What the table says of file-pipe's flags holds."""
    known = {f"--{flag.name}" for flag in FLAGS} | {f"-{flag.short}" for flag in FLAGS if flag.short}
    named = {name for cell in originals("drop") for name in re.findall(r"`(--?[A-Za-z-]+)", cell)}
    assert named - known == {"-s"}, "the page says that it is left out"


def originals(profile: str) -> list[str]:
    """The first cells of the table that says how to switch over from the original."""
    section = PAGE.partition(f"\n## {profile}\n")[2].partition("\n## ")[0]
    return [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_texts_of_a_profile_are_on_the_page(profile: str) -> None:
    """Those that take no values; the knobs name the tables that there are."""
    policy = PROFILES[profile].policy
    assert policy.words in WORDS
    assert policy.pages in OWN
    if policy.words != "piping":
        for word in WORDS[policy.words].errors.values():
            assert "{" in word.text or f"`{word.text}`" in FLAT
