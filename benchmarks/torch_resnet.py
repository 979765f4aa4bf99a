"""The paper's CIFAR ResNet and FSP loss once more, in PyTorch: the same layers, shapes and numbers of weights."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1.001e-5  # as our networks have it


def normalization(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation, moving average 0.9."""
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.1)


def convolution(channels: int, filters: int, stride: int = 1) -> nn.Conv2d:
    """3x3 without bias; He-normal weights."""
    layer = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


class Block(nn.Module):
    """conv-BN-ReLU-conv-BN-add-ReLU; the shortcut is He et al. 2016's option A (stride, zero-padded channels)."""

    def __init__(self, channels: int, filters: int, stride: int):
        super().__init__()
        self.stride, self.new_channels = stride, filters - channels
        self.first, self.first_norm = convolution(channels, filters, stride), normalization(filters)
        self.second, self.second_norm = convolution(filters, filters), normalization(filters)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, filters, height / stride, width / stride)."""
        y = functional.relu(self.first_norm(self.first(x)), inplace=True)
        y = self.second_norm(self.second(y))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return functional.relu(y + x, inplace=True)


class ResNet(nn.Module):
    """A CIFAR ResNet of depth 6k+2 with a batch normalisation on the image (Figure 2)."""

    def __init__(self, depth: int, num_classes: int):
        super().__init__()
        num_blocks = (depth - 2) // 6
        self.image_norm = normalization(3)
        self.stem, self.stem_norm = convolution(3, 16), normalization(16)
        sections, channels = [], 16
        for width in (16, 32, 64):
            blocks = [Block(channels, width, 1 if width == 16 else 2)]
            blocks += [Block(width, width, 1) for _ in range(num_blocks - 1)]
            sections.append(nn.Sequential(*blocks))
            channels = width
        self.sections = nn.ModuleList(sections)
        self.logits = nn.Linear(channels, num_classes)

    def features(self, images: Tensor) -> list[Tensor]:
        """The output of the stem and of each section from uint8 images (batch, height, width, 3)."""
        x = self.image_norm(images.permute(0, 3, 1, 2).float() / 255)
        maps = [functional.relu(self.stem_norm(self.stem(x)), inplace=True)]
        for section in self.sections:
            maps.append(section(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes)."""
        return self.logits(self.features(images)[-1].mean((2, 3)))


def fsp_matrices(maps: list[Tensor]) -> list[Tensor]:
    """Eq. 1 for each section's input and output: float (batch, m, n)."""
    return [fsp_matrix(first, last) for first, last in itertools.pairwise(maps)]


def fsp_matrix(first: Tensor, last: Tensor) -> Tensor:
    """Eq. 1 for maps (batch, channels, height, width), the first max-pooled to the size of the last."""
    window = first.shape[2] // last.shape[2]
    if window > 1:
        first = functional.max_pool2d(first, window)
    return torch.einsum("bmhw,bnhw->bmn", first, last) / (last.shape[2] * last.shape[3])


def fsp_loss(teacher_matrices: list[Tensor], student_matrices: list[Tensor], weight: float) -> Tensor:
    """Eq. 2 with the relative weighting of `fsp_tf.distillation.FSPDistiller`."""
    losses = []
    for expected, got in zip(teacher_matrices, student_matrices, strict=True):
        errors = (expected - got).square().sum((1, 2))
        losses.append((weight * errors / expected.square().sum((1, 2)).clamp(min=1e-12)).mean())
    return torch.stack(losses).sum()
