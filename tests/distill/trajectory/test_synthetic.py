import torch

from ltdd_ray.config import StartEpochs
from ltdd_ray.distill.trajectory.matching import Match
from ltdd_ray.distill.trajectory.schedule import draw_segment, last_start_epoch, share
from ltdd_ray.distill.trajectory.synthetic import (
    Gradients,
    SyntheticSet,
    choose_initial,
    describe_initial,
    initial_images,
    initial_labels,
)
from ltdd_ray.nn.augment import Augmentation

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2])


def predictions(right: list[list[int]]) -> torch.Tensor:
    """(E, N, C) logits; expert e predicts image n correctly where right[e][n]; the winning logit is 1 + e."""
    logits = torch.zeros(len(right), len(LABELS), 3)
    for e, row in enumerate(right):
        for n, hit in enumerate(row):
            logits[e, n, int(LABELS[n]) if hit else (int(LABELS[n]) + 1) % 3] = 1 + e
    return logits


def test_initial_images_are_correctly_predicted_ones_first() -> None:
    logits = predictions([[1, 0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0]])
    right = logits.argmax(-1) == LABELS
    index, repeat = choose_initial(right, LABELS, [2] * 3, seed=0)
    labels = initial_labels(logits[:, index], right[:, index])
    assert set(index[:2].tolist()) == {0, 2}
    assert index[2:].tolist() == [5, 4, 6, 6]
    assert repeat.tolist() == [False] * 5 + [True]
    by_image = dict(zip(index.tolist(), labels.tolist()))
    assert by_image[0] == [1.5, 0, 0]  # both experts are right: their mean
    assert by_image[2] == [1, 0, 0]  # only the first one is
    assert by_image[4] == [0, 0, 1.5]  # none is: the mean of all


def test_the_choice_is_a_function_of_the_seed() -> None:
    right = torch.ones(1, 7, dtype=torch.bool)
    draws = [choose_initial(right, LABELS, [2] * 3, seed)[0].tolist() for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len({tuple(d) for d in draws}) > 1


def test_what_had_to_be_filled_is_said_class_by_class() -> None:
    said = describe_initial(
        torch.tensor([[1, 1, 0, 0, 0, 1, 1]]).bool(), LABELS, [2] * 3, ["cat", "dog", "owl"]
    )
    assert said == [
        "class dog: 1 of 2 initial images are predicted correctly; filled by 1 other images",
        "class owl: 1 of 2 initial images are predicted correctly; filled by 0 other images and 1 augmented repeats",
    ]


def test_many_classes_do_not_fill_the_screen() -> None:
    labels = torch.arange(50)
    said = describe_initial(
        torch.zeros(1, 50, dtype=torch.bool), labels, [1] * 50, [str(k) for k in range(50)]
    )
    assert len(said) == 21 and said[-1] == "and 30 classes more that had to be filled"


def test_repeats_are_augmented() -> None:
    images = torch.rand(7, 1, 8, 8)
    index, repeat = torch.tensor([6, 6, 6]), torch.tensor([False, True, True])
    made = initial_images(images, index, repeat, Augmentation("color"), seed=0)
    assert torch.equal(made[0], images[6])
    assert not torch.equal(made[1], made[0]) and not torch.equal(made[2], made[1])


def test_backward_through_the_set_leaves_the_gradients_given() -> None:
    synthetic = SyntheticSet(torch.rand(2, 1, 4, 4), torch.rand(2, 3), torch.tensor([0, 1]), 0.5)
    match = Match(
        torch.tensor(1.0), torch.rand(2, 1, 4, 4), torch.rand(2, 3), torch.tensor(3.0), {}
    )
    gradients = Gradients.zeros(synthetic)
    gradients.add(match, 2.0, synthetic.syn_lr)
    synthetic(gradients).backward()
    torch.testing.assert_close(synthetic.images.grad, 2 * match.images_grad)
    torch.testing.assert_close(synthetic.labels.grad, 2 * match.labels_grad)
    torch.testing.assert_close(synthetic.log_lr.grad, torch.tensor(2 * 0.5 * 3.0))


def test_the_rate_stays_positive_under_any_step() -> None:
    synthetic = SyntheticSet(torch.rand(1, 1, 4, 4), torch.rand(1, 3), torch.tensor([0]), 0.01)
    synthetic.log_lr.grad = torch.tensor(50.0)
    torch.optim.SGD([synthetic.log_lr], 1.0).step()
    assert 0 < float(synthetic.syn_lr) < 0.01


def test_start_epochs_grow_linearly_and_stay_inside() -> None:
    epochs = StartEpochs(min=2, initial_max=4, max=10, growth=30)
    assert [last_start_epoch(epochs, update) for update in (0, 5, 15, 30, 99)] == [4, 5, 7, 10, 10]
    assert last_start_epoch(StartEpochs(max=6), 0) == 6
    starts = {
        draw_segment(epochs, 3, 0, "representation", 0, segment).start_epoch
        for segment in range(60)
    }
    assert starts == {2, 3, 4}


def test_segments_are_drawn_from_their_index_alone() -> None:
    draws = [
        draw_segment(StartEpochs(max=5), 9, 1, phase, u, s)
        for phase in ("a", "b")
        for u in range(5)
        for s in range(5)
    ]
    again = [
        draw_segment(StartEpochs(max=5), 9, 1, phase, u, s)
        for phase in ("a", "b")
        for u in range(5)
        for s in range(5)
    ]
    assert draws == again
    assert len({draw.seed for draw in draws}) == 50
    assert {draw.expert for draw in draws} == set(range(9))


def test_shares_cover_every_segment_once() -> None:
    for segments in range(1, 8):
        for world_size in range(1, 5):
            shares = [list(share(segments, rank, world_size)) for rank in range(world_size)]
            assert sorted(segment for one in shares for segment in one) == list(range(segments))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_every_class_gets_its_own_number_of_initial_images() -> None:
    index, repeat = choose_initial(torch.ones(1, 7, dtype=torch.bool), LABELS, [3, 1, 2], seed=0)
    assert LABELS[index].tolist() == [0, 0, 0, 1, 2, 2]
    assert repeat.tolist() == [False] * 5 + [True]
