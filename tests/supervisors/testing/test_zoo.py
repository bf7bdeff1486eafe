"""Every broken animal is found and shrunk; its healthy twin passes the same search."""

from __future__ import annotations

import pytest

from supervisors.testing import replay
from tests.supervisors.testing.zoo import ANIMALS, Animal

each_animal = pytest.mark.parametrize("animal", ANIMALS, ids=lambda each: each.name)


@each_animal
def test_what_is_broken_is_found_and_shrunk(animal: Animal) -> None:
    found = animal.hunt()
    assert found is not None
    assert len(found.plan) <= 3
    with pytest.raises(type(found.error)):
        replay(
            animal.scenario(healthy=False),
            found.plan,
            schedule=found.schedule,
            max_steps=2000,
        )


@each_animal
def test_what_is_healthy_passes(animal: Animal) -> None:
    assert animal.hunt(healthy=True) is None
