"""Summary of the training benchmark: medians, ratios and the printed table."""

import dataclasses
import statistics

from benchmarks.contenders import CONTENDERS, Workload
from benchmarks.interleaved_timing import Round, median, median_ratio

FASTER, COST = "times as fast", "times the cost"
MATRIX_PRODUCT, MATRIX_SIDE = "matrix_product", 2048  # the machine's peak: a worker, but not a contender


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A ratio of two contenders' times per step, or of their peak memory.

    Attributes:
        name: Key in the JSON file.
        numerator: Contender above the line.
        denominator: Contender below the line.
        unit: FASTER compares the denominator's speed, COST the numerator's time or memory.
        meaning: Description in words.
        of_memory: Whether to compare peak memory.
    """

    name: str
    numerator: str
    denominator: str
    unit: str
    meaning: str
    of_memory: bool = False

    def in_bfloat16(self) -> "Ratio":
        """Returns the same ratio of the bfloat16 contenders."""
        names = {key: f"{getattr(self, key)}_bfloat16" for key in ("name", "numerator", "denominator")}
        return dataclasses.replace(self, meaning=f"{self.meaning}, bfloat16", **names)


FLOAT32_RATIOS = (
    Ratio("plain_vs_keras", "keras_plain", "plain", FASTER, "plain training, fsp_tf against stock Keras"),
    Ratio("plain_vs_torch", "torch_plain", "plain", FASTER, "plain training, fsp_tf against PyTorch"),
    Ratio("stage1_vs_keras", "keras_distiller", "stage1_live", FASTER, "stage 1 live, fsp_tf against stock Distiller"),
    Ratio("stage1_vs_torch", "torch_stage1", "stage1_live", FASTER, "stage 1 live, fsp_tf against PyTorch"),
    Ratio("stored_vs_live", "stage1_live_26_8", "stage1_stored_26_8", FASTER, "small student, stored against live"),
    Ratio("stage1_live_vs_plain", "stage1_live", "plain", COST, "stage 1 live against plain training"),
    Ratio("stage1_stored_vs_plain", "stage1_stored", "plain", COST, "stage 1 stored against plain training"),
    Ratio(
        "stage1_memory_vs_plain", "stage1_live", "plain", COST, "memory of stage 1 live against plain training", True
    ),
)
RATIOS = (
    *FLOAT32_RATIOS,
    *(ratio.in_bfloat16() for ratio in FLOAT32_RATIOS),
    Ratio("plain_bfloat16_vs_float32", "plain", "plain_bfloat16", FASTER, "plain training, bfloat16 against float32"),
    Ratio(
        "stage1_bfloat16_vs_float32",
        "stage1_live",
        "stage1_live_bfloat16",
        FASTER,
        "stage 1 live, bfloat16 against float32",
    ),
)


def summarize(rounds: list[Round], memory_bytes: dict[str, int], workload: Workload) -> dict:
    """Returns the computed part of the JSON file: the contenders' rows, the machine's peak and the ratios.

    Args:
        rounds: Seconds per step by contender, and of a matrix product.
        memory_bytes: Peak memory by contender.
        workload: The models and batches that they trained.
    """
    rows = {}
    for contender in CONTENDERS:
        if contender.name in rounds[0]:
            seconds = median(rounds, contender.name)
            images_per_second = workload.batch_size / seconds
            rows[contender.name] = {
                "title": contender.title(workload.depth),
                "images_per_second": images_per_second,
                "seconds_per_step": seconds,
                "interquartile_seconds": interquartile_range([values[contender.name] for values in rounds]),
                "peak_memory_bytes": memory_bytes[contender.name],
                "flops_per_second": contender.flops_per_image(workload) * images_per_second,
            }
    ratios = {
        ratio.name: median_ratio([memory_bytes] if ratio.of_memory else rounds, ratio.numerator, ratio.denominator)
        for ratio in RATIOS
    }
    best_product = min(values[MATRIX_PRODUCT] for values in rounds)
    return {
        "contenders": rows,
        "matrix_product_flops_per_second": 2 * MATRIX_SIDE**3 / best_product,
        "ratios": ratios,
    }


def interquartile_range(values: list[float]) -> float:
    """Returns the third quartile minus the first; 0 for a single value."""
    if len(values) == 1:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return third - first


def table(summary: dict) -> str:
    """Formats a row per contender, the machine's peak, and the ratios that were measured."""
    peak = summary["matrix_product_flops_per_second"]
    lines = [f"{'contender':<58} {'images/s':>8} {'ms/step':>8} {'IQR':>7} {'GFLOP/s':>8} {'of peak':>8} {'MB':>7}"]
    for row in summary["contenders"].values():
        lines.append(
            f"{row['title']:<58} {row['images_per_second']:>8,.0f} {row['seconds_per_step'] * 1e3:>8,.1f} "
            f"{row['interquartile_seconds'] * 1e3:>7,.1f} {row['flops_per_second'] / 1e9:>8,.0f} "
            f"{row['flops_per_second'] / peak:>8.1%} {row['peak_memory_bytes'] / 1e6:>7,.0f}"
        )
    lines += [
        "",
        f"Peak: {peak / 1e9:,.0f} GFLOP/s in a float32 matrix product. IQR: interquartile range of the rounds in ms.",
        "MB: peak memory of the process on the host.",
        "",
    ]
    for ratio in RATIOS:
        value = summary["ratios"][ratio.name]
        if value is not None:
            lines.append(f"{ratio.name:<31} {value:>5.2f} {ratio.unit:<14}  {ratio.meaning}")
    return "\n".join(lines)
