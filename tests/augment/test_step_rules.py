"""Steps of a recipe: what is refused, and that each draws for itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from augserver.augment.exact_math import exp, ln
from augserver.augment.step_declaration import Drawn, Fixed
from augserver.augment.step_rules import AppliedStep, draw_steps, keys_of, read_applied, read_steps
from augserver.augment.step_schema import schema
from augserver.augment.steps import STEPS
from augserver.errors import RecipeError
from augserver.kernel.programs import KERNEL_STEPS

REPOSITORY = Path(__file__).resolve().parents[2]

SAMPLE: dict[str, dict[str, Any]] = {
    "blur": {"sigma": [0.5, 1]},
    "contrast": {"factor": {"two_sided": [0.75, 1.25]}},
    "gamma": {"exponent": {"two_sided": [0.7, 1.5]}, "keep_statistics": True},
    "mirror": {},
    "multiply": {"factor": [0.9, 1.1]},
    "noise": {"std": [0, 0.1]},
    "rot90": {},
    "rotate": {"degrees": 30, "probability": 0.5},
    "scale": {"factor": [0.7, 1.4], "same_for_all_axes": True},
    "shift": {"offset": {"normal": [0, 0.5]}},
    "translate": {"mm": 5},
    "window": {"low": [-10, -5], "high": 20},
}
"""One use of each step that this file knows; a further step brings tests of its own."""


def draw(tables: list[tuple[str, dict[str, Any]]], place: int = 0, channels: int = 2) -> tuple[AppliedStep, ...]:
    return draw_steps(read_steps(tables), channels, seed=3, epoch=1, place=place).applied


@pytest.mark.parametrize("op", STEPS)
def test_all_that_is_derived_from_a_declaration_is_there(op: str) -> None:
    step = STEPS[op]
    assert step.op == op
    assert step.about.endswith(".")
    assert all(isinstance(key, (Drawn, Fixed)) and key.about for key in keys_of(step).values())
    assert json.loads(schema())[op]["augments"] == step.augments
    if step.group == "intensity":
        tests = [file.read_text() for file in (REPOSITORY / "tests" / "augment" / "steps").glob("test_*.py")]
        assert any(f'"op": "{op}"' in text for text in tests), "no test of what it does to a patch"
        assert (REPOSITORY / "cuda" / "steps" / f"{op}.h").is_file()
        assert KERNEL_STEPS[op]["kind"] in ("pointwise", "neighbourhood")
    else:
        assert step.matrix is not None or step.shift_mm is not None


def test_the_clients_list_of_steps_is_current() -> None:
    assert (REPOSITORY / "client" / "augclient" / "steps.json").read_text() == schema()


@pytest.mark.parametrize("op", SAMPLE)
def test_what_is_drawn_can_be_given_explicitly(op: str) -> None:
    (applied,) = draw([(op, {**SAMPLE[op], "probability": 1})])
    assert applied.fired
    if STEPS[op].group == "intensity":
        again = read_applied(op, applied.channels, json.loads(json.dumps(dict(applied.values))), 1, 2)
        assert again == applied
        numbers = STEPS[op].numbers
        assert numbers is not None
        assert list(numbers(applied.of_channel(0))) == KERNEL_STEPS[op]["values"]


@given(
    ops=st.lists(st.sampled_from(sorted(SAMPLE)), min_size=1, max_size=6, unique=True),
    more=st.lists(st.sampled_from(sorted(SAMPLE)), max_size=6),
    place=st.integers(0, 2**32 - 1),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_no_step_moves_anothers_draw(ops: list[str], more: list[str], place: int, random: Any) -> None:
    alone = {op: draw([(op, SAMPLE[op])], place)[0] for op in ops}
    mixed = ops + [op for op in more if op not in ops]
    random.shuffle(mixed)
    found = {step.op: step for step in draw([(op, SAMPLE[op]) for op in mixed], place)}
    assert {op: found[op] for op in ops} == alone


def test_draws_are_those_of_every_release() -> None:
    """The file is made by this test's own lines, once, and never changed."""
    found = {
        op: [[step.fired, step.channels, step.values] for place in range(3) for step in draw([(op, SAMPLE[op])], place)] for op in SAMPLE
    }
    assert json.loads(json.dumps(found)) == json.loads((Path(__file__).with_name("step_draws.json")).read_text())


def test_two_of_a_kind_draw_for_themselves() -> None:
    first, second = draw([("shift", {"offset": 1}), ("shift", {"offset": 1})])
    assert first.values != second.values
    assert draw([("shift", {"offset": 1}), ("noise", {"std": 1}), ("shift", {"offset": 1})])[2] == second


def test_a_key_that_changes_moves_no_other_key() -> None:
    (before,) = draw([("window", {"low": [-10, -5], "high": [10, 20]})])
    (after,) = draw([("window", {"low": {"normal": [-8, 0.1]}, "high": [10, 20], "per_channel": True})])
    assert after.values["high"][0] == before.values["high"]


@pytest.mark.parametrize(
    ("value", "cdf"),
    [
        ([0.7, 1.4], stats.uniform(0.7, 0.7).cdf),
        ({"normal": [1.0, 0.05]}, stats.norm(1.0, 0.05).cdf),
        ({"log_uniform": [0.5, 8]}, stats.loguniform(0.5, 8).cdf),
        ({"two_sided": [0.7, 1.5]}, lambda x: np.where(x < 1, 0.5 * (x - 0.7) / 0.3, 0.5 + 0.5 * (x - 1) / 0.5)),
    ],
)
def test_values_have_their_distribution(value: Any, cdf: Any) -> None:
    rules = read_steps([("multiply", {"factor": value, "per_channel": True})])
    drawn = [draw_steps(rules, 4, seed=0, epoch=0, place=k).applied[0].values["factor"] for k in range(5_000)]
    assert stats.kstest(np.array(drawn).ravel(), cdf).pvalue > 1e-3
    assert abs(np.corrcoef(np.array(drawn)[:, :2].T)[0, 1]) < 0.06  # channels draw apart


def test_gates_fire_as_often_as_they_should() -> None:
    rules = read_steps(
        [("mirror", {"axis_probability": [0.2, 0.5, 0.9], "probability": 0.3}), ("noise", {"std": 1, "channel_probability": 0.5})]
    )
    drawn = [draw_steps(rules, 3, seed=0, epoch=0, place=k).applied for k in range(20_000)]
    fired = [mirror.values["axes"] for mirror, _ in drawn if mirror.fired]
    assert abs(len(fired) / len(drawn) - 0.3) < 0.013
    np.testing.assert_allclose(np.mean(fired, axis=0), [0.2, 0.5, 0.9], atol=0.025)
    channels = [[c in noise.channels for c in range(3)] for _, noise in drawn]
    np.testing.assert_allclose(np.mean(channels, axis=0), 0.5, atol=0.014)
    assert abs(np.corrcoef(np.transpose(channels))[0, 1]) < 0.03


def test_spatial_steps_make_one_map_in_their_order() -> None:
    drawn = draw_steps(
        read_steps(
            [("rot90", {"turns": 1, "plane": "yx"}), ("scale", {"factor": [1, 2, 3]}), ("translate", {"mm": [[1, 1], [2, 2], [3, 3]]})]
        ),
        1,
        seed=0,
        epoch=0,
        place=0,
    )
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    found = np.array(drawn.matrix_mm)
    np.testing.assert_array_equal(np.abs(found), np.abs(turn) @ np.diag([1.0, 2.0, 3.0]))
    assert np.linalg.det(found) == pytest.approx(6.0)
    assert drawn.shift_mm == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([("gama", {})], r"steps\[1\].op: got 'gama'; did you mean 'gamma'\? allowed: blur, "),
        ([("mirror", {}), ("gamma", {"exponnt": 1})], r"steps\[2\] \(gamma\): unknown key 'exponnt'; did you mean 'exponent'\?"),
        ([("rotate", {"degrees": 3, "per_channel": True})], "unknown key 'per_channel'"),
        ([("gamma", {})], r"\(gamma\) needs exponent"),
        ([("gamma", {"exponent": [2, 1]})], "reversed"),
        ([("gamma", {"exponent": float("nan")})], "got nan; allowed: a number"),
        ([("gamma", {"exponent": True})], "got True; allowed: a number"),
        ([("gamma", {"exponent": -1})], "allowed: 0.001 to 1000"),
        ([("gamma", {"exponent": {"two_sided": [2, 3]}})], "from at most 1 to at least 1"),
        ([("gamma", {"exponent": {"triangular": [1, 2]}})], "a table with one of uniform"),
        ([("shift", {"offset": {"normal": [0, -1]}})], "standard deviation of -1"),
        ([("noise", {"std": {"normal": [0, 1]}})], "may be -8.6 to 8.6"),
        ([("blur", {"sigma": [1, 2, 3, 4]})], "a number, "),
        ([("noise", {"std": 1, "probability": 1.5})], "probability: got 1.5; allowed: a number from 0 to 1"),
        ([("multiply", {"factor": 1, "about": "men"})], "did you mean 'mean'"),
        ([("window", {"low": [0, 5], "high": [4, 9]})], "every low must be below every high"),
        ([("mirror", {"axis_probability": [1, 2]})], "or three for z, y, x"),
        ([("rot90", {"turns": [1, 3]})], "a whole number, or"),
        ([("rot90", {"turns": {"choice": [1, 0.5]}})], "a whole number, or"),
        ([("noise", {"std": 1})] * 65, "at most 64"),
    ],
)
def test_what_has_no_meaning_is_refused(tables: list[tuple[str, dict[str, Any]]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_steps(tables)


def test_logarithm_and_exponential_are_those_of_the_standard_library() -> None:
    values = np.geomspace(1e-300, 1e300, 4001)
    np.testing.assert_allclose([ln(value) for value in values], np.log(values), rtol=1e-14, atol=1e-15)
    exponents = np.linspace(-690, 690, 4001)
    np.testing.assert_allclose([exp(value) for value in exponents], np.exp(exponents), rtol=1e-13)
