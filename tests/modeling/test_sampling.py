"""Random choice of labels."""

from __future__ import annotations

import pytest
import torch

from lucidet.modeling.sampling import (
    keyed_step,
    random_priorities,
    subsample_labels,
    subsample_masks,
)


def by_mask(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
    """`subsample_masks`, its answer as indices."""
    positive, negative = subsample_masks(*args)  # type: ignore[arg-type]
    return positive.nonzero().squeeze(1), negative.nonzero().squeeze(1)


BOTH = pytest.mark.parametrize("sample", [subsample_labels, by_mask])


@BOTH
@pytest.mark.parametrize(
    ("labels", "num_samples", "fraction", "positives", "negatives"),
    [
        ([1] * 20 + [0] * 50 + [-1] * 30, 16, 0.5, 8, 8),
        ([1] * 3 + [0] * 50, 16, 0.5, 3, 13),  # negatives take the positives' places
        ([1] * 20 + [0] * 2, 16, 0.5, 8, 2),  # but not the other way round
        ([1, 0, 0], 16, 0.5, 1, 2),
        ([1, 1, 0, 0], 3, 0.25, 0, 2),  # int(0.75) positives
        ([-1, -1], 4, 0.5, 0, 0),
        ([], 4, 0.5, 0, 0),
        ([1, 0], 0, 0.5, 0, 0),
    ],
)
def test_counts(
    sample, labels: list, num_samples: int, fraction: float, positives: int, negatives: int
) -> None:
    tensor = torch.tensor(labels, dtype=torch.int8)
    pos, neg = sample(tensor, num_samples, fraction, 0)
    assert (len(pos), len(neg)) == (positives, min(negatives, num_samples - positives))
    assert (tensor[pos] == 1).all()
    assert (tensor[neg] == 0).all()
    assert len(pos.unique()) == len(pos)
    assert len(neg.unique()) == len(neg)


@BOTH
def test_background_may_be_the_last_class(sample) -> None:
    pos, neg = sample(torch.tensor([3, 0, -1, 2, 3]), 10, 0.5, 3)
    assert (pos.tolist(), neg.tolist()) == ([1, 3], [0, 4])


@BOTH
def test_taking_everything_is_not_random(sample) -> None:
    labels = torch.tensor([0, 1, -1, 1, 0, 0])
    for seed in range(3):
        torch.manual_seed(seed)
        pos, neg = sample(labels, 1000, 0.5, 0)
        assert (pos.tolist(), neg.tolist()) == ([1, 3], [0, 4, 5])


@BOTH
def test_everybody_has_a_chance(sample) -> None:
    labels = torch.tensor([1] * 4 + [0] * 4)
    seen_pos, seen_neg = set(), set()
    for _ in range(50):
        pos, neg = sample(labels, 2, 0.5, 0)
        seen_pos |= set(pos.tolist())
        seen_neg |= set(neg.tolist())
    assert (seen_pos, seen_neg) == ({0, 1, 2, 3}, {4, 5, 6, 7})


@BOTH
def test_labels_are_left_alone(sample) -> None:
    labels = torch.tensor([1, 0, -1])
    sample(labels, 1, 1.0, 0)
    assert labels.tolist() == [1, 0, -1]


# ------------------------------------------------------------------------------- keyed by the step

CPU = torch.device("cpu")


def on_ranks(
    monkeypatch: pytest.MonkeyPatch, world: int, images: int, candidates: int = 6
) -> torch.Tensor:
    """Return the rows that `world` processes draw at one step, in the order of the images."""
    shares = []
    for rank in range(world):
        monkeypatch.setattr("lucidet.utils.comm.get_world_size", lambda: world)
        monkeypatch.setattr("lucidet.utils.comm.get_rank", lambda rank=rank: rank)
        with keyed_step(seed=5, step=11):
            shares.append(random_priorities(images // world, candidates, CPU))
    return torch.stack(shares, dim=1).reshape(images, candidates)


@pytest.mark.parametrize("world", [2, 4])
def test_images_draw_the_same_whatever_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    one = on_ranks(monkeypatch, 1, 4)
    assert torch.equal(on_ranks(monkeypatch, world, 4), one)
    wider = on_ranks(monkeypatch, world, 4, candidates=9)  # another image had more candidates
    assert torch.equal(wider[:, :6], one)
    assert len(one.unique()) == one.numel()


def test_a_step_is_keyed_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    drawn = {}
    for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0)):
        with keyed_step(seed, step):
            drawn.setdefault((seed, step), []).append(random_priorities(1, 50, CPU))
            drawn[seed, step].append(random_priorities(1, 50, CPU))  # the next of this step
    first, second, again, _ = drawn[0, 0]
    assert torch.equal(first, again)
    others = [second, *drawn[0, 1], *drawn[1, 0]]
    assert not any(torch.equal(first, other) for other in others)
    assert torch.equal(torch.get_rng_state(), before)
    random_priorities(1, 1, CPU)  # outside of a step torch's own state is used
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("images", "candidates"), [(0, 4), (3, 0), (0, 0)])
def test_nothing_to_draw(images: int, candidates: int) -> None:
    with keyed_step(0, 0):
        assert random_priorities(images, candidates, CPU).shape == (images, candidates)


def test_a_batch_is_sampled_row_by_row() -> None:
    labels = torch.tensor([[1] * 6 + [0] * 6, [1] + [0] * 4 + [-1] * 7, [-1] * 12])
    pos, neg = subsample_masks(labels, 4, 0.5, 0)
    assert pos.sum(1).tolist() == [2, 1, 0]
    assert neg.sum(1).tolist() == [2, 3, 0]
    assert (labels[pos] == 1).all()
    assert (labels[neg] == 0).all()
    empty = subsample_masks(labels[:0], 4, 0.5, 0)
    assert [mask.shape for mask in empty] == [(0, 12)] * 2
