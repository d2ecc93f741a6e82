"""Names from data in what is shown: they start no command of a CI system and move no cursor."""

from __future__ import annotations

import json

import pytest

from sortase import cli, progress
from sortase.plain import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("::error file=a.py::hacked", "\\::error file=a.py::hacked", id="command of GitHub"),
        pytest.param("B cell\n  ::set-output name=a::b", "B cell\n  \\::set-output name=a::b", id="in a line below"),
        pytest.param("\u3000::warning::x", "\u3000\\::warning::x", id="behind a wide blank"),
        pytest.param("\x1b[31m::error::x", "\\::error::x", id="behind a colour"),
        pytest.param("B\r::error::x", "B\\u000d::error::x", id="behind a carriage return"),
        pytest.param("B\r\n::error::x", "B\n\\::error::x", id="of a line of Windows"),
        pytest.param("T ##[command]x", "T #\\#[command]x", id="older command, anywhere"),
        pytest.param("##vso[task.setvariable]x", "#\\#vso[task.setvariable]x", id="command of Azure"),
        pytest.param("##teamcity[buildStop]", "#\\#teamcity[buildStop]", id="command of TeamCity"),
        pytest.param("\x1b[2J\x1b[H", "\\u001b[2J\\u001b[H", id="clears the screen"),
        pytest.param("\x1b]0;title\x07", "\\u001b]0;title\\u0007", id="names the window"),
        pytest.param("a\x9b1A\x08\x7f", "a\\u009b1A\\u0008\\u007f", id="eight-bit controls"),
        pytest.param("\u202egnp.exe", "\\u202egnp.exe", id="turns the writing"),
        pytest.param("a\u2028b\U000e0041", "a\\u2028b\\U000e0041", id="line separator, tag"),
        pytest.param("\ud800", "\\ud800", id="half a character"),
        pytest.param("section_start:1:x\r\x1b[0K", "section_start:1:x\\u000d\\u001b[0K", id="section of GitLab"),
    ],
)
def test_what_steers_is_spelt(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["CD4+ αβ T (naïve): 3\n\tβ\xa0cell", "std::vector, a::b", "# 1 ## two", "細胞 👩‍🔬", "s3://b/x?y=::z", "C:\\a"],
)
def test_what_is_plain_stays(text: str) -> None:
    assert plain(text).replace("\\u200d", "\u200d") == text


def test_every_way_of_saying(capsys: pytest.CaptureFixture[str]) -> None:
    name = "B\n::error::hacked\x1b[2J"
    cli.log(f"prepare: class {name}")
    progress.announce(f"prepare: class {name}")
    cli.show(json.dumps({"class": name}, indent=2))
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "\x1b" not in text
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
    assert json.loads(said.out) == {"class": name}
