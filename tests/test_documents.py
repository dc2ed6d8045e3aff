"""README, its translation and CONTRIBUTING: how long they are, their links, and that both READMEs agree."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = {"README.md": 150, "README.ja.md": 150, "CONTRIBUTING.md": 120, ".github/SECURITY.md": 60}
LINK = re.compile(r"!?\[[^]]*\]\(([^)]+)\)")


def text_of(name):
    return (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("name", LINES)
def test_a_document_is_short(name):
    assert len(text_of(name).splitlines()) <= LINES[name]


@pytest.mark.parametrize("name", [*LINES, "CHANGELOG.md"])
def test_links_lead_to_files(name):
    links = [link for link in LINK.findall(text_of(name)) if not link.startswith("https://")]
    missing = [link for link in links if not (ROOT / name).parent.joinpath(link.partition("#")[0]).exists()]
    assert missing == []


def test_the_translation_has_the_same_links_commands_and_sections():
    both = [text_of(name) for name in ("README.md", "README.ja.md")]
    links = [sorted(set(LINK.findall(text)) - {"README.md", "README.ja.md"}) for text in both]
    plain = [re.sub("```.*?```", "", text, flags=re.DOTALL) for text in both]
    commands = [re.findall(r"^    \S.*", text, re.M) for text in plain]
    sections = [len(re.findall("^## ", text, re.M)) for text in both]
    numbers = [sorted(re.findall(r"\d+\.\d+", re.sub(r"\(.*?\)", "", text))) for text in both]
    assert links[0] == links[1]
    assert commands[0] == commands[1]
    assert len(commands[0]) == 2
    assert sections[0] == sections[1]
    assert numbers[0] == numbers[1]
