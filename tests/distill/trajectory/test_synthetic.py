import torch
from torch.nn.functional import interpolate

from ltdd_ray.config import StartEpochs
from ltdd_ray.distill.trajectory.matching import Match
from ltdd_ray.distill.trajectory.schedule import draw_segment, last_start_epoch, share
from ltdd_ray.distill.trajectory.synthetic import Gradients, SyntheticSet


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


def test_picture_gradients_go_back_through_the_decoder() -> None:
    """Two mosaics of four pictures: the gradient is what autograd finds through cut and enlarge."""
    draw = torch.Generator().manual_seed(0)
    mosaics = torch.rand(2, 1, 4, 4, generator=draw)
    labels, classes = torch.rand(8, 3, generator=draw), torch.arange(2).repeat_interleave(4)
    synthetic = SyntheticSet(mosaics, labels, classes, 0.5, pictures_per_side=2)
    assert synthetic.pictures().shape == (8, 1, 4, 4)
    given = torch.rand(8, 1, 4, 4, generator=draw)
    gradients = Gradients.zeros(synthetic)
    gradients.add(
        Match(torch.tensor(1.0), given, labels, torch.tensor(3.0), {}), 2.0, torch.tensor(1.0)
    )
    synthetic(gradients).backward()
    cells = mosaics.clone().requires_grad_()
    grid = [
        cells[m : m + 1, :, y : y + 2, x : x + 2] for m in (0, 1) for y in (0, 2) for x in (0, 2)
    ]
    seen = torch.cat([interpolate(cell, size=(4, 4), mode="bilinear") for cell in grid])
    (expected,) = torch.autograd.grad((seen * 2 * given).sum(), cells)
    torch.testing.assert_close(synthetic.images.grad, expected)


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
