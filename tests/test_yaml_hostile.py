"""YAML made to fill the memory: refused while it is still small."""

from __future__ import annotations

import tracemalloc

import pytest

from sortase.config.load import settings_of
from sortase.errors import ConfigError

LAYERS = 40


def layers(first: str, line: str) -> str:
    """Each layer holds the one before twice."""
    return "\n".join([first, *(line.format(name=f"a{i}", before=f"a{i - 1}") for i in range(1, LAYERS))])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(layers("a0: &a0 [x, y]", "{name}: &{name} [*{before}, *{before}]"), "aliases", id="lists"),
        pytest.param(
            layers("a0: &a0 {x: y}", "{name}: &{name} {{l: *{before}, r: *{before}}}"), "aliases", id="sections"
        ),
        pytest.param(layers("a0: &a0 {x: y}", "{name}: &{name} {{<<: [*{before}, *{before}]}}"), "merges", id="merges"),
        pytest.param("a: &a [*a]", "aliases", id="a list in itself"),
        pytest.param("a: &a " + "x" * 5000 + "\nb: [" + "*a, " * 5000 + "]", "aliases", id="a long text"),
        pytest.param("a: " + "[" * 1200, "without end|not valid YAML", id="lists in lists"),
    ],
)
def test_what_stands_for_far_more_is_refused(text: str, words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=f"run.yaml.*({words})|{words}.*run.yaml"):
            settings_of(text)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_aliases_as_people_write_them_are_read() -> None:
    text = "common: &common {seed: 1}\nrun: {<<: *common, name: x}\nlist: &l [a, b]\nagain: *l"
    assert settings_of(text)["run"] == {"seed": 1, "name": "x"}
