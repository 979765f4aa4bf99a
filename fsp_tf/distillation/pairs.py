"""Pairs of layers for FSP matrices: named ones, and those that `find_pairs` finds in any functional model."""

import dataclasses
import itertools
import math
import re

import keras

from fsp_tf.models import keras_graph

Pair = tuple[str, str]
NAMED_PAIRS = ("section_input", "first_block")
"""The names that `find_pairs` accepts for the paper's networks."""
SIZE_RATIO = math.sqrt(2.0)  # sizes that differ by less are taken as the same: unpadded convolutions cut off borders
CONVOLUTIONS = tuple(
    getattr(keras.layers, name) for name in ("Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D")
)
BORDERS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


@dataclasses.dataclass(frozen=True)
class Section:
    """A stretch of a network whose feature maps have one size, by the names of the layers before and at its end."""

    size: tuple[int, int]
    first: str
    last: str


class ModelGraph:
    """The layers of a functional or sequential model with nested models expanded.

    Args:
        model: Its layers are shared, not copied.

    Attributes:
        input: The symbolic images.
        outputs: The symbolic output of every layer by name, `outer/inner` for a layer of a nested model and `name:1`
            for the second call of a layer. A head hides a layer of its name, which is `name:1`.
        heads: Those of them that the model returns by name.
        operations: All layers and operations, of which nested models may have several of one name.
    """

    def __init__(self, model: keras.Model):
        self.name = model.name
        self.outputs: dict[str, keras.KerasTensor] = {}
        self.operations: list = []
        functional = keras_graph.as_functional(model)
        self.input = functional.inputs[0]
        heads = functional.output
        if any(map(keras_graph.is_graph, model.layers)):
            heads = self._run(functional, self.input, "")
        else:
            for node in keras_graph.nodes(functional):
                self._add(node.operation.name, node.outputs[0])
        self.heads = heads if isinstance(heads, dict) else {}
        layers, self.outputs = self.outputs, dict(self.heads)
        for name, output in layers.items():
            if output is not self.heads.get(name):
                self._add(name, output)
        self.logits = keras.tree.flatten(heads["logits"] if isinstance(heads, dict) and "logits" in heads else heads)[0]
        self.model = self.up_to(self.logits)

    def __getitem__(self, name: str) -> keras.KerasTensor:
        """Returns a layer's or head's output. Raises ValueError if there is none of this name."""
        if name not in self.outputs:
            raise ValueError(f"{self.name} has no head or layer named {name!r}.")
        return self.outputs[name]

    def up_to(self, outputs, name: str | None = None) -> keras.Model:
        """Returns the model from the images to some of the outputs, which shares its layers."""
        with keras_graph.unique_names(self.operations):
            return keras.Model(self.input, outputs, name=name)

    def _add(self, name: str, output) -> None:
        """Adds a layer's output; the second call of a layer is `name:1`."""
        names = itertools.chain([name], (f"{name}:{number}" for number in itertools.count(1)))
        self.outputs[next(candidate for candidate in names if candidate not in self.outputs)] = output

    def _run(self, functional: keras.Model, inputs, prefix: str):
        """Calls the layers of a model on inputs, those of nested models one by one."""

        def call(operation, *args, **kwargs):
            if keras_graph.is_graph(operation):
                outputs = self._run(keras_graph.as_functional(operation), args[0], f"{prefix}{operation.name}/")
            else:
                outputs = operation(*args, **kwargs)
                self.operations.append(operation)
            self._add(f"{prefix}{operation.name}", keras.tree.flatten(outputs)[0])
            return outputs

        return keras_graph.run_layers(functional, inputs, call)

    def sections(self) -> list[Section]:
        """Returns the sections after the first convolution, in order.

        A section's end is the last layer of its size through which every path to the logits passes. Its input is the
        last such layer before its first convolution. No new section begins where only unpadded convolutions reduce the
        size, or in a branch whose maps have another size than those after it (squeeze and excitation).
        """
        if None in self.input.shape[1:]:
            raise ValueError(f"{self.name} takes images of unknown size: build it with a fixed input shape.")
        nodes = keras_graph.nodes(self.model)
        sizes = [tuple(node.outputs[0].shape[1:3]) for node in nodes]
        cuts = _cuts(nodes)
        convolutions = [index for index, node in enumerate(nodes) if isinstance(node.operation, CONVOLUTIONS)]
        cuts = [index for index in cuts if convolutions and index >= convolutions[0]]
        starts: list[int] = []
        for index in convolutions[1:]:
            size_after = next((sizes[cut] for cut in cuts if cut >= index), sizes[index])
            if _differ(sizes[index], size_after):
                continue  # in a branch of another size
            if not starts or _differ(sizes[index], sizes[starts[-1]]):
                starts.append(index)
        names = {id(tensor): name for name, tensor in [*self.outputs.items(), *self.heads.items()]}
        sections = []
        for start, end in itertools.pairwise([*starts, len(nodes)]):
            before = [cut for cut in cuts if cut < start]
            within = [cut for cut in cuts if start <= cut < end and not _differ(sizes[cut], sizes[start])]
            if before and within:
                first, last = (names[id(nodes[cut].outputs[0])] for cut in (before[-1], within[-1]))
                sections.append(Section(sizes[within[-1]], first, last))
        return sections


def _cuts(nodes: list) -> list[int]:
    """Returns the places of the feature maps through which every path from the input to the output passes."""
    place = {id(tensor): index for index, node in enumerate(nodes) for tensor in node.outputs}
    last_use = list(range(len(nodes)))
    for index, node in enumerate(nodes):
        for tensor in node.input_tensors:
            last_use[place[id(tensor)]] = index
    reach = [0, *itertools.accumulate(last_use, max)]  # the last use of what was computed before a node
    return [
        index
        for index, node in enumerate(nodes)
        if reach[index] <= index and len(node.outputs[0].shape) == 4 and not isinstance(node.operation, BORDERS)
    ]


def find_pairs(teacher: keras.Model, student: keras.Model, pairs="auto") -> list[tuple[Pair, Pair]]:
    """Returns the pairs of layers of two models: by default each section's input and end (Yim et al. 2017, Section 3).

    Deviates: the paper says "first and last layer" of a section; `section_input` is one reading of it, `first_block`
    another.

    A section is a stretch of constant spatial size. Sections of teacher and student match if they have the same size,
    or, with unpadded convolutions, nearly the same. For the ResNets of this project, these are the `section_input`
    pairs.

    Args:
        teacher: A functional or sequential model; a name is one of its heads (dictionary outputs) or of its layers,
            `outer/inner` for a layer of a nested model.
        student: The same.
        pairs: `auto` (matching sections), `section_input` (each section's input and output), `first_block` (its first
            block's output and its output), a list of `(first, last)`, or of `((teacher_first, teacher_last),
            (student_first, student_last))`.
    Returns:
        A list of ((teacher_first, teacher_last), (student_first, student_last)).
    Raises:
        ValueError: If the pairs are unknown, repeat a pair of the student or name a layer that a model does not have,
            or if no sections match.
    """
    return resolve_pairs(ModelGraph(teacher), ModelGraph(student), pairs)


def default_pairs(teacher: ModelGraph, student: ModelGraph) -> str:
    """Returns `section_input` if both models have the heads that it names, otherwise `auto`."""
    have_heads = all({"stem", "section_1"} <= set(graph.outputs) for graph in (teacher, student))
    return "section_input" if have_heads else "auto"


def resolve_pairs(teacher: ModelGraph, student: ModelGraph, pairs) -> list[tuple[Pair, Pair]]:
    """Does what `find_pairs` does, for expanded models."""
    for graph in (teacher, student):
        calls = keras_graph.nodes(graph.model)
        if any(getattr(call.operation, "data_format", None) == "channels_first" for call in calls):
            raise ValueError(f"{graph.name} has layers with channels_first: build it with channels_last.")
    if pairs == "auto":
        return _match(teacher, student)
    if isinstance(pairs, str):
        if pairs not in NAMED_PAIRS:
            raise ValueError(f"pairs must be one of {', '.join(NAMED_PAIRS)} or a list of layer names, got {pairs!r}.")
        sections = sorted(name for name in teacher.outputs if re.fullmatch(r"section_\d", name))
        if not sections:
            raise ValueError(f"pairs={pairs!r} needs heads section_1, section_2, ...: use auto or name the layers.")
        if pairs == "section_input":
            pairs = list(itertools.pairwise(["stem", *sections]))
        else:
            pairs = [(f"{section}_first_block", section) for section in sections]
    resolved = [(pair, pair) if isinstance(pair[0], str) else pair for pair in pairs]
    of_student = [tuple(pair) for _, pair in resolved]
    if len(set(of_student)) < len(of_student):  # the logs name a pair by the student's layers
        raise ValueError(f"pairs must name each pair of the student's layers once, got {of_student}.")
    for teacher_pair, student_pair in resolved:
        for graph, names in ((teacher, teacher_pair), (student, student_pair)):
            for name in names:
                graph[name]
    return resolved


def _match(teacher: ModelGraph, student: ModelGraph) -> list[tuple[Pair, Pair]]:
    found: list[list[Section]] = [graph.sections() for graph in (teacher, student)]
    for graph, sections in zip((teacher, student), found, strict=True):
        if not sections:
            raise ValueError(f"{graph.name} has no section of feature maps between two convolutions: name the layers.")
    pairs, remaining = [], list(found[1])
    for expected in found[0]:
        close = [section for section in remaining if not _differ(section.size, expected.size)]
        if close:
            got = min(close, key=lambda section: _ratio(section.size, expected.size))
            remaining = remaining[remaining.index(got) + 1 :]
            pairs.append(((expected.first, expected.last), (got.first, got.last)))
    if not pairs:
        sizes = [", ".join(f"{height}x{width}" for height, width in (s.size for s in sections)) for sections in found]
        raise ValueError(
            f"No sections match: {teacher.name} has sections of {sizes[0]}, {student.name} of {sizes[1]}. Name the "
            "layers, or use models whose feature maps have the same sizes."
        )
    return pairs


def _differ(one: tuple, other: tuple) -> bool:
    """Returns whether two sizes belong to different sections."""
    return _ratio(one, other) >= SIZE_RATIO


def _ratio(one: tuple, other: tuple) -> float:
    return max(max(a / b, b / a) for a, b in zip(one, other, strict=True))
