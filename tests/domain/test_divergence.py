"""Divergence: told soon, and never of a training that is only noisy."""

import math
import random

import pytest

from llmops_assets.domain.divergence import Divergence


def told_at(losses: list[float]) -> tuple[int, str] | None:
    """The step, from 1 on, at which a training with these losses is said to diverge, and why."""
    divergence = Divergence(max(20, len(losses)))
    told = ((step, divergence.read(loss)) for step, loss in enumerate(losses, start=1))
    return next(((step, why) for step, why in told if why), None)


def test_the_losses_of_a_learning_rate_that_is_fifty_times_too_high() -> None:
    """The demo's: it trained on for 102 s."""
    found = told_at([4.2, 4.0, 3.9, 3.7, 15.0, 27.0, 61.0, 64.0, 70.0, 66.0, 71.0, 80.0])
    assert found == (10, "the loss is 66, and its median over 5 steps 64; the best was 4")


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_told_at_once(loss: float) -> None:
    assert told_at([4.0, loss]) == (2, "the loss is not a finite number")
    assert told_at([4.0] * 5 + [loss]) == (6, "the loss is not a finite number, its best was 4")


@pytest.mark.parametrize(("steps", "noise"), [(20, 0.35), (60, 0.35), (300, 0.5), (2000, 0.5)])
def test_a_noisy_training_is_not_ended(steps: int, noise: float) -> None:
    """Batches of one row vary by a third; two damaged batches have ten times the loss. Half of the trainings do not
    learn, so that nothing but noise moves their loss. Of 200, none is ended."""
    rng = random.Random(7)
    for number in range(200):
        level, learns = rng.uniform(0.5, 4.0), number % 2
        losses = [level * (1 + 2 * learns / (1 + step)) * rng.lognormvariate(0, noise) for step in range(steps)]
        losses[steps // 2 : steps // 2 + 2] = [level * 12, level * 9]
        assert told_at(losses) is None, losses


def test_a_memorized_data_set_may_jump() -> None:
    assert told_at([0.001] * 50 + [1.9] * 50) is None
