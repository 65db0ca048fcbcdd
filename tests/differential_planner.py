#!/usr/bin/env python3
"""Random runs with a planner in the loop, of the reference and of ours, compared in events, ticks and report.

    python tests/differential_planner.py --trace TRACE --seed 1 --cases 30

The reference is found as in differential.py. Only what the reference repeats is drawn: round robin, predictors without a
statistics library, and as many samples kept as there are.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

REFERENCE = pathlib.Path(os.environ.get("DYNOSIM_REFERENCE", pathlib.Path.home() / ".cache/dynosim-reference"))
ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST_KEYS = {"wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"}
PERCENTILES = ("median", "p75", "p90", "p95", "p99")
EVENT = re.compile(r"t=([\d.]+)s \[(\w+)\]: (\d+) -> (\d+) workers")
TIMEOUT_S = 180


def draw_engine(rng, role, scheduler):
    engine = {"block_size": rng.choice([16, 64, 128]), "num_gpu_blocks": 0}
    engine["num_gpu_blocks"] = rng.choice([300_000, 640_000, 1_280_000]) // engine["block_size"]
    if rng.random() < 0.6:
        engine["startup_time"] = rng.choice([0.5, 5, 11.5, 20, 45, 90])
    if rng.random() < 0.3:
        engine["max_num_seqs"] = rng.choice([16, 64])
    if rng.random() < 0.3:
        engine["max_num_batched_tokens"] = rng.choice([2048, 4096, 16384])
    if scheduler != "vllm":
        engine["engine_type"] = scheduler
    if scheduler == "sglang" and rng.random() < 0.6:
        engine["sglang"] = {
            "chunked_prefill_size": rng.choice([2048, 8192]),
            "schedule_policy": rng.choice(["fifo", "lpm"]),
            "schedule_conservativeness": rng.choice([0.3, 1.0]),
        }
    if rng.random() < 0.3:
        engine["speedup_ratio"] = rng.choice([0.5, 2.0])
    if rng.random() < 0.2:
        engine["aic_tp_size"] = 2
    if role is None:
        if rng.random() < 0.2:
            engine["dp_size"] = 2
        if scheduler == "vllm" and rng.random() < 0.2:
            engine.update({"aic_nextn": 2, "aic_nextn_accept_rates": rng.choice(["0.8,0.5", "1,1"])})
    else:
        engine["worker_type"] = role
        if scheduler == "vllm" and rng.random() < 0.5:
            engine["max_model_len"] = 131_072
    return engine


def draw_planner(rng, mode):
    target = rng.choice(["sla", "sla", "sla", "throughput", "latency", "load"])
    planner = {"mode": mode, "optimization_target": target, "pre_deployment_sweeping_mode": "none"}
    planner["max_gpu_budget"] = rng.choice([-1, 4, 8, 16])
    if rng.random() < 0.3:
        planner["min_gpu_budget"] = rng.choice([2, 4])
    if rng.random() < 0.2:
        planner["min_endpoint"] = 2
    load = rng.choice([2, 5, 10])
    planner["load_adjustment_interval_seconds"] = load
    if target == "sla":
        planner.update({"ttft_ms": rng.choice([300, 1000, 3000]), "itl_ms": rng.choice([15, 30, 60, 100])})
        loops = rng.choice(["load", "throughput", "both"])
        planner["enable_load_scaling"] = loops != "throughput"
        planner["enable_throughput_scaling"] = loops != "load"
        planner["throughput_adjustment_interval_seconds"] = load * rng.choice([3, 6, 12])
        planner["load_predictor"] = rng.choice(["constant", "kalman"])
        planner["load_predictor_log1p"] = rng.random() < 0.3
        planner["max_num_fpm_samples"] = 4096
        planner["load_min_observations"] = rng.choice([3, 5, 8])
        planner["fpm_sample_bucket_size"] = rng.choice([4, 16, 25])
        planner["load_scaling_down_sensitivity"] = rng.choice([50, 80, 100])
    if target == "load":
        if mode == "disagg":
            planner.update({"prefill_scale_up_queue_tokens": 30_000, "prefill_scale_down_queue_tokens": 1_000})
        planner.update({"decode_scale_up_kv_rate": rng.choice([40, 70]), "decode_scale_down_kv_rate": rng.choice([10, 25])})
    return planner


def draw_case(seed, number, scheduler):
    """Flags, and how many rows of the trace."""
    name = "planner" if scheduler == "vllm" else scheduler
    rng = random.Random(f"{seed}/{number}/{name}")
    # TensorRT-LLM has no hand-off.
    mode = rng.choice(["agg", "agg", "agg" if scheduler == "trtllm" else "disagg"])
    flags = {"planner-config": draw_planner(rng, mode)}
    if mode == "agg":
        flags["extra-engine-args"] = draw_engine(rng, None, scheduler)
        flags["num-workers"] = rng.randint(1, 3)
    else:
        prefill, decode = (draw_engine(rng, role, scheduler) for role in ("prefill", "decode"))
        decode["block_size"] = prefill["block_size"]
        flags.update({"prefill-engine-args": prefill, "decode-engine-args": decode})
        flags["num-prefill-workers"], flags["num-decode-workers"] = rng.randint(1, 2), rng.randint(1, 2)
    if rng.random() < 0.3:
        flags["arrival-speedup-ratio"] = rng.choice([0.5, 1.5, 2.0])
    return flags, rng.choice([200, 500, 900])


def run(words, flags, trace, folder, name):
    command = [*map(str, words), str(trace)]
    for flag, value in flags.items():
        if flag == "planner-config":
            value = {**value, "report_output_dir": str(folder / name)}
        command += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    command += ["--report-json", str(folder / f"{name}.json")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=folder)
    except subprocess.TimeoutExpired:
        return None, None, "without end"
    if done.returncode != 0:
        return None, None, (done.stderr.strip().splitlines() or ["nothing said"])[-1]
    events = EVENT.findall(done.stdout)
    ticks = re.search(r"Planner ticks: (\d+)", done.stdout)
    report = json.loads((folder / f"{name}.json").read_text())
    return report, (events, ticks and ticks.group(1)), None


def difference(wanted, got):
    (report, (events, ticks)), (ours, (our_events, our_ticks)) = wanted, got
    if events != our_events:
        index = next((i for i, (a, b) in enumerate(zip(events, our_events)) if a != b), min(len(events), len(our_events)))
        return f"event {index}: reference {events[index:index + 2]}, ours {our_events[index:index + 2]}"
    if ticks != our_ticks:
        return f"ticks: reference {ticks}, ours {our_ticks}"
    for key, value in report.items():
        if key in HOST_KEYS or not isinstance(value, (int, float)):
            continue
        sketched = key.startswith(PERCENTILES) and ("_itl_ms" in key or "per_user" in key)
        tolerance = 2e-3 if sketched else 1e-6
        if not isinstance(ours.get(key), (int, float)) or abs(value - ours[key]) > 1e-9 + tolerance * abs(value):
            return f"report {key}: reference {value}, ours {ours.get(key)}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=pathlib.Path, required=True, help="a Mooncake trace of at least 900 rows")
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("vllm", "sglang", "trtllm"), default="vllm")
    parser.add_argument("--case", type=int, help="run this case of the seed only")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/dynosim")
    args = parser.parse_args()
    python = REFERENCE / "bin/python"
    if not python.exists():
        sys.exit(f"no reference at {REFERENCE}; set DYNOSIM_REFERENCE")
    rows = args.trace.read_text().splitlines(keepends=True)
    keep = pathlib.Path(tempfile.mkdtemp(prefix="dynosim-planner-"))
    summary = collections.Counter()
    for number in [args.case] if args.case is not None else range(args.cases):
        flags, count = draw_case(args.seed, number, args.engine)
        folder = keep / str(number)
        folder.mkdir()
        trace = folder / "trace.jsonl"
        trace.write_text("".join(rows[:count]))
        report, seen, error = run([python, "-m", "dynamo.replay"], flags, trace, folder, "reference")
        ours, our_seen, our_error = run([args.binary.resolve(), "replay"], flags, trace, folder, "ours")
        if error or our_error:
            word = "refused by both" if error and our_error else "different"
            text = f"reference: {error}; ours: {our_error}"
        else:
            text = difference((report, seen), (ours, our_seen))
            word = "different" if text else "equal"
        summary[word] += 1
        if word != "equal":
            print(f"case {number}: {word}: {text}\n    {json.dumps(flags)} rows {count}\n    {folder}", flush=True)
    print(f"{sum(summary.values())} cases:", ", ".join(f"{n} {word}" for word, n in sorted(summary.items())))
    sys.exit(1 if summary["different"] else 0)


if __name__ == "__main__":
    main()
