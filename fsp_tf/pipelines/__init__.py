"""Which phases run in which order, for each `--pipeline`."""

from fsp_tf import training
from fsp_tf.config import Config
from fsp_tf.pipelines import deliverables, phases
from fsp_tf.pipelines.run import Run

TRAINERS = {
    "teacher": phases.train_teacher,
    "baseline": phases.train_baseline,
    "stage1": phases.train_stage1,
    "stage2": phases.train_stage2,
}


def run_pipeline(config: Config) -> Run:
    """Runs the pipeline that `config` names; finished phases are not run again.

    Raises:
        UserError: If something the user can mend is wrong.
    """
    strategy = training.make_strategy(config.num_virtual_devices)
    run = Run(config, strategy.num_replicas_in_sync)
    names = _phases_of(config)
    phases.check_inputs(run, names)
    run.claim()
    if config.pipeline == "evaluate":
        deliverables.evaluate(run)
    elif config.pipeline == "export":
        deliverables.export(run)
    else:
        for name in names:
            if config.resume and run.phase(name) and run.path(phases.FILES[name]).exists():
                print(f"{name}: finished before", flush=True)
            else:
                TRAINERS[name](run, strategy)
        if config.teacher and "stage1" in names:
            deliverables.evaluate_net(run, "teacher")
        if "stage2" in names:
            deliverables.export(run)
    deliverables.print_summary(run)
    return run


def _phases_of(config: Config) -> list[str]:
    if config.pipeline in ("evaluate", "export"):
        return []
    if config.pipeline in TRAINERS:
        return [config.pipeline]
    teacher = [] if config.teacher else ["teacher"]
    baseline = ["baseline"] if config.baseline else []
    return [*teacher, *baseline, "stage1", "stage2"]
