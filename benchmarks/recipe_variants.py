"""The variants of a CIFAR-10 recipe that `recipe_search` compares, by question: their flags, added to the recipe."""

TEACHER, BASELINE = ("--pipeline=teacher",), ("--pipeline=baseline",)
EQUAL = "--stage2_steps="  # so many that the multiply-adds after the teacher are those of the recipe
KD = ("--method=kd", EQUAL)
LIVE = ("--kd_store_views=0",)
STAGE2_FLAGS = ("--stage2_", "--kd_", "--labeled_images", "--label_smoothing", "--ema")  # those that stage 1 ignores
SEARCH: dict[str, dict[str, tuple[str, ...]]] = {  # by question: the flags of each answer, added to the recipe
    "recipe": {"teacher": TEACHER, "student from scratch": BASELINE, "student distilled": ()},
    "teacher": {
        "peak rate 0.1": (*TEACHER, "--teacher_learning_rates=0.1"),
        "peak rate 0.4": (*TEACHER, "--teacher_learning_rates=0.4"),
        "weight decay 0.0002": (*TEACHER, "--teacher_weight_decay=0.0002"),
        "weight decay 0.001": (*TEACHER, "--teacher_weight_decay=0.001"),
        "without flips": (*TEACHER, "--noteacher_flip"),
        "batch of 64": (*TEACHER, "--batch_size=64", "--teacher_steps=12000"),
        "averaged weights": (*TEACHER, "--ema=0.998"),
    },
    "method": {
        "FSP, then labels": ("--stage2_loss=cross_entropy", *LIVE),
        "soft targets": KD,
        "FSP by Adam, then soft targets": ("--stage1_optimizer=adam", "--stage1_learning_rates=0.01"),
        "FSP, then soft targets and FSP with a falling weight": ("--stage2_fsp_weights=1,0", *LIVE),
    },
    "views with stored logits": {
        "1": ("--kd_store_views=1",),
        "16": ("--kd_store_views=16",),
        "live teacher": LIVE,
    },
    "peak rate": {f"{rate}": (f"--stage2_learning_rates={rate}",) for rate in (0.05, 0.1, 0.5)},
    "weight decay": {f"{decay}": (f"--weight_decay={decay}",) for decay in (5e-5, 1e-4, 5e-4)},
    "augmentation": {"flip": ("--flip",)},
    "batch of 64, as many images": {
        f"peak rate {rate}": (
            *("--batch_size=64", "--stage1_steps=2624", "--stage2_steps=31000", "--warmup_steps=800"),
            f"--stage2_learning_rates={rate}",
        )
        for rate in (0.15, 0.3)
    },
    "temperature": {f"{value}": (f"--kd_temperature={value}",) for value in (2, 6)},
    "weight of the soft targets": {f"{value}": (f"--kd_weights={value},{value}",) for value in (0.5, 1)},
    "steps of stage 1, of the same multiply-adds": {
        "656": ("--stage1_steps=656", EQUAL),
        "2,624": ("--stage1_steps=2624", EQUAL),
    },
    "schedule": {
        "without warm-up": ("--warmup_steps=0",),
        "without Nesterov momentum": ("--nonesterov",),
        "label smoothing 0.1": ("--label_smoothing=0.1",),
        "averaged weights": ("--ema=0.998",),
    },
}
UNLABELED = ("--kd_weights=1,1", *LIVE)  # soft targets of all images
DEEP, FEW = ("--student_depth=26", "--stage2_steps=2667"), ("--stage2_steps=2000",)
RESULTS = {  # what FSP contributes (soft targets alone have as many multiply-adds), and what the number format costs
    "without FSP": {"soft targets": KD},
    "ResNet-26 in a third of the steps": {
        "soft targets": (*KD, *DEEP),
        "from scratch": (*BASELINE, *DEEP),
        "FSP, then labels": (*DEEP, "--stage2_loss=cross_entropy", *LIVE),
        "FSP, then soft targets": DEEP,
    },
    **{
        f"{labels:,} labels": {
            "soft targets": (*KD, *FEW, f"--labeled_images={labels}"),
            "from scratch": (*BASELINE, *FEW, f"--labeled_images={labels}"),
            "FSP, then labels": (*FEW, "--stage2_loss=cross_entropy", *LIVE, f"--labeled_images={labels}"),
            "FSP, then soft targets": (*FEW, f"--labeled_images={labels}"),
        }
        for labels in (1_000, 5_000)
    },
    "no labels": {  # of the same work as those with labels
        "soft targets": ("--method=kd", "--stage2_steps=2115", *UNLABELED),
        "FSP, then soft targets": ("--stage2_steps=803", *UNLABELED),
    },
    **{
        f"format of {student} {title}": {
            precision: (*changes, *short, f"--precision={precision}") for precision in ("float32", "mixed_bfloat16")
        }
        for student, short in {"ResNet-8": FEW, "ResNet-26": DEEP}.items()
        for title, changes in {"from scratch": BASELINE, "after FSP": ("--stage2_loss=cross_entropy", *LIVE)}.items()
    },
}
VARIANTS = SEARCH | RESULTS
