"""Permutes a network's feature channels without changing its function, for the paper's shuffled stage 1."""

import re

import keras
import numpy as np

from fsp_tf.models.resnet import block_names


def channel_permutations(model: keras.Model, seed: int) -> dict[str, np.ndarray]:
    """Returns, for each head but the logits, the channel order in the model with `permuted_weights`.

        new_map[..., c] = old_map[..., p[c]]          (Yim et al. 2017, Table 1, the rows marked with a dagger)

    Maps that a shortcut adds have the same order: the stem and all blocks of section 1, and the blocks of each later
    section. If a shortcut pads channels with zeros, the first channels keep the order of the previous section and the
    new ones are permuted among themselves; with a projection, the order of a section is independent.

    Deviates: the paper shuffles "the channels" of the teacher's features and says nothing about shortcuts.

    Args:
        model: A model from `cifar_resnet` or `imagenet_resnet`.
        seed: Decides the permutations.
    Returns:
        Int64 arrays (channels,) under `stem`, `section_1_first_block`, `section_1`, ...
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(model.get_layer("stem_conv").filters)
    permutations, names = {"stem": order}, {layer.name for layer in model.layers}
    for section in sorted(name for name in model.output if re.fullmatch(r"section_\d", name)):
        num_channels = model.output[section].shape[-1]
        if f"{section}_block_1_shortcut_conv" in names:
            order = rng.permutation(num_channels)
        else:
            order = np.concatenate([order, len(order) + rng.permutation(num_channels - len(order))])
        permutations |= {f"{section}_first_block": order, section: order}
    return permutations


def permuted_weights(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Returns weights for the same function with the channels of the feature maps in `channel_permutations`.

    Maps inside a block, between its two convolutions, keep their order. The weights fit `set_weights` of any model of
    the same structure, fused or not.
    """
    orders = _layer_orders(model, channel_permutations(model, seed))
    weights = []
    for layer in model.layers:
        input_order, output_order = orders.get(layer.name, (None, None))
        for weight in layer.get_weights():
            if output_order is not None:
                weight = weight[..., output_order]
            if input_order is not None and weight.ndim > 1:  # a kernel (..., inputs, outputs), not the logits' bias
                weight = weight[..., input_order, :]
            weights.append(weight)
    return weights


def _layer_orders(model: keras.Model, permutations: dict[str, np.ndarray]) -> dict[str, tuple]:
    """Returns the (input, output) channel orders of each layer whose weights change; None keeps an order."""
    order = permutations["stem"]
    orders: dict[str, tuple] = {"stem_conv": (None, order), "stem_bn": (None, order)}
    for block in block_names(model):
        previous, order = order, permutations[block.partition("_block_")[0]]
        orders |= {
            f"{block}_conv_1": (previous, None),
            f"{block}_conv_2": (None, order),
            f"{block}_bn_2": (None, order),
            f"{block}_shortcut_conv": (previous, order),
            f"{block}_shortcut_bn": (None, order),
        }
    return {**orders, "logits": (order, None)}
