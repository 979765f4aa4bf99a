"""What the rounds say: medians, ratios, the JSON file and the printed table."""

import dataclasses
import statistics

from benchmarks.contenders import MATRIX_PRODUCT, MATRIX_SIDE, Contender

FASTER, COST = "times as fast", "times the cost"


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The median over the rounds of one contender's time by another's in the same round.

    Attributes:
        name: Its key in the JSON file.
        numerator: The contender above the line.
        denominator: The contender below it.
        unit: `times as fast`, of the one below the line, or `times the cost`, of the one above it.
        meaning: In words.
        of_memory: Whether it compares the processes' peak memory instead.
    """

    name: str
    numerator: str
    denominator: str
    unit: str
    meaning: str
    of_memory: bool = False

    def value(self, rounds: list[dict[str, float]], memory_bytes: dict[str, int]) -> float | None:
        """None where a contender is absent."""
        measured = [memory_bytes] if self.of_memory else rounds
        if not all(self.numerator in entry and self.denominator in entry for entry in measured):
            return None
        return statistics.median(entry[self.numerator] / entry[self.denominator] for entry in measured)


RATIOS = (
    Ratio("plain_vs_usual", "usual", "plain", FASTER, "plain training, ours against stock Keras"),
    Ratio("plain_vs_torch", "torch_plain", "plain", FASTER, "plain training, ours against PyTorch eager"),
    Ratio("vs_keras_distiller", "keras_distiller", "stage1_live", FASTER, "stage 1 live, ours against stock Distiller"),
    Ratio("fsp_vs_torch", "torch_stage1", "stage1_live", FASTER, "stage 1 live, ours against PyTorch eager"),
    Ratio(
        "stored_vs_live_26_8", "stage1_live_26_8", "stage1_stored_26_8", FASTER, "small student, stored against live"
    ),
    Ratio("bfloat16_vs_float32", "plain", "plain_bfloat16", FASTER, "plain training, mixed_bfloat16 against float32"),
    Ratio(
        "plain_auto_vs_usual", "usual", "plain_bfloat16", FASTER, "plain training, mixed_bfloat16 against stock Keras"
    ),
    Ratio(
        "auto_vs_keras_distiller",
        "keras_distiller",
        "stage1_live_bfloat16",
        FASTER,
        "stage 1 live, mixed_bfloat16 against stock Distiller",
    ),
    Ratio("stage1_live_vs_plain", "stage1_live", "plain", COST, "a step of stage 1 live against plain training"),
    Ratio("stage1_stored_vs_plain", "stage1_stored", "plain", COST, "a step of stage 1 stored against plain training"),
    Ratio(
        "stage1_memory_vs_plain",
        "stage1_live",
        "plain",
        COST,
        "peak memory, stage 1 live against plain training",
        of_memory=True,
    ),
)


def summarize(
    contenders: list[Contender],
    rounds: list[dict[str, float]],
    memory_bytes: dict[str, int],
    batch_size: int,
    depth: int,
) -> dict:
    """The part of the JSON file that is computed: contenders, the machine's peak and the ratios.

    Args:
        contenders: Those measured.
        rounds: Seconds per step by name, and of a matrix product.
        memory_bytes: Peak memory by name.
        batch_size: Images per step.
        depth: Of the deep nets.
    """
    rows = {}
    for contender in contenders:
        seconds = [entry[contender.name] for entry in rounds]
        images_per_second = batch_size / statistics.median(seconds)
        rows[contender.name] = {
            "title": contender.title(depth),
            "images_per_second": images_per_second,
            "seconds_per_step": statistics.median(seconds),
            "interquartile_seconds": interquartile_range(seconds),
            "peak_memory_bytes": memory_bytes[contender.name],
            "flops_per_second": contender.flops_per_image(depth) * images_per_second,
        }
    best_product = min(entry[MATRIX_PRODUCT] for entry in rounds)
    return {
        "contenders": rows,
        "matrix_product_flops_per_second": 2 * MATRIX_SIDE**3 / best_product,
        "ratios": {ratio.name: ratio.value(rounds, memory_bytes) for ratio in RATIOS},
    }


def interquartile_range(values: list[float]) -> float:
    """The third quartile less the first; 0 of a single value."""
    if len(values) == 1:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return third - first


def table(summary: dict) -> str:
    """What is printed: a row per contender, the machine's peak, and the ratios that there are."""
    peak = summary["matrix_product_flops_per_second"]
    lines = [f"{'contender':<54} {'images/s':>8} {'ms/step':>9} {'IQR':>7} {'GFLOP/s':>8} {'of peak':>8} {'MB':>7}"]
    for row in summary["contenders"].values():
        lines.append(
            f"{row['title']:<54} {row['images_per_second']:>8,.0f} {row['seconds_per_step'] * 1e3:>9,.1f} "
            f"{row['interquartile_seconds'] * 1e3:>7,.1f} {row['flops_per_second'] / 1e9:>8,.0f} "
            f"{row['flops_per_second'] / peak:>8.1%} {row['peak_memory_bytes'] / 1e6:>7,.0f}"
        )
    lines += [
        "",
        f"Peak: {peak / 1e9:,.0f} GFLOP/s in a float32 matrix product. IQR: the rounds' interquartile range in ms.",
        "MB: the process's peak memory on the host.",
        "",
    ]
    for ratio in RATIOS:
        value = summary["ratios"][ratio.name]
        if value is not None:
            lines.append(f"{ratio.name:<24} {value:>5.2f} {ratio.unit:<14}  {ratio.meaning}")
    return "\n".join(lines)
