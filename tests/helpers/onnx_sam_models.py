"""A small encoder and decoder with random weights, exported in the layout of SAM 2's exports."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

SIDE = 64  # of the encoder's square
PROMPTS = ("point_coords", "point_labels", "mask_input", "has_mask_input")


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 4, stride=4)
        self.deep = nn.Conv2d(4, 8, 4, stride=4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(image)
        return fine, self.deep(torch.relu(fine))


class Decoder(nn.Module):
    """Masks [1, 3, 16, 16] around the points; the third has the best quality."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(8, 3, 1)
        self.fine = nn.Conv2d(4, 3, 1)

    def forward(
        self, image_embed: Tensor, high_res_feats_0: Tensor, point_coords: Tensor,
        point_labels: Tensor, mask_input: Tensor, has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        places = torch.arange(16.0) * 4 + 2
        center = point_coords.mean(1)  # [1, 2]
        reach = 8.0 + (point_coords - center[:, None]).abs().amax(1)  # [1, 2]
        across = ((places - center[:, :1]) / reach[:, :1]) ** 2
        down = ((places - center[:, 1:]) / reach[:, 1:]) ** 2
        near = 2 - 2 * (down[:, None, :, None] + across[:, None, None, :])  # [1, 1, 16, 16]
        grown = nn.functional.interpolate(self.mix(image_embed), scale_factor=4.0)
        known = 0.01 * (mask_input.mean() * has_mask_input.mean() + point_labels.float().mean())
        masks = near + 0.3 * (grown + self.fine(high_res_feats_0)) + known
        return masks, torch.tensor([[0.2, 0.5, 0.9]]) + 0 * masks.mean((2, 3))


def export_pair(folder: Path) -> Path:
    """Write `tiny.encoder.onnx` and `tiny.decoder.onnx`."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    image = torch.rand(1, 3, SIDE, SIDE)
    encoder, decoder = Encoder().eval(), Decoder().eval()
    fine, deep = encoder(image)
    count = torch.export.Dim("count", min=1, max=16)
    points = (torch.rand(1, 2, 2), torch.ones(1, 2), torch.zeros(1, 1, 16, 16), torch.zeros(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder, (image,), folder / "tiny.encoder.onnx", dynamo=True, verbose=False,
            input_names=["image"], output_names=["high_res_feats_0", "image_embed"],
            external_data=False,
        )  # fmt: skip
        torch.onnx.export(
            decoder, (deep, fine, *points), folder / "tiny.decoder.onnx", dynamo=True,
            verbose=False, external_data=False,
            input_names=["image_embed", "high_res_feats_0", *PROMPTS],
            output_names=["masks", "iou_predictions"],
            dynamic_shapes=(None, None, {1: count}, {1: count}, None, None),
        )  # fmt: skip
    return folder
