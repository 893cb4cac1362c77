from pathlib import Path

import pytest

from agents.client.policy import Policy, PolicyUnreadable, read_policy, refusal_of
from tests.unit.client.builders import TRAINING, a_ref, to_train


def test_without_a_policy_everything_is_accepted() -> None:
    assert refusal_of(to_train(), read_policy(None)) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'refuse = ["{TRAINING}"]', "refuses this training"),
        ("accept = []", "accepts only"),
        (f'accept = ["{TRAINING}"]', None),
        ("max_model_mb = 0.0001", "at most 0.0001 MB"),
        ("max_model_mb = 1", None),
    ],
)
def test_a_policy_refuses_with_a_reason(tmp_path: Path, text: str, reason: str | None) -> None:
    (tmp_path / "policy.toml").write_text(text)
    refusal = refusal_of(to_train(model=a_ref()), read_policy(tmp_path / "policy.toml"))
    assert refusal is None if reason is None else refusal is not None and reason in refusal


@pytest.mark.parametrize("text", ["refuse = [", 'refuse = ["all"]', "max_model = 3", None])
def test_a_policy_that_cannot_be_read_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PolicyUnreadable, match=r"policy\.toml"):
        read_policy(tmp_path / "policy.toml")


def test_the_default_policy_names_nothing() -> None:
    assert Policy() == Policy(accept=None, refuse=frozenset(), max_model_mb=None)
