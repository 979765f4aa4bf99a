"""Trains small image classifiers by FSP distillation (Yim et al., CVPR 2017).

  fsp-tf --flagfile=demo.cfg
      runs the whole job on handwritten digits, in minutes
  fsp-tf --flagfile=cifar10.cfg
      runs the whole job on CIFAR-10

python -m fsp_tf.main is the same command. Flags after a flagfile override its
values. --verbosity=-1 hides the progress, -2 the warnings too; 1 adds
TensorFlow's log messages.
"""

from absl import flags

from fsp_tf import config
from fsp_tf.config import command_line

config.define_flags()
flags.adopt_module_key_flags(config.flags)


def main(arguments: list[str]) -> None:
    """Runs the pipeline that the flags describe."""
    again = "" if flags.FLAGS.resume else " without --noresume"
    with command_line.exit_on_user_error(f"The same command{again} resumes from the last checkpoint"):
        command_line.reject_arguments(arguments)
        run_config = config.from_flags()
        command_line.prepare_tensorflow()
        from fsp_tf import runs  # imported late: --help and flag errors need no TensorFlow

        runs.run_pipeline(run_config)


def command() -> None:
    """Runs `fsp-tf`."""
    command_line.run(main)


if __name__ == "__main__":
    command()
