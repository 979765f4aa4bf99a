"""The contenders on Keras: ours through the code that a run goes through, the others as Keras's own guides do it."""

import pathlib
import tempfile

import keras
import tensorflow as tf

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
from benchmarks.turns import Turns
from fsp_tf import training
from fsp_tf.data import Augmentation, ImageSet, StreamOptions, stored_stream, training_stream
from fsp_tf.distillation import FSPDistillationLoss, FSPDistiller, MatrixStore, resolve_pairs
from fsp_tf.distillation.classifier import Classifier
from fsp_tf.models import cifar_resnet, fold_batch_normalization
from fsp_tf.training import devices

NUM_STEPS = 1_000_000  # more than are ever run: one call of fit takes all turns


class TakeTurns(keras.callbacks.Callback):
    """Tells the turns of every step, and ends the fit when there are no more.

    Args:
        turns: Counts and times.
        loss_name: Which of the logs is the loss.
    """

    def __init__(self, turns: Turns, loss_name: str = "loss"):
        super().__init__()
        self.turns, self.loss_name = turns, loss_name

    def on_train_batch_end(self, batch, logs=None):
        """Reads the loss, which waits for the step's end; then waits for the next turn where one is over."""
        self.model.stop_training = not self.turns.step_done(float(logs[self.loss_name]))


def run(contender: Contender, turns: Turns, *, depth: int, batch_size: int) -> None:
    """Trains until there are no more turns."""
    num_images = BATCHES_IN_MEMORY * batch_size
    images, labels = random_images(num_images, IMAGE_SIZE, NUM_CLASSES)
    names = tuple(str(number) for number in range(NUM_CLASSES))
    image_set = ImageSet("random", names, images.shape[1:], num_images, images, labels)
    options = StreamOptions(batch_size, 0, "benchmark", Augmentation(crop=True, flip=False))
    if contender.library == "keras":
        stream = training_stream(image_set, range(NUM_STEPS), options)
        run_as_usual(contender, turns, depth, stream)
    elif contender.method == "stored":
        run_stored(contender, turns, depth, image_set, options)
    else:
        model = student = make_net(contender, contender.student_depth(depth), seed=1)
        if contender.method == "live":
            teacher = fold_batch_normalization(make_net(contender, depth, seed=0))  # as the pipelines do
            model = FSPDistiller(teacher, student, weight=STAGE1_WEIGHT)
        run_ours(model, turns, training_stream(image_set, range(NUM_STEPS), options))


def make_net(contender: Contender, depth: int, *, seed: int) -> keras.Model:
    """A net as the pipelines build it."""
    with devices.make_strategy().scope():
        return cifar_resnet(depth, NUM_CLASSES, seed=seed, dtype=contender.precision)


def run_stored(contender: Contender, turns: Turns, depth: int, image_set: ImageSet, options: StreamOptions) -> None:
    """Stage 1 with the matrices of one view of each image, which the teacher computes first."""
    teacher = fold_batch_normalization(make_net(contender, depth, seed=0))
    student = make_net(contender, contender.student_depth(depth), seed=1)
    distiller = FSPDistiller(teacher, student, weight=STAGE1_WEIGHT, stored=True)
    with tempfile.TemporaryDirectory() as folder:
        store = MatrixStore(
            pathlib.Path(folder),
            distiller.teacher_features,
            "benchmark",
            distiller.pair_names,
            image_set,
            options.augmentation,
        )
        store.open(1)
        run_ours(distiller, turns, stored_stream(image_set, store.read, 1, range(NUM_STEPS), options))


def run_ours(model: keras.Model, turns: Turns, stream: tf.data.Dataset) -> None:
    """Compiles and fits as the pipelines do."""
    is_plain = not isinstance(model, FSPDistiller)
    rates = RECIPE.teacher_learning_rates if is_plain else RECIPE.stage1_learning_rates
    with devices.make_strategy().scope():
        optimizer = training.make_optimizer(
            rates[:1],
            (NUM_STEPS,),
            momentum=RECIPE.momentum,
            weight_decay=RECIPE.weight_decay,
            clipnorm=0.0 if is_plain else STAGE1_CLIPNORM,
        )
        model = Classifier(model) if is_plain else model
        model.compile(optimizer, jit_compile=False)
    training.fit_stage(model, stream, num_steps=NUM_STEPS, callbacks=[TakeTurns(turns)])


def run_as_usual(contender: Contender, turns: Turns, depth: int, stream: tf.data.Dataset) -> None:
    """The same nets in Keras's own layers, with its own SGD and Distiller, compiled with the defaults."""
    student = cifar_resnet(contender.student_depth(depth), NUM_CLASSES, seed=1, fused=False)
    sgd_options = {"momentum": RECIPE.momentum, "weight_decay": RECIPE.weight_decay}
    if contender.method == "plain":
        student.compile(
            keras.optimizers.SGD(RECIPE.teacher_learning_rates[0], **sgd_options),
            loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
            metrics={"logits": ["accuracy"]},
        )
        student.fit(stream, verbose=0, callbacks=[TakeTurns(turns)])
        return
    teacher = cifar_resnet(depth, NUM_CLASSES, seed=0, fused=False)
    losses = [FSPDistillationLoss(pair=pair) for pair, _ in resolve_pairs(teacher, student, "section_input")]
    distiller = keras.distillation.Distiller(teacher, student, losses, student_loss_weight=0.0)
    sgd_options["global_clipnorm"] = STAGE1_CLIPNORM
    distiller.compile(
        keras.optimizers.SGD(RECIPE.stage1_learning_rates[0], **sgd_options),
        loss="mse",  # it wants a loss of the labels, of weight 0 here
    )
    only_images = stream.map(lambda images, labels: images)
    distiller.fit(only_images, verbose=0, callbacks=[TakeTurns(turns, "distillation_loss")])
