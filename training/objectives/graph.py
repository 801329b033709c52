"""Text features combined with the attribute graph of a caption; only used in training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sono.training.config import MAX_GATE
from sono.training.objectives.attributes import AttributeRows

WIDTH = 128
WIDEST = 0.99  # of MAX_GATE, at the start: where it can still close


class AttributeGraph(nn.Module):
    """A bipartite graph of planes and attribute values, two graph convolutions, and a gate.

    An edge joins a plane and a value that occur together in a caption of the training set. Planes
    that show the same structures become similar, which a caption's own complete graph
    (Ultrasound-CLIP, arXiv 2604.01749) cannot achieve: there all nodes of a side receive the same
    message. The gate is MAX_GATE * sigmoid(`opening`), so that it opens and closes smoothly.
    """

    planes: Tensor
    edges: Tensor

    def __init__(self, captions: AttributeRows, width: int, gate: float) -> None:
        """`captions` are the distinct ones of the training set.

        `width` is that of the features, `gate` the initial gate.
        """
        super().__init__()
        self.register_buffer("planes", captions.path[:, 1].unique())
        together = (self._planes_of(captions).T @ captions.values > 0).float()
        self.register_buffer("edges", _balanced(together))
        self.plane_nodes = nn.Parameter(torch.randn(len(self.planes), WIDTH) / WIDTH**0.5)
        self.value_nodes = nn.Parameter(torch.randn(captions.values.shape[1], WIDTH) / WIDTH**0.5)
        self.layers = nn.ModuleList(nn.Linear(2 * WIDTH, WIDTH) for _ in range(2))
        self.project = nn.Linear(WIDTH, width)
        self.opening = nn.Parameter(torch.logit(torch.tensor([gate / MAX_GATE]).clamp(max=WIDEST)))

    def forward(self, text: Tensor, captions: AttributeRows) -> Tensor:
        """Unit features [n, d]: unit text features [n, d] moved by a step of the gate's length.

        A caption without attributes is not moved.
        """
        planes, values = self._nodes()
        own = torch.cat([self._planes_of(captions), captions.values], dim=1)
        mean = own @ torch.cat([planes, values]) / own.sum(1, keepdim=True).clamp_min(1)
        known = (own.sum(1, keepdim=True) > 0).float()
        step = MAX_GATE * self.opening.sigmoid() * F.normalize(self.project(mean), dim=-1)
        return F.normalize(text + step * known, dim=-1)

    def _nodes(self) -> tuple[Tensor, Tensor]:
        """Planes [p, WIDTH] and values [v, WIDTH] after the convolutions.

        Each node sees itself and its neighbors.
        """
        planes: Tensor = self.plane_nodes
        values: Tensor = self.value_nodes
        for layer in self.layers:
            planes, values = (
                F.relu(layer(torch.cat([planes, self.edges @ values], dim=1))),
                F.relu(layer(torch.cat([values, self.edges.T @ planes], dim=1))),
            )
        return planes, values

    def _planes_of(self, captions: AttributeRows) -> Tensor:
        """The plane node of each caption as [n, planes] of 0 and 1.

        The row of an unknown plane has only zeros.
        """
        own = captions.path[:, 1]
        return ((own[:, None] == self.planes[None, :]) & (own > 0)[:, None]).float()


def _balanced(edges: Tensor) -> Tensor:
    """Each edge over the geometric mean of the degrees of its ends."""
    return (
        edges
        / edges.sum(1, keepdim=True).clamp_min(1).sqrt()
        / edges.sum(0, keepdim=True).clamp_min(1).sqrt()
    )
