"""The runs of `architecture_pairs`: models by image shape, number of classes and seed, and their distillation."""

import pathlib
import re

import keras

import fsp_tf
from fsp_tf.data import Augmentation, ImageSet, StreamOptions, load_split, training_stream
from fsp_tf.models import as_classifier, cifar_resnet, load_keras_file

NUM_HELD_OUT = 5_000
TEACHER_SEED = 1_000  # of every pair; --seeds are those of students


def resnet(depth: int):
    """Returns a maker of ResNets of a depth."""
    return lambda shape, num_classes, seed: cifar_resnet(depth, num_classes, shape, seed=seed)


def plain_cnn(*widths: int, normalized: bool):
    """Returns a maker of CNNs: two convolutions of each width, max pooling between the widths, and a classifier."""

    def make(shape: tuple[int, int, int], num_classes: int, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        images = keras.Input(shape)
        x = keras.layers.Rescaling(1 / 127.5, -1)(images)
        for number, width in enumerate(widths):
            x = keras.layers.MaxPooling2D()(x) if number else x
            for _ in range(2):
                x = keras.layers.Conv2D(width, 3, padding="same", kernel_initializer="he_normal")(x)
                x = keras.layers.BatchNormalization()(x) if normalized else x
                x = keras.layers.ReLU()(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(images, keras.layers.Dense(num_classes)(x))

    return make


def mobilenet_v2(shape: tuple[int, int, int], num_classes: int, seed: int) -> keras.Model:
    """Returns Keras's MobileNetV2 of half the width, with random weights.

    It halves the feature maps five times, so images below 64 pixels are enlarged to twice their size. The moving
    averages of its batch normalization have a momentum of 0.9 instead of 0.999, with which they would be far from the
    statistics after a thousand steps.
    """
    keras.utils.set_random_seed(seed)
    images = keras.layers.Rescaling(1 / 127.5, -1)(first := keras.Input(shape))
    images = keras.layers.UpSampling2D(interpolation="bilinear")(images) if shape[0] < 64 else images
    network = keras.applications.MobileNetV2(input_tensor=images, weights=None, classes=num_classes, alpha=0.5)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    return keras.Model(first, network.output)


PAIRS = {  # title, teacher, student
    "resnet": ("ResNet-26 → ResNet-8", resnet(26), resnet(8)),
    "resnet_cnn": (
        "ResNet-26 → CNN with batch normalization, 16-32-64",
        resnet(26),
        plain_cnn(16, 32, 64, normalized=True),
    ),
    "cnn_bn": (
        "CNN with batch normalization, 32-64-128 → 16-32-64",
        plain_cnn(32, 64, 128, normalized=True),
        plain_cnn(16, 32, 64, normalized=True),
    ),
    "cnn": (
        "CNN without normalization, 32-64-128 → 16-32-64",
        plain_cnn(32, 64, 128, normalized=False),
        plain_cnn(16, 32, 64, normalized=False),
    ),
    "mobilenet": (
        "MobileNetV2 → CNN with batch normalization, 16-32-64",
        mobilenet_v2,
        plain_cnn(16, 32, 64, normalized=True),
    ),
}


def distill_pairs(options, settings: dict[str, dict]) -> dict:
    """Distills the pairs.

    Args:
        options: The flags of `architecture_pairs`.
        settings: Choices of `fsp_tf.distill` by title.
    Returns:
        The names of the image sets, and `rows`: one for each seed, pair and setting.
    """
    sets = {"data_dir": options.data_dir, "image_size": options.image_size}
    if options.test:
        train, test = (load_split(options.dataset, split, **sets) for split in ("train", "test"))
    else:
        sets["holdout"] = NUM_HELD_OUT
        train, test = (load_split(options.dataset, "train", held_out=held_out, **sets) for held_out in (False, True))
    rows = []
    for seed in map(int, options.seeds):
        for pair in options.pairs:
            rows += distill_pair(pair, seed, train, test, options, settings)
    return {"train": train.name, "evaluated_on": test.name, "rows": rows}


def distill_pair(pair: str, seed: int, train: ImageSet, test: ImageSet, options, settings: dict) -> list[dict]:
    """Distills one student with every setting; returns a row for each."""
    title, make_teacher, make_student = PAIRS[pair]
    shape, num_classes = train.image_shape, len(train.class_names)
    folder = pathlib.Path(options.run_dir).expanduser() / pair
    teacher = trained_teacher(make_teacher(shape, num_classes, TEACHER_SEED), folder / "teacher.keras", train, options)
    rows = []
    for number, (setting, choices) in enumerate(settings.items()):
        name = re.sub(r"\W+", "_", setting)
        has_baseline = not number  # the others share it
        run = fsp_tf.distill(
            teacher,
            make_student(shape, num_classes, seed),
            train,
            test,
            run_dir=str(folder / f"{name}-s{seed}"),
            seed=seed,
            batch_size=options.batch_size,
            baseline=has_baseline,
            **{"stage1_steps": options.stage1_steps, "stage2_steps": options.stage2_steps} | choices,
        )
        result = run.result
        scalars = result["phases"]["stage1"]["scalars"]
        rows.append(
            {
                "pair": title,
                "setting": setting,
                "seed": seed,
                "teacher": 100 * result["teacher_accuracy"],
                "from_scratch": 100 * result["baseline_accuracy"] if has_baseline else rows[0]["from_scratch"],
                "accuracy": 100 * result["student_accuracy"],
                "relative_errors": [value for name, value in scalars.items() if name.startswith("relative_error/")],
            }
        )
    return rows


def trained_teacher(teacher: keras.Model, path: pathlib.Path, train: ImageSet, options) -> keras.Model:
    """Trains a teacher with Adam and a cosine decay, or loads it if the file exists."""
    if path.exists():
        return load_keras_file(path)
    num_steps = options.teacher_steps
    stream = StreamOptions(options.batch_size, 0, "teacher", Augmentation(crop=True, flip=False))
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, num_steps))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier = as_classifier(teacher, path)
    classifier.compile(optimizer, loss={"logits": loss}, metrics={"logits": "accuracy"})
    classifier.fit(training_stream(train, range(num_steps), stream), verbose=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    teacher.save(path)
    return teacher
