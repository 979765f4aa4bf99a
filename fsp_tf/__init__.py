"""Knowledge distillation by the flow of the solution procedure (Yim et al., CVPR 2017), on Keras and TensorFlow."""

from fsp_tf.system.errors import UserError

__all__ = ["UserError", "distill"]
__version__ = "0.2.0"


def distill(teacher, student, train, test, *, run_dir, labeled=None, class_names=None, callbacks=(), **choices):
    """Distills a student from a trained teacher: baseline, stage 1, stage 2 and export, like `python -m fsp_tf.main`.

    The same call resumes an interrupted run. The run's folder holds the usual files of a run and the two given models.
    Without a GPU, the first call makes TensorFlow deterministic until the process ends, which cannot be undone;
    `deterministic=False` avoids that. If the logger `fsp_tf` has
    no handler, it gets one that prints progress.

    Args:
        teacher: A trained functional or sequential Keras classifier of images from 0 to 255; or
            `keras.applications:NAME`, an architecture with ImageNet weights, which is also fine-tuned.
        student: An untrained classifier of the same images and classes; it is not changed.
        train: The training images: arrays `(images, labels)`, a finite `tf.data.Dataset` of such batches, which is read
            once, or a set of `fsp_tf.data.load_split`. Images are (number, height, width, channels) from 0 to 255,
            rounded to whole numbers; labels are integers (number,) or (number, 1).
        test: The test images, in the same form.
        run_dir: The run's folder.
        labeled: The images of stage 2, the student from scratch and fine-tuning, in the same form. The labels of
            `train` are then not used, and can be None. Default: `train`.
        class_names: Names of the classes for the record, the model card and the served answers. Default: those that
            `labeled`, or else `train`, has, otherwise 0, 1, ...
        callbacks: Keras callbacks for every phase, which is one epoch of `fit`.
        **choices: Any flag of `python -m fsp_tf.main` by its name, such as `stage2_steps=6400` or
            `baseline=False`, except those that name data. By default the program finds the pairs of layers, and stage 1
            and stage 2 have as many epochs as in the paper.
    Returns:
        An object with `student`, the distilled Keras model, `result`, the record of the run, `folder`, and
        `export(formats)`.
    Raises:
        UserError: If a model, the images or a choice are invalid; before any training.

    Example:
        run = fsp_tf.distill(teacher, student, (train_images, train_labels), (test_images, test_labels), run_dir="run")
        print(run.result["student_accuracy"], run.result["baseline_accuracy"])
        run.export(formats=["saved_model", "litert"])
    """
    from fsp_tf.runs import distill_models  # here, so that `import fsp_tf` is light

    own = {"run_dir": run_dir, "labeled": labeled, "class_names": class_names, "callbacks": callbacks}
    with distill_models.random_states_kept():
        return distill_models.distill(teacher, student, train, test, **own, **choices)
