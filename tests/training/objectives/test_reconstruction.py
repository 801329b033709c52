import pytest
import torch

from sono.training.objectives.reconstruction import (
    GRID,
    RegionReconstruction,
    hidden_cells,
    kept_statistics,
    reconstruction_loss,
    with_hole,
)


def frames_and_masks() -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, 16:48, 8:40] = 1
    mask[1, :, 3:20, 30:61] = 1
    return image, mask


def truth(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The guess that is right: each cell in standard deviations of its frame's hidden cells."""
    wanted, share = hidden_cells(image, mask)
    weight = share / share.sum((1, 2), keepdim=True)
    mean = (wanted * weight).sum((1, 2), keepdim=True)
    return (wanted - mean) / ((wanted - mean).square() * weight).sum((1, 2), keepdim=True).add(
        1e-4
    ).sqrt()


def test_nothing_of_the_hidden_pixels_is_left() -> None:
    image, mask = frames_and_masks()
    other = torch.where(mask > 0, 1 - image, image)
    assert torch.equal(with_hole(image, mask), with_hole(other, mask))
    assert torch.equal(with_hole(image, mask)[mask == 0], image[mask == 0])


def test_frames_with_holes_leave_no_trace_in_batch_normalization() -> None:
    norm = torch.nn.BatchNorm2d(1)
    image, mask = frames_and_masks()
    with kept_statistics(norm):
        norm(with_hole(image, mask))
    assert norm.running_mean is not None
    assert float(norm.running_mean) == 0.0
    norm(image)
    assert float(norm.running_mean) == pytest.approx(0.1 * float(image.mean()))


def test_a_hidden_cell_is_the_mean_of_its_masked_pixels() -> None:
    image, mask = frames_and_masks()
    wanted, share = hidden_cells(image, mask)
    cell = slice(20, 24)  # four pixels a cell
    assert float(wanted[0, 5, 5]) == pytest.approx(float(image[0, 0, cell, cell].mean()))
    # one of its four rows is masked
    assert float(share[1, 0, 10]) == pytest.approx(2 * 0 + 1 * 4 / 16)
    assert share.shape == (2, GRID, GRID)


def test_the_right_guess_costs_nothing_and_no_guess_about_one() -> None:
    image, mask = frames_and_masks()
    assert float(reconstruction_loss(truth(image, mask), image, mask)) == pytest.approx(
        0.0, abs=1e-9
    )
    assert float(reconstruction_loss(torch.zeros(2, GRID, GRID), image, mask)) == pytest.approx(
        1.0, abs=0.05
    )


def test_frames_without_a_region_do_not_count() -> None:
    image, mask = frames_and_masks()
    guess = truth(image, mask)
    mask[1], guess[1] = 1, 100.0
    assert float(reconstruction_loss(guess, image, mask)) == pytest.approx(0.0, abs=1e-9)
    mask[0], guess[0] = 0, 100.0
    assert float(reconstruction_loss(guess, image, mask)) == 0.0


def test_the_head_learns_what_the_features_tell() -> None:
    torch.manual_seed(0)
    image, mask = frames_and_masks()
    head = RegionReconstruction(4)
    descent = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(60):
        loss = reconstruction_loss(head(torch.eye(4)[:2], torch.eye(4)[2:]), image, mask)
        descent.zero_grad()
        loss.backward()
        descent.step()
    assert float(loss.detach()) < 0.05
