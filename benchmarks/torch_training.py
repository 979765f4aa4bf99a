"""The contenders on PyTorch, eager and in channels-last memory format: plain training and stage 1."""

import os
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.contenders import (
    BATCHES_IN_MEMORY,
    IMAGE_SIZE,
    NUM_CLASSES,
    RECIPE,
    STAGE1_CLIPNORM,
    STAGE1_WEIGHT,
    Contender,
)
from benchmarks.images import random_images
from benchmarks.torch_resnet import ResNet, fsp_loss, fsp_matrices
from benchmarks.turns import Turns

PAD = IMAGE_SIZE // 8


def run(contender: Contender, turns: Turns, *, depth: int, batch_size: int) -> None:
    """Trains until there are no more turns."""
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student, teacher = (
        ResNet(net_depth, NUM_CLASSES).to(device, memory_format=torch.channels_last)
        for net_depth in (contender.student_depth(depth), depth)
    )
    teacher.eval()
    is_plain = contender.method == "plain"
    rate = RECIPE.teacher_learning_rates[0] if is_plain else RECIPE.stage1_learning_rates[0]
    optimizer = torch.optim.SGD(student.parameters(), rate, momentum=RECIPE.momentum, weight_decay=RECIPE.weight_decay)
    for images, labels in batches(batch_size, device):
        optimizer.zero_grad()
        loss = functional.cross_entropy(student(images), labels) if is_plain else stage1_loss(teacher, student, images)
        loss.backward()
        if not is_plain:
            torch.nn.utils.clip_grad_norm_(student.parameters(), STAGE1_CLIPNORM)
        optimizer.step()
        if not turns.step_done(loss.item()):
            return


def stage1_loss(teacher: ResNet, student: ResNet, images: Tensor) -> Tensor:
    """The FSP loss; the teacher is in inference mode."""
    with torch.no_grad():
        teacher_matrices = fsp_matrices(teacher.features(images))
    return fsp_loss(teacher_matrices, fsp_matrices(student.features(images)), STAGE1_WEIGHT)


def batches(batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Random images, padded and cropped at random: uint8 (batch, height, width, 3), labels int64 (batch,)."""
    images, labels = random_images(BATCHES_IN_MEMORY * batch_size, IMAGE_SIZE, NUM_CLASSES)
    padded = functional.pad(torch.from_numpy(images).to(device), (0, 0, PAD, PAD, PAD, PAD))
    all_labels = torch.from_numpy(labels).to(device)
    places = torch.arange(IMAGE_SIZE, device=device)
    while True:
        chosen = torch.randint(len(padded), (batch_size,), device=device)
        tops, lefts = torch.randint(2 * PAD + 1, (2, batch_size, 1), device=device)
        rows, columns = (tops + places)[:, :, None], (lefts + places)[:, None, :]
        yield padded[chosen[:, None, None], rows, columns], all_labels[chosen]
