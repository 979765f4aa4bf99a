"""Which phases run in which order, for each `--pipeline`."""

from fsp_tf import training
from fsp_tf.config import Config
from fsp_tf.errors import UserError
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
    if not names:
        found = deliverables.nets_to_hand_over(run)
        run.claim()
        for name, net in found.items():
            deliverables.evaluate(run, name, net)
        if config.pipeline == "export":
            deliverables.export(run, found["student"])
    else:
        run.claim()
        _train(run, names, strategy)
        if "stage2" in names:
            deliverables.export(run)
    deliverables.print_summary(run)
    return run


def _train(run: Run, names: list[str], strategy) -> None:
    """Runs the phases that have not finished."""
    if run.config.teacher and "stage1" in names and run.evaluates_teacher:
        deliverables.evaluate(run, "teacher", phases.load_teacher(run))
    for number, name in enumerate(names, start=1):
        print(f"\n[{number} of {len(names)}] {name}", flush=True)
        if run.config.resume and run.has_finished(name):
            if run.phase(name)["made_from"] != phases.origin(run, name):
                raise UserError(
                    f"{name} in {run.folder} was made from another net: name the same --teacher or --student, take "
                    f"another --run_dir, or make {name} anew with --pipeline={name} --noresume."
                )
            print(f"{name}: finished before", flush=True)
        else:
            run.begin_phase(name)
            TRAINERS[name](run, strategy)


def _phases_of(config: Config) -> list[str]:
    if config.pipeline in ("evaluate", "export"):
        return []
    if config.pipeline in TRAINERS:
        return [config.pipeline]
    teacher = [] if config.teacher else ["teacher"]
    baseline = ["baseline"] if config.baseline else []
    return [*teacher, *baseline, "stage1", "stage2"]
