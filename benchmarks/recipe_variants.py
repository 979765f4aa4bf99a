"""The variants of a CIFAR-10 recipe that `recipe_search` compares, by question: their flags, added to the recipe."""

TEACHER, BASELINE = ("--pipeline=teacher",), ("--pipeline=baseline",)
EQUAL = "--stage2_steps="  # so many that the multiply-adds after the teacher are those of the recipe
KD = ("--method=kd", EQUAL)
LIVE = ("--kd_store_views=0",)
BATCH_128 = ("--batch_size=128",)
STAGE2_FLAGS = ("--stage2_", "--kd_", "--labeled_images", "--label_smoothing", "--ema")  # those that stage 1 ignores
PAPER_SCHEDULE = (  # of the student: the paper's rates, each for the paper's share of the recipe's steps
    *("--schedule=step", "--warmup_steps=0"),
    *("--stage1_learning_rates=0.001,0.0001,0.00001", "--stage1_steps=687,1000,1312"),
    *("--stage2_learning_rates=0.1,0.01,0.001", "--stage2_steps=15500,23250,31000"),
)
SEARCH: dict[str, dict[str, tuple[str, ...]]] = {  # by question: the flags of each answer, added to the recipe
    "recipe": {"teacher": TEACHER, "student distilled": (), "student from scratch": BASELINE},
    "steps of the teacher, of the same multiply-adds in all": {
        f"{steps:,}": (f"--teacher_steps={steps}", f"--stage2_steps={student}")
        for steps, student in ((8_000, 49_000), (10_000, 40_000))
    },
    "one choice less": {
        "without FSP": KD,
        "without soft targets": ("--stage2_loss=cross_entropy", *LIVE),
        "soft targets with the paper's loss and weights": ("--kd_form=sum", "--kd_weights=4,1", "--kd_temperature=3"),
        "the paper's step schedule and rates": PAPER_SCHEDULE,
        "without warm-up": ("--warmup_steps=0",),
        "without Nesterov momentum": ("--nonesterov",),
        "without flips": ("--noflip",),
        "without crops": ("--augmentation=none",),
        "crops with 4 black pixels": ("--crop_pixels=4", "--crop_padding=zeros"),
        "without stored views": LIVE,
    },
    "one choice more": {
        "FSP by Adam": ("--stage1_optimizer=adam", "--stage1_learning_rates=0.01"),
        "label smoothing 0.1": ("--label_smoothing=0.1",),
        "averaged weights": ("--ema=0.999",),
    },
    "peak rate": {f"{rate}": (f"--stage2_learning_rates={rate}",) for rate in (0.05, 0.3)},
    "weight decay": {f"{decay}": (f"--weight_decay={decay}",) for decay in (5e-5, 5e-4)},
    "temperature": {f"{value}": (f"--kd_temperature={value}",) for value in (2, 6)},
    "weight of the soft targets": {
        **{f"{value}": (f"--kd_weights={value},{value}",) for value in (0.5, 0.9, 1)},
        "0.9 at first, 0 at last": ("--kd_weights=0.9,0",),
    },
    "steps of stage 1, of the same multiply-adds": {
        "656": ("--stage1_steps=656", EQUAL),
        "5,248": ("--stage1_steps=5248", EQUAL),
    },
}


def crops(pipeline: tuple[str, ...], *choices: tuple[int, str]) -> dict[str, tuple[str, ...]]:
    """Returns the variants of a pipeline with so many pixels of padding of such values."""
    return {
        f"{n} pixels, {values}": (*pipeline, f"--crop_pixels={n}", f"--crop_padding={values}") for n, values in choices
    }


UNLABELED = ("--kd_weights=1,1", *LIVE)  # soft targets of all images
DEEP = ("--student_depth=26", "--stage2_steps=4000", *LIVE)  # a third of those of the fast teacher
SHORT = (*BATCH_128, "--noflip", "--stage2_learning_rates=0.3")
VIEWS = ("--kd_store_views=8",)
FEW, SHORT_DEEP = (*SHORT, "--stage2_steps=2000"), (*SHORT, "--student_depth=26", "--stage2_steps=2667")
RESULTS = {  # what FSP contributes (soft targets alone have as many multiply-adds), and what crops and format cost
    "crops of the student from scratch": crops(BASELINE, (4, "zeros"), (2, "reflect"), (1, "reflect"))
    | {"no crops": (*BASELINE, "--augmentation=none")},
    "crops of the teacher": crops(TEACHER, (4, "zeros"), (2, "reflect")),
    "teachers of the same multiply-adds": {
        f"ResNet-{depth}, width {width}": (
            *TEACHER,
            f"--teacher_depth={depth}",
            f"--width_multiplier={width}",
            f"--teacher_steps={steps}",
        )
        for depth, width, steps in ((14, 1, 24_872), (20, 1, 16_189), (32, 1, 9_533), (14, 2, 6_270))
    },
    "one of two teachers of the same multiply-adds": {"ResNet-26": (*TEACHER, "--teacher_steps=6000")},
    "without FSP": {"soft targets": KD},
    "from scratch, of the same multiply-adds": {  # with those of stage 1 and of the stored logits
        "as the distilled student": (*BASELINE, "--stage2_steps=45907"),
        "as teacher and distilled student": (*BASELINE, "--stage2_steps=99546"),
    },
    "ResNet-26 in few steps": {
        "soft targets": (*KD, *DEEP),
        "from scratch": (*BASELINE, *DEEP),
        "from scratch, of the same multiply-adds": (*BASELINE, *DEEP, "--stage2_steps=7083"),
        "FSP, then labels": (*DEEP, "--stage2_loss=cross_entropy"),
        "FSP, then soft targets": DEEP,
    },
    **{
        f"{labels:,} labels": {
            "soft targets": (*KD, *FEW, *VIEWS, f"--labeled_images={labels}"),
            "from scratch": (*BASELINE, *FEW, f"--labeled_images={labels}"),
            "FSP, then labels": (*FEW, "--stage2_loss=cross_entropy", *LIVE, f"--labeled_images={labels}"),
            "FSP, then soft targets": (*FEW, *VIEWS, f"--labeled_images={labels}"),
        }
        for labels in (1_000, 5_000)
    },
    "no labels": {  # of the same work as those with labels
        "soft targets": ("--method=kd", *SHORT, "--stage2_steps=2115", *UNLABELED),
        "FSP, then soft targets": (*SHORT, "--stage2_steps=803", *UNLABELED),
    },
    **{
        f"format of {student} {title}": {
            precision: (*changes, *short, f"--precision={precision}") for precision in ("float32", "mixed_bfloat16")
        }
        for student, short in {"ResNet-8": FEW, "ResNet-26": SHORT_DEEP}.items()
        for title, changes in {"from scratch": BASELINE, "after FSP": ("--stage2_loss=cross_entropy", *LIVE)}.items()
    },
}
VARIANTS = SEARCH | RESULTS
