"""The PyTorch contenders, eager and channels-last: the same CIFAR ResNet, plain training and stage 1."""

import itertools
import os
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.contenders import (
    BATCHES_IN_MEMORY,
    NUM_CLASSES,
    RECIPE,
    STAGE1_CLIPNORM,
    STAGE1_WEIGHT,
    Contender,
    Workload,
)
from benchmarks.interleaved_timing import StepTimer
from benchmarks.random_images import random_images

EPSILON = 1.001e-5  # as in fsp_tf.models


def run(contender: Contender, timer: StepTimer, workload: Workload) -> None:
    """Trains until the timer stops; bfloat16 is autocast around the networks, and FSP matrices stay in float32."""
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = ResNet(contender.student_depth(workload.depth), workload.width_multiplier)
    teacher = ResNet(workload.depth, workload.width_multiplier).fold_batch_normalization()
    for model in (student, teacher):
        model.to(device, memory_format=torch.channels_last)
    is_plain = contender.method == "plain"
    rate = RECIPE.teacher_learning_rates[0] if is_plain else RECIPE.stage1_learning_rates[0]
    optimizer = torch.optim.SGD(student.parameters(), rate, momentum=RECIPE.momentum, weight_decay=RECIPE.weight_decay)
    for images, labels in batches(workload, device):
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=contender.is_bfloat16):
            maps = student(images)
            with torch.no_grad():
                teacher_maps = [] if is_plain else teacher(images)
        if is_plain:
            loss = functional.cross_entropy(student.logits(maps[-1].float().mean((2, 3))), labels)
        else:
            loss = fsp_loss(fsp_matrices(teacher_maps), fsp_matrices(maps), STAGE1_WEIGHT)
        loss.backward()
        if not is_plain:
            torch.nn.utils.clip_grad_norm_(student.parameters(), STAGE1_CLIPNORM)
        optimizer.step()
        if not timer.step_done(loss.item()):
            return


def batches(workload: Workload, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields random images, padded and cropped at random: uint8 (batch, height, width, 3), labels int64 (batch,)."""
    images, labels = random_images(BATCHES_IN_MEMORY * workload.batch_size, workload.image_size, NUM_CLASSES)
    pad = workload.image_size // 8
    padded = functional.pad(torch.from_numpy(images).to(device), (0, 0, pad, pad, pad, pad))
    all_labels = torch.from_numpy(labels).to(device)
    offsets = torch.arange(workload.image_size, device=device)
    while True:
        chosen = torch.randint(len(padded), (workload.batch_size,), device=device)
        tops, lefts = torch.randint(2 * pad + 1, (2, workload.batch_size, 1), device=device)
        rows, columns = (tops + offsets)[:, :, None], (lefts + offsets)[:, None, :]
        yield padded[chosen[:, None, None], rows, columns], all_labels[chosen]


class ConvBN(nn.Module):
    """A 3x3 convolution without bias (He-normal) and batch normalization, moving average 0.9."""

    def __init__(self, channels: int, filters: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm: nn.Module = nn.BatchNorm2d(filters, eps=EPSILON, momentum=0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    """conv-BN-ReLU-conv-BN-add-ReLU; the shortcut is He et al. 2016's option A (stride, zero-padded channels)."""

    def __init__(self, channels: int, filters: int, stride: int):
        super().__init__()
        self.stride, self.new_channels = stride, filters - channels
        self.first, self.second = ConvBN(channels, filters, stride), ConvBN(filters, filters)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, filters, height / stride, width / stride)."""
        y = self.second(functional.relu(self.first(x), inplace=True))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return functional.relu(y + x, inplace=True)


class ResNet(nn.Module):
    """A CIFAR ResNet of depth 6k+2 with batch normalization on the image (Yim et al. 2017, Figure 2)."""

    def __init__(self, depth: int, width_multiplier: int = 1):
        super().__init__()
        widths = [width_multiplier * channels for channels in (16, 32, 64)]
        self.image_norm = nn.BatchNorm2d(3, eps=EPSILON, momentum=0.1)
        self.stem = ConvBN(3, widths[0])
        sections, channels = [], widths[0]
        for number, width in enumerate(widths):
            blocks = [Block(channels, width, 2 if number else 1)]
            blocks += [Block(width, width, 1) for _ in range((depth - 2) // 6 - 1)]
            sections.append(nn.Sequential(*blocks))
            channels = width
        self.sections = nn.ModuleList(sections)
        self.logits = nn.Linear(channels, NUM_CLASSES)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Returns the outputs of the stem and of each section for uint8 images (batch, height, width, 3)."""
        x = self.image_norm(images.permute(0, 3, 1, 2).float() / 255)
        maps = [functional.relu(self.stem(x), inplace=True)]
        for section in self.sections:
            maps.append(section(maps[-1]))
        return maps

    def fold_batch_normalization(self) -> "ResNet":
        """Switches to inference mode and folds each batch normalization into the convolution before it."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvBN):
                module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
        return self


def fsp_matrices(maps: list[Tensor]) -> list[Tensor]:
    """Returns Eq. 1 for the input and output of each section: float32 (batch, m, n)."""
    return [fsp_matrix(first, last) for first, last in itertools.pairwise(maps)]


def fsp_matrix(first: Tensor, last: Tensor) -> Tensor:
    """Returns Eq. 1 for maps (batch, channels, height, width), the first max-pooled to the size of the last."""
    window = first.shape[2] // last.shape[2]
    if window > 1:
        first = functional.max_pool2d(first, window)
    return torch.einsum("bmhw,bnhw->bmn", first.float(), last.float()) / (last.shape[2] * last.shape[3])


def fsp_loss(teacher_matrices: list[Tensor], student_matrices: list[Tensor], weight: float) -> Tensor:
    """Returns Eq. 2 with the relative weighting of `fsp_tf.distillation.FSPDistiller`."""
    losses = []
    for expected, got in zip(teacher_matrices, student_matrices, strict=True):
        errors = (expected - got).square().sum((1, 2))
        losses.append((weight * errors / expected.square().sum((1, 2)).clamp(min=1e-12)).mean())
    return torch.stack(losses).sum()
