"""Search spaces: what plain data means, and what is refused."""

from random import Random
from typing import Any

import pytest

from sortase.config.check import validate
from sortase.config.tune import TuneSpec
from sortase.config.tune_space import Choices, Range, check_names, parse_space
from sortase.errors import ConfigError


def only(value: Any, name: str = "anything") -> Any:
    """What is made of it, whatever the hyperparameter takes."""
    return parse_space({name: value})[name]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        pytest.param([1e-5, 1e-3], Range(1e-5, 1e-3, log=True), id="range over decades"),
        pytest.param((1e-5, 1e-4), Range(1e-5, 1e-4, log=True), id="tuple, exactly a factor of ten"),
        pytest.param([1e-5, 9e-5], Range(1e-5, 9e-5, log=False), id="less than a factor of ten"),
        pytest.param([0.0, 0.3], Range(0.0, 0.3, log=False), id="from zero"),
        pytest.param([-1.0, 100.0], Range(-1.0, 100.0, log=False), id="from below zero"),
        pytest.param([2, 6], Range(2, 6, log=False), id="integers"),
        pytest.param([1, 64], Range(1, 64, log=True), id="integers over decades"),
        pytest.param([1, 2.5], Range(1.0, 2.5, log=False), id="an integer and a float"),
        pytest.param([8, 16, 32], Choices((8, 16, 32)), id="three numbers"),
        pytest.param([5], Choices((5,)), id="one number"),
        pytest.param([True, False], Choices((True, False)), id="truths are no numbers"),
        pytest.param(["linear", "cosine"], Choices(("linear", "cosine")), id="two names"),
        pytest.param([None, 3], Choices((None, 3)), id="nothing or a number"),
        pytest.param({"low": 0, "high": 1}, Range(0, 1, log=False), id="explicit"),
        pytest.param({"low": 1e-5, "high": 1e-3}, Range(1e-5, 1e-3, log=True), id="explicit, log left out"),
        pytest.param({"low": 1e-5, "high": 1e-3, "log": False}, Range(1e-5, 1e-3, log=False), id="explicitly even"),
        pytest.param({"low": 1, "high": 3, "log": True}, Range(1, 3, log=True), id="explicitly logarithmic"),
        pytest.param({"low": 8, "high": 128, "step": 8}, Range(8, 128, log=False, step=8), id="step"),
        pytest.param({"choices": [1, 2]}, Choices((1, 2)), id="explicit choices of two numbers"),
        pytest.param({"grid_search": [1, 2]}, Choices((1, 2), in_turn=True), id="grid"),
    ],
)
def test_plain_data_means(value: Any, meant: Any) -> None:
    found = only(value)
    assert found == meant
    if isinstance(meant, Range):
        assert (type(found.low), type(found.high)) == (type(meant.low), type(meant.high))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(5e-5, "is one value", id="a value"),
        pytest.param("cosine", "is one value", id="a name"),
        pytest.param([], "nothing to choose from", id="empty list"),
        pytest.param({"choices": []}, "nothing to choose from", id="no choices"),
        pytest.param({"choices": 3}, "choices must be a list, got 3", id="choices that are no list"),
        pytest.param([1e-3, 1e-5], "must go up, 0.001 is not below 1e-05", id="downwards"),
        pytest.param([3, 3], "must go up", id="equal ends"),
        pytest.param([1.0, float("inf")], "has no end", id="infinite"),
        pytest.param({"low": 0, "high": 1, "log": True}, "must begin above 0, got 0", id="logarithm of zero"),
        pytest.param({"low": 0, "high": 1, "step": 2}, "step must be above 0 and fit", id="step too wide"),
        pytest.param({"low": 0, "high": 1, "step": 0}, "step must be above 0", id="step of zero"),
        pytest.param({"low": 0, "high": "1"}, "high must be a number, got '1'", id="text for a number"),
        pytest.param({"low": 0, "high": 1, "log": "yes"}, "log must be true or false", id="text for a truth"),
        pytest.param({"low": 0, "hihg": 1}, "unknown key 'hihg'.*did you mean 'high'", id="misspelt key"),
        pytest.param({"low": 0}, "must hold low and high, or choices", id="half a range"),
        pytest.param({"choices": [1], "low": 0}, "unknown key 'choices'", id="both"),
    ],
)
def test_other_data_are_refused(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"anything: .*{words}"):
        only(value)


def test_values_that_our_settings_do_not_take_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"class_weights.*'ballanced'"):
        only(["balanced", "ballanced"], "class_weights")
    with pytest.raises(ConfigError, match=r"freeze_layers.*-1"):
        only([-1, 2], "freeze_layers")


def test_names() -> None:
    check_names(["learning_rate", "weight_decay", "freeze_layers", "class_weights", "global_batch_size", "seed"])
    with pytest.raises(ConfigError, match=r"'learning_rte' is not a hyperparameter.*did you mean learning_rate"):
        check_names(["learning_rte"])
    with pytest.raises(ConfigError, match="metric cannot be searched"):
        check_names(["metric"])


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        pytest.param([2, 6], set(range(2, 7)), id="integers"),
        pytest.param([1, 12], set(range(1, 13)), id="integers over decades"),
        pytest.param({"low": 4, "high": 15, "step": 4}, {4, 8, 12}, id="integer steps"),
        pytest.param({"low": 0.0, "high": 0.3, "step": 0.1}, {0.0, 0.1, 0.2, 0.3}, id="float steps"),
        pytest.param({"low": 1, "high": 16, "log": True, "step": 5}, {1, 6, 11, 16}, id="logarithmic steps"),
        pytest.param(["a", "b", None], {"a", "b", None}, id="choices"),
    ],
)
def test_everything_allowed_is_drawn_and_nothing_else(value: Any, allowed: set[Any]) -> None:
    found, random = only(value), Random(1)
    drawn = [found.draw(random) for _ in range(600)]
    assert {round(item, 9) if isinstance(item, float) else item for item in drawn} == allowed
    assert {type(item) for item in drawn} == {type(item) for item in allowed}


def test_a_logarithmic_range_is_even_over_decades() -> None:
    found, random = only([1e-6, 1e-2]), Random(1)
    drawn = [found.draw(random) for _ in range(2000)]
    assert min(drawn) >= 1e-6
    assert max(drawn) <= 1e-2
    assert 0.45 < sum(value < 1e-4 for value in drawn) / len(drawn) < 0.55


def test_settings_of_a_sweep() -> None:
    spec = TuneSpec(trials=4, space={"learning_rate": [1e-5, 1e-3]})
    assert spec.compared_by("macro_f1") == ("macro_f1", "max")
    assert spec.compared_by("loss") == ("loss", "min")
    assert spec.model_copy(update={"metric": "ece"}).compared_by("loss") == ("ece", "min")
    assert spec.model_copy(update={"mode": "min"}).compared_by("mcc") == ("mcc", "min")
    assert TuneSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"trials": 0}, "'trials'.*greater than or equal to 1", id="no trials"),
        pytest.param({"space": {}}, "the search space is empty", id="no space"),
        pytest.param({"space": {"learning_rate": 3}}, "learning_rate: 3 is one value", id="bad space"),
        pytest.param({"trails": 3}, "unknown key 'trails'; did you mean 'trials'", id="misspelt"),
        pytest.param({"metric": "f1"}, "'metric'", id="unknown metric"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(TuneSpec, {"trials": 2, "space": {"learning_rate": [1e-5, 1e-3]}, **settings}, "tune")
