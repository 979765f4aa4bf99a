"""The smallest runs that hold every phase, on digits: what tests of pipelines and of tables start from."""

from fsp_tf.config import Config

RUN = Config(
    dataset="digits",
    train_split="train[:48]",
    eval_split="test[:50]",
    batch_size=16,
    teacher_depth=8,
    student_depth=8,
    teacher_steps=(3, 4, 5),
    stage1_steps=(3, 4, 5),
    fitnet_steps=(3, 5),
    stage2_steps=(3, 4, 5),
    baseline=False,
)
TABLE = (
    *("--train_split=train[:48]", "--eval_split=test[:50]", "--batch_size=16", "--width_multiplier=1"),
    *("--teacher_depth=8", "--student_depth=8", "--checkpoint_steps=2", "--log_steps=2"),
    *("--teacher_steps=4,5,6", "--stage1_steps=3,4,5", "--stage2_steps=3,4,5", "--fitnet_steps=3,5"),
)
