"""Runs of the scenario benchmark with figures that are known beforehand."""

from collections.abc import Sequence

from fraud_platform.heal_bench.report import BenchReport
from fraud_platform.heal_bench.results import Policy, RunResult


def bench_run(
    *,
    scenario: str = "cents",
    seed: int = 1,
    policy: str = "diagnosis",
    severity: float = 1.0,
    diagnosed: str | None = "unit_change",
    truth: str = "unit_change",
    harmful: bool = True,
    none: int = 1_000,
    oracle: int = 100,
    cost: int = 150,
    **more: object,
) -> RunResult:
    """One run; money in minor units."""
    return RunResult(
        scenario=scenario,
        seed=seed,
        severity=severity,
        onset="abrupt",
        policy=policy,
        truth_cause=truth,
        harmful=harmful,
        diagnosed=diagnosed,
        cost_minor=cost,
        none_cost_minor=none,
        oracle_cost_minor=oracle,
        **more,  # type: ignore[arg-type]  # fields of the result
    )


HARMLESS = bench_run(
    scenario="season", truth="benign_shift", diagnosed=None, harmful=False, none=100, oracle=100
)


def bench_runs(seeds: Sequence[int] = (101, 102, 103)) -> tuple[RunResult, ...]:
    """Two scenarios of harm and one without, under all policies: ours heals, the others do not."""
    found = []
    for seed in seeds:
        for policy in Policy:
            cost = {"none": 1_000, "retrain_on_drift": 700, "diagnosis": 150, "oracle": 100}[policy]
            ours = policy in (Policy.DIAGNOSIS, Policy.ORACLE)
            quick = {"detection_transactions": 900, "first_aid_transactions": 1_000} if ours else {}
            for scenario, truth in (("incident", "covariate_shift"), ("cents", "unit_change")):
                found.append(
                    bench_run(
                        scenario=scenario,
                        truth=truth,
                        seed=seed,
                        policy=policy,
                        diagnosed=truth if policy == Policy.DIAGNOSIS else None,
                        cost=cost + seed % 7,
                        windows=40,
                        windows_over=0 if ours else 38,
                        worst_window_fpr=0.048 if ours else 0.182,
                        window_fprs=(0.048 if ours else 0.182,) * 40 * (scenario == "incident"),
                        canaries=500,
                        healthy_days=10.0,
                        **quick,
                    )
                )
            found.append(
                bench_run(
                    scenario="season",
                    truth="benign_shift",
                    seed=seed,
                    policy=policy,
                    diagnosed=None,
                    harmful=False,
                    none=100,
                    oracle=100,
                    cost=160 if policy == Policy.RETRAIN_ON_DRIFT else 100,
                    windows=40,
                    healthy_days=10.0,
                )
            )
    return tuple(found)


def bench_report(runs: Sequence[RunResult] | None = None) -> BenchReport:
    """A benchmark of these runs, or of `bench_runs`."""
    results = bench_runs() if runs is None else tuple(runs)
    return BenchReport(commit="0123abc", form="fast", note="Made by hand.", results=results)
