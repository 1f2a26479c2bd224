"""Which real images a set starts from, and their labels."""

import torch

from ltdd_ray.distill.initial import choose_initial, describe_initial, expert_labels, take_images
from ltdd_ray.nn.augment import Augmentation

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2])


def predictions(right: list[list[int]]) -> torch.Tensor:
    """(E, N, C) logits: expert e is right about n where right[e][n]; its top logit is 1 + e."""
    logits = torch.zeros(len(right), len(LABELS), 3)
    for e, row in enumerate(right):
        for n, hit in enumerate(row):
            logits[e, n, int(LABELS[n]) if hit else (int(LABELS[n]) + 1) % 3] = 1 + e
    return logits


def test_initial_images_are_correctly_predicted_ones_first() -> None:
    logits = predictions([[1, 0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 0]])
    right = logits.argmax(-1) == LABELS
    index, repeat = choose_initial(right, LABELS, [2] * 3, seed=0)
    labels = expert_labels(logits[:, index], right[:, index])
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


def test_each_class_short_of_correct_images_gets_a_sentence() -> None:
    sentences = describe_initial(
        torch.tensor([[1, 1, 0, 0, 0, 1, 1]]).bool(), LABELS, [2] * 3, ["cat", "dog", "owl"]
    )
    assert sentences == [
        "class dog: the experts predict only 1 of 2 initial images correctly; the rest are 1 other "
        "images",
        "class owl: the experts predict only 1 of 2 initial images correctly; the rest are 0 other "
        "images and 1 augmented repeats",
    ]


def test_at_most_twenty_classes_are_named() -> None:
    labels = torch.arange(50)
    sentences = describe_initial(
        torch.zeros(1, 50, dtype=torch.bool), labels, [1] * 50, [str(k) for k in range(50)]
    )
    assert len(sentences) == 21 and sentences[-1] == "and 30 more classes with too few such images"


def test_repeats_are_augmented() -> None:
    images = torch.rand(7, 1, 8, 8)
    index, repeat = torch.tensor([6, 6, 6]), torch.tensor([False, True, True])
    made = take_images(images, index, repeat, Augmentation("color"), seed=0)
    assert torch.equal(made[0], images[6])
    assert not torch.equal(made[1], made[0]) and not torch.equal(made[2], made[1])


def test_every_class_gets_its_own_number_of_initial_images() -> None:
    index, repeat = choose_initial(torch.ones(1, 7, dtype=torch.bool), LABELS, [3, 1, 2], seed=0)
    assert LABELS[index].tolist() == [0, 0, 0, 1, 2, 2]
    assert repeat.tolist() == [False] * 5 + [True]


def test_a_class_short_of_correct_images_can_repeat_them() -> None:
    """As published: class 1 has one correct image of two, class 2 none of one."""
    right = torch.tensor([[1, 1, 0, 0, 0, 1, 0]]).bool()
    index, repeat = choose_initial(right, LABELS, [2] * 3, seed=0, fill="repeats")
    assert set(index[:2].tolist()) == {0, 1}
    assert index[2:].tolist() == [5, 5, 6, 6]
    assert repeat.tolist() == [False, False, False, True, False, True]
    sentences = describe_initial(right, LABELS, [2] * 3, ["cat", "dog", "owl"], "repeats")
    assert sentences[0] == (
        "class dog: expert 0 predicts only 1 of 2 initial images correctly; the rest are 1 "
        "augmented repeats"
    )
    assert "others" not in sentences[0] and "1 other images" in sentences[1]


def test_labels_are_those_of_the_experts_that_the_rule_names() -> None:
    logits = torch.tensor([[[1.0, 0.0]], [[3.0, 2.0]], [[5.0, 7.0]]])  # of class 0: 2 are right
    right = torch.tensor([[True], [True], [False]])
    assert expert_labels(logits, right).tolist() == [[2, 1]]
    assert expert_labels(logits, right, "one_expert").tolist() == [[1, 0]]
    assert expert_labels(logits, right, "all_experts").tolist() == [[3, 3]]
