"""The Keras contenders: ours trains as a run does, the stock ones as Keras's own guides do."""

import pathlib
import tempfile

import keras
import tensorflow as tf

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
from fsp_tf import training
from fsp_tf.data import Augmentation, ImageSet, StreamOptions, stored_stream, training_stream
from fsp_tf.distillation import Classifier, FSPDistillationLoss, FSPDistiller, TeacherStore, find_pairs
from fsp_tf.models import cifar_resnet, fold_batch_normalization
from fsp_tf.training import devices

NUM_STEPS = 1_000_000  # more than any benchmark runs: one call of fit takes all turns
STEPS, CROP = range(NUM_STEPS), Augmentation(crop=True, flip=False)


class TimedSteps(keras.callbacks.Callback):
    """Callback that reports each step to a timer and stops the fit when the timer does.

    Args:
        timer: Counts and times the steps.
        loss_name: The log that holds the loss.
    """

    def __init__(self, timer: StepTimer, loss_name: str = "loss"):
        super().__init__()
        self.timer, self.loss_name = timer, loss_name

    def on_train_batch_end(self, batch, logs=None):
        """Reads the loss, which waits for the end of the step."""
        self.model.stop_training = not self.timer.step_done(float(logs[self.loss_name]))


def run(contender: Contender, timer: StepTimer, workload: Workload) -> None:
    """Trains until the timer stops."""
    image_set = random_image_set(BATCHES_IN_MEMORY * workload.batch_size, workload.image_size)
    options = StreamOptions(workload.batch_size, 0, "benchmark", CROP)
    student = make_model(contender, workload, contender.student_depth(workload.depth), seed=1)
    teacher = None if contender.method == "plain" else make_model(contender, workload, workload.depth, seed=0)
    if contender.library == "keras":
        train_stock(teacher, student, timer, training_stream(image_set, STEPS, options))
    elif contender.method == "stored":
        train_stored(teacher, student, timer, image_set, options)
    else:
        stream = training_stream(image_set, STEPS, options)
        train_ours(with_teacher(teacher, student) if teacher else student, timer, stream)


def random_image_set(num_images: int, size: int) -> ImageSet:
    """Returns a data set of random images in memory."""
    images, labels = random_images(num_images, size, NUM_CLASSES)
    names = tuple(str(number) for number in range(NUM_CLASSES))
    return ImageSet("random", names, images.shape[1:], len(images), images, labels)


def make_model(contender: Contender, workload: Workload, depth: int, *, seed: int) -> keras.Model:
    """Builds a network as a run does, or with stock batch normalization."""
    shape = (workload.image_size, workload.image_size, 3)
    with devices.make_strategy().scope():
        return cifar_resnet(
            depth,
            NUM_CLASSES,
            shape,
            width_multiplier=workload.width_multiplier,
            seed=seed,
            dtype=contender.precision,
            fused=contender.library != "keras",
        )


def with_teacher(teacher: keras.Model, student: keras.Model, *, stored: bool = False) -> FSPDistiller:
    """Builds the model of stage 1; the teacher's batch normalization is folded, as in a run."""
    return FSPDistiller(fold_batch_normalization(teacher), student, weight=STAGE1_WEIGHT, stored=stored)


def train_stored(
    teacher: keras.Model, student: keras.Model, timer: StepTimer, image_set: ImageSet, options: StreamOptions
) -> None:
    """Runs stage 1 on stored matrices of one view per image, which the teacher computes first."""
    distiller = with_teacher(teacher, student, stored=True)
    with tempfile.TemporaryDirectory() as folder:
        store = TeacherStore(
            pathlib.Path(folder),
            distiller,
            "benchmark",
            image_set,
            options.augmentation,
            "FSP matrices",
        )
        store.open(1)
        train_ours(distiller, timer, stored_stream(image_set, store.read, 1, STEPS, options))


def train_ours(model: keras.Model, timer: StepTimer, stream: tf.data.Dataset) -> None:
    """Compiles and fits as a run does."""
    is_plain = not isinstance(model, FSPDistiller)
    rates = RECIPE.teacher_learning_rates if is_plain else RECIPE.stage1_learning_rates
    with devices.make_strategy().scope():
        optimizer = training.make_optimizer(
            training.make_schedule(rates[:1], (NUM_STEPS,)),
            momentum=RECIPE.momentum,
            weight_decay=RECIPE.weight_decay,
            clipnorm=0.0 if is_plain else STAGE1_CLIPNORM,
        )
        model = Classifier(model) if is_plain else model
        model.compile(optimizer, jit_compile=False)
    training.fit_phase(model, stream, num_steps=NUM_STEPS, callbacks=[TimedSteps(timer)])


def train_stock(teacher: keras.Model | None, student: keras.Model, timer: StepTimer, stream: tf.data.Dataset) -> None:
    """Trains with Keras's own layers, SGD and Distiller, compiled with the defaults."""
    sgd_options = {"momentum": RECIPE.momentum, "weight_decay": RECIPE.weight_decay}
    if teacher is None:
        student.compile(
            keras.optimizers.SGD(RECIPE.teacher_learning_rates[0], **sgd_options),
            loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
            metrics={"logits": ["accuracy"]},
        )
        student.fit(stream, verbose=0, callbacks=[TimedSteps(timer)])
        return
    losses = [FSPDistillationLoss(pair=pair) for pair, _ in find_pairs(teacher, student, "section_input")]
    distiller = keras.distillation.Distiller(teacher, student, losses, student_loss_weight=0.0)
    distiller.compile(
        keras.optimizers.SGD(RECIPE.stage1_learning_rates[0], global_clipnorm=STAGE1_CLIPNORM, **sgd_options),
        loss="mse",  # Distiller requires a loss of the labels; its weight is 0 here
    )
    only_images = stream.map(lambda images, labels: images)
    distiller.fit(only_images, verbose=0, callbacks=[TimedSteps(timer, "distillation_loss")])


def multiply_matrices(timer: StepTimer, side: int) -> None:
    """Multiplies float32 matrices (side, side) until the timer stops; one product is a step."""
    first, second = (tf.random.stateless_uniform([side, side], [0, number]) for number in (1, 2))
    while timer.step_done(float(tf.matmul(first, second)[0, 0])):
        pass
