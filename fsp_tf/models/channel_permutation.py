"""The same network with its feature maps' channels in another order: the teachers of the paper's shuffled stage 1."""

import keras
import numpy as np

from fsp_tf.models.resnet import block_names


def channel_permutations(net: keras.Model, seed: int) -> dict[str, np.ndarray]:
    """For each head but the logits, the order of its channels in the net of `permuted_weights`.

        new_map[..., c] = old_map[..., p[c]]          (Yim et al. 2017, Table 1, the rows marked with a dagger)

    Maps that a shortcut adds share their order: the stem and all blocks of section 1, the blocks of each section. Where
    a shortcut pads channels with zeros, the first ones keep the order of the section before and the new ones change
    places among themselves; a projection leaves the section free.

    Args:
        net: A model of `cifar_resnet` or `imagenet_resnet`.
        seed: Decides the permutations.
    Returns:
        Int64 arrays (channels,) under `stem`, `section_1_first_block`, `section_1`, ...
    Raises:
        ValueError: If the net has no layer that such a net has.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(_num_filters(net, "stem_conv"))
    permutations, names = {"stem": order}, {layer.name for layer in net.layers}
    for block in block_names(net):
        num_channels = _num_filters(net, f"{block}_conv_2")
        if f"{block}_shortcut_conv" in names:
            order = rng.permutation(num_channels)
        else:
            order = np.concatenate([order, len(order) + rng.permutation(num_channels - len(order))])
        section, number = _numbers(block)
        if number == 1:
            permutations[f"section_{section}_first_block"] = order
        permutations[f"section_{section}"] = order
    return permutations


def permuted_weights(net: keras.Model, seed: int) -> list[np.ndarray]:
    """The weights that make a net the same function with its feature maps' channels in another order.

    Maps inside a block, between its two convolutions, stay as they are.

    Args:
        net: A model of `cifar_resnet` or `imagenet_resnet`; not changed.
        seed: Decides the permutations, see `channel_permutations`.
    Returns:
        What `set_weights` of a net of the same structure takes, fused or not: arrays in the order of `net.weights`.
    Raises:
        ValueError: If the net has no layer that such a net has.
    """
    orders = _layer_orders(net, channel_permutations(net, seed))
    weights = []
    for layer in net.layers:
        entering, leaving = orders.get(layer.name, (None, None))
        for weight in layer.get_weights():
            if leaving is not None:
                weight = weight[..., leaving]
            if entering is not None and weight.ndim > 1:  # a kernel (..., inputs, outputs), not the logits' bias
                weight = weight[..., entering, :]
            weights.append(weight)
    return weights


def _layer_orders(net: keras.Model, permutations: dict[str, np.ndarray]) -> dict[str, tuple]:
    """For each layer with weights that change, the orders of the channels that enter and that leave it, or None."""
    order = permutations["stem"]
    orders: dict[str, tuple] = {"stem_conv": (None, order), "stem_bn": (None, order)}
    for block in block_names(net):
        entering, order = order, permutations[f"section_{_numbers(block)[0]}"]
        orders |= {
            f"{block}_conv_1": (entering, None),
            f"{block}_conv_2": (None, order),
            f"{block}_bn_2": (None, order),
            f"{block}_shortcut_conv": (entering, order),
            f"{block}_shortcut_bn": (None, order),
        }
    return {**orders, "logits": (order, None)}


def _numbers(block: str) -> tuple[int, int]:
    """The section's and the block's number of `section_<s>_block_<b>`."""
    section, number = block.removeprefix("section_").split("_block_")
    return int(section), int(number)


def _num_filters(net: keras.Model, convolution: str) -> int:
    return net.get_layer(convolution).kernel.shape[-1]
