#!/usr/bin/env python3
"""Compares this program with the reference on random small runs.

Run by hand; needs the reference (Dynamo 1.4.2) installed in a virtual environment, $DYNOSIM_REFERENCE or
~/.cache/dynosim-reference, and the release binary:

    cargo build --release
    ~/.cache/dynosim-reference/bin/python tests/differential.py --cases 500 --seed 1

Every case is a trace of a few requests and random settings, drawn from the seed and the case's number alone. The
reference runs in a copy of this process, ours as a command. Request rows and reports are compared with the tolerances of the
parity tests. For a case that differs, the first difference and a folder with trace, command and all outputs are
printed; `--case N` runs that case alone. Where the reference raises an error, ours must exit with an error too; where it
never ends, there is nothing to compare with and the case is counted as such. Exits with 1 when a case differs.
"""

import argparse
import collections
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import shlex
import shutil
import subprocess
import sys
import tempfile

# The reference logs what its router decides; read once when it is imported.
os.environ.setdefault("DYN_LOG", "error,dynamo_kv_router::scheduling::selector=debug")

import differential_router as router  # noqa: E402

REFERENCE = pathlib.Path(os.environ.get("DYNOSIM_REFERENCE", pathlib.Path.home() / ".cache/dynosim-reference"))
ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT_S = 30
HOST_KEYS = {"wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"}
SKETCHED = ("_itl_ms", "_output_token_throughput_per_user")
PERCENTILES = ("median", "p75", "p90", "p95", "p99")
ENGINE_FLAGS = ("extra-engine-args", "prefill-engine-args", "decode-engine-args")


# --- drawing a case -------------------------------------------------------------------------------------------------


def draw_trace(rng, trace_block, delta):
    """A few prompts that share beginnings, alone or as turns of sessions."""
    count = rng.choice([1, 2, 3, 5, 8, 13, 20, 40])
    spread = rng.choice([0, 5, 50, 500, 5000])
    whole = rng.random() < 0.5
    with_sessions = delta or rng.random() < 0.35
    families = [[rng.randrange(1000) for _ in range(6)] for _ in range(rng.choice([1, 2, 4]))]
    longest = rng.choice([1, 2, 4, 6])
    outputs = rng.choice([[1, 2, 3], [0, 1, 2, 5], [4, 20, 60], [30, 100, 250]])
    rows, turns, fresh = [], collections.Counter(), 10_000
    arrivals = sorted(rng.uniform(0, spread) for _ in range(count))
    for arrival in arrivals:
        blocks = rng.randint(1, longest)
        shared = rng.randint(0, blocks)
        ids = rng.choice(families)[:shared]
        while len(ids) < blocks:
            fresh += 1
            ids.append(fresh)
        tokens = (blocks - 1) * trace_block + rng.choice([1, trace_block, rng.randint(1, trace_block)])
        row = {"input_length": tokens, "output_length": rng.choice(outputs), "hash_ids": ids}
        at = round(arrival) if whole else round(arrival, rng.choice([1, 3, 6]))
        if with_sessions and (delta or rng.random() < 0.7):
            session = f"s{rng.randrange(max(1, count // 3))}"
            row["session_id"] = session
            if turns[session] == 0:
                row["timestamp"] = at
            elif rng.random() < 0.6:
                row["delay"] = rng.choice([0, 1, 10.5, 100, rng.uniform(0, 300)])
            else:
                row["timestamp"] = at
            turns[session] += 1
        else:
            row["timestamp"] = at
        rows.append(row)
    return rows


def draw_engine(rng, longest_prompt, block, role):
    """Settings of one engine; pools from too small for the longest prompt to plenty."""
    engine = {"block_size": block}
    need = max(1, -(-longest_prompt // block))
    pool = rng.choice([None, need + 1, need + 4, 2 * need, 3 * need + 5, 8 * need, max(1, need - 1)])
    if pool is not None:
        engine["num_gpu_blocks"] = pool
    if role:
        engine["worker_type"] = role
    if rng.random() < 0.3:
        engine["preemption_mode"] = rng.choice(["lifo", "fifo"])
    if rng.random() < 0.3:
        engine["enable_prefix_caching"] = rng.random() < 0.3
    if rng.random() < 0.3:
        engine["enable_chunked_prefill"] = rng.random() < 0.4
    if rng.random() < 0.4:
        engine["max_num_batched_tokens"] = rng.choice([16, 64, 128, 500, 2048])
    if rng.random() < 0.4:
        engine["max_num_seqs"] = rng.choice([1, 2, 3, 8])
    if rng.random() < 0.2:
        engine["max_model_len"] = longest_prompt + rng.choice([-10, 0, 1, 5, 50])
        engine["max_model_len"] = max(1, engine["max_model_len"])
    if rng.random() < 0.25:
        engine["speedup_ratio"] = rng.choice([0.0, 0.5, 2.0, 3.7])
    if rng.random() < 0.2:
        engine["aic_nextn"] = rng.randint(1, 3)
        if rng.random() < 0.7:
            engine["aic_nextn_accept_rates"] = ",".join(
                str(rng.choice([0, 0.3, 0.5, 0.85, 1])) for _ in range(engine["aic_nextn"])
            )
    elif rng.random() < 0.25:
        engine["decode_speedup_ratio"] = rng.choice([0.5, 1.7])
    return engine


def draw_case(seed, number):
    """Flags (without dashes) and trace rows of a case."""
    rng = random.Random(f"{seed}/{number}")
    trace_block = rng.choice([16, 64, 100, 512])
    delta = rng.random() < 0.12
    rows = draw_trace(rng, trace_block, delta)
    longest = max(row["input_length"] for row in rows)
    block = rng.choice([size for size in (4, 16, 48, 64, 512) if longest / size < 2000])
    flags = {"trace-block-size": trace_block}
    if delta:
        flags["trace-format"] = "mooncake-delta"
    if delta or rng.random() < 0.5:
        engine = draw_engine(rng, longest, block, None)
        if rng.random() < 0.2:
            engine["dp_size"] = rng.randint(2, 3)
        flags["extra-engine-args"] = engine
        flags["num-workers"] = rng.randint(1, 4)
    else:
        prefill, decode = (draw_engine(rng, longest, block, role) for role in ("prefill", "decode"))
        if rng.random() < 0.6:
            transfer = {
                "kv_bytes_per_token": rng.choice([1000, 100_000, 131_072]),
                "kv_transfer_bandwidth": rng.choice([0.5, 2.0, 10.0]),
                "kv_transfer_timing_mode": rng.choice(["full_prompt", "destination_missing"]),
            }
            prefill.update(transfer)
            if rng.random() < 0.5:
                decode.update(transfer)
        flags["prefill-engine-args"], flags["decode-engine-args"] = prefill, decode
        flags["num-prefill-workers"], flags["num-decode-workers"] = rng.randint(1, 3), rng.randint(1, 3)
    if rng.random() < 0.3:
        flags["replay-concurrency"] = rng.choice([1, 2, 3, 8])
    if rng.random() < 0.2:
        flags["arrival-speedup-ratio"] = rng.choice([0.5, 2.0, 4.0])
    if rng.random() < 0.15:
        flags["max-sim-time-seconds"] = rng.choice([0.05, 0.3, 2.0])
    if rng.random() < 0.2:
        flags["sla-ttft-ms"] = rng.choice([20.0, 100.0])
        flags["sla-e2e-ms"] = rng.choice([50.0, 1000.0])
    return flags, rows


# --- running it -----------------------------------------------------------------------------------------------------


def reference_process(flags, folder):
    """Writes report and rows, or the error, to the folder."""
    log = os.open(folder / "reference.stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    from dynamo.mocker import MockEngineArgs
    from dynamo.replay import run_trace_replay

    options = {name.replace("-", "_"): value for name, value in flags.items()}
    if "max_sim_time_seconds" in options:
        options["max_sim_time_ms"] = options.pop("max_sim_time_seconds") * 1000.0
    try:
        for name in ENGINE_FLAGS:
            if name in flags:
                options[name.replace("-", "_")] = MockEngineArgs.from_json(json.dumps(flags[name]))
        router.reference_options(options)
        rows = folder / "reference.jsonl"
        report = run_trace_replay([str(folder / "trace.jsonl")], report_jsonl_path=str(rows), **options)
        (folder / "reference.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    # Dead ends and bad input are plain exceptions; a panic of native code derives from BaseException.
    except BaseException as problem:  # noqa: BLE001
        (folder / "reference.error").write_text(f"{type(problem).__name__}: {problem}\n")


def run_reference(flags, folder):
    """Report, rows and error of the reference; all None when it does not end."""
    # A fork starts at once, and unlike a thread it can be ended from outside.
    process = multiprocessing.get_context("fork").Process(target=reference_process, args=(flags, folder))
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return None, None, None
    error = folder / "reference.error"
    if error.is_file():
        return None, None, error.read_text().strip()
    if not (folder / "reference.json").is_file():
        return None, None, f"ended with code {process.exitcode}"
    return json.loads((folder / "reference.json").read_text()), read_rows(folder / "reference.jsonl"), None


def command(binary, flags, folder):
    words = [str(binary), "replay", str(folder / "trace.jsonl")]
    for name, value in flags.items():
        words += [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return words + ["--report-json", str(folder / "ours.json"), "--report-jsonl", str(folder / "ours.jsonl")]


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- comparing ------------------------------------------------------------------------------------------------------


def close(wanted, got, absolute, relative):
    if wanted is None or got is None or isinstance(wanted, str):
        return wanted == got
    if isinstance(wanted, int):
        return wanted == got
    return abs(wanted - got) <= absolute + relative * abs(wanted)


def order(row):
    """Equal arrivals have no order of their own in the reference (random ids), so every value takes part."""
    first = (row["arrival_time_ms"], row["session_id"] or "", row["turn_index"] or 0, row["input_length"])
    rest = (round(v, 4) if isinstance(v, float) else v for v in row.values())
    return (*first, *((v is None, str(type(v)), v or 0) if not isinstance(v, str) else (False, "s", v) for v in rest))


def row_differences(wanted, got, ignored=("uuid",)):
    wanted, got = ([{k: v for k, v in row.items() if k not in ignored} for row in rows] for rows in (wanted, got))
    if len(wanted) != len(got):
        yield f"{len(wanted)} rows in the reference, {len(got)} in ours"
    for index, (a, b) in enumerate(zip(sorted(wanted, key=order), sorted(got, key=order))):
        for key in a:
            if not close(a.get(key), b.get(key), 1e-6, 1e-9):
                yield f"row {index} (arrival {a['arrival_time_ms']}) {key}: reference {a.get(key)}, ours {b.get(key)}"


def report_differences(wanted, got):
    for key, value in sorted(wanted.items()):
        if key in HOST_KEYS:
            continue
        sketched = key.endswith(SKETCHED) and key.startswith(PERCENTILES)
        absolute = 1e-6 if key.endswith(("_ms", "_per_user")) else 1e-12
        if not close(value, got.get(key), absolute, 2e-3 if sketched else 1e-6):
            yield f"report {key}: reference {value}, ours {got.get(key)}"


def compare(flags, rows, binary, folder):
    """Outcome of a case: a word for the summary, and the first difference."""
    for stale in folder.glob("reference.*"):
        stale.unlink()
    (folder / "trace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = command(binary, flags, folder)
    if "router-mode" in flags:
        words += ["--decisions", str(folder / "ours.decisions.jsonl")]
    (folder / "command.txt").write_text(shlex.join(words) + "\n")
    report, wanted, error = run_reference(flags, folder)
    try:
        ours = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return "different", f"ours did not end within {TIMEOUT_S} s"
    (folder / "ours.stderr").write_text(ours.stderr)
    if report is None and error is None:
        return "without end in the reference", f"ours exits with {ours.returncode}"
    if error is not None:
        if "router-mode" in flags and ours.returncode == 0:
            # The way ties go may lead into a dead end or not.
            seeds = (subprocess.run([*words, "--router-seed", str(s)], capture_output=True) for s in range(router.SEEDS))
            if any(run.returncode == 1 for run in seeds):
                return "dead end in both with another seed", ""
        kinds = {1: "dead end in both", 2: "refused by both"}
        return kinds.get(ours.returncode, "different"), f"exit code {ours.returncode}, but the reference raised: {error}"
    if "and a burst do not fit" in ours.stderr or "comes back without end" in ours.stderr:
        # Where speculation outgrows the pool the reference preempts and readmits for ever; a cap may end that.
        return "given up by ours, repeated without end by the reference", ""
    if ours.returncode != 0:
        return "different", f"ours exits with {ours.returncode}: {ours.stderr.strip()[-300:]}"
    if "router-mode" in flags:
        return compare_routed(flags, words, report, wanted, folder)
    difference = first_difference(report, wanted, folder)
    return ("different", difference) if difference else ("equal", "")


def first_difference(report, rows, folder, ignored=("uuid",)):
    """The first difference between the reference and what ours wrote, or nothing."""
    ours, ours_rows = json.loads((folder / "ours.json").read_text()), read_rows(folder / "ours.jsonl")
    differences = itertools.chain(row_differences(rows, ours_rows, ignored), report_differences(report, ours))
    return next(differences, None)


def compare_routed(flags, words, report, rows, folder):
    """Tries seeds until all agrees; see differential_router.py."""
    # Equal workers may have changed places.
    ignored = ("uuid", "prefill_worker_idx", "decode_worker_idx")
    theirs = router.reference_decisions((folder / "reference.stderr").read_text())
    engines = [flags[name] for name in ENGINE_FLAGS if name in flags]
    # Ranks of a worker wait for each other, and workers draw accepted tokens from streams of their own.
    alike = all(engine.get("dp_size", 1) == 1 and "aic_nextn" not in engine for engine in engines)
    difference, best = None, -1
    for seed in range(router.SEEDS):
        subprocess.run([*words, "--router-seed", str(seed)], capture_output=True, text=True, timeout=TIMEOUT_S)
        outcome = first_difference(report, rows, folder, ignored)
        index, text, after_tie = router.first_difference(theirs, router.our_decisions(folder / "ours.decisions.jsonl", alike))
        if outcome is None and not text:
            return ("equal", "") if seed == 0 else ("equal with another seed", "")
        if not after_tie:
            return "different", text or outcome
        if index > best:
            difference, best = text or outcome, index
    return "equal up to a tie", difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="run this case of the seed only")
    parser.add_argument("--router", choices=("never", "some", "always"), default="some", help="cases with a KV router")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/dynosim")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for cases that differ (default: a temporary one)")
    args = parser.parse_args()
    try:
        import dynamo.replay  # noqa: F401
    except ImportError:
        sys.exit(f"the reference is not importable; run this script with {REFERENCE}/bin/python")
    if not args.binary.is_file():
        sys.exit(f"{args.binary} is missing; build it with cargo build --release")
    keep = args.keep or pathlib.Path(tempfile.mkdtemp(prefix="dynosim-differential-"))
    keep.mkdir(parents=True, exist_ok=True)
    summary = collections.Counter()
    for number in [args.case] if args.case is not None else range(args.cases):
        flags, rows = draw_case(args.seed, number)
        folder = keep / f"{args.seed}-{number}"
        folder.mkdir(exist_ok=True)
        rng = random.Random(f"{args.seed}/{number}/router")
        if rng.random() < {"never": 0.0, "some": 0.5, "always": 1.0}[args.router]:
            router.draw_router(rng, flags, rows, folder)
        word, difference = compare(flags, rows, args.binary, folder)
        summary[word] += 1
        if word == "different":
            print(f"case {number}: {difference}\n    {folder}", flush=True)
        elif args.case is None:
            shutil.rmtree(folder)
    print(f"{sum(summary.values())} cases: " + ", ".join(f"{n} {word}" for word, n in sorted(summary.items())))
    sys.exit(1 if summary["different"] else 0)


if __name__ == "__main__":
    main()
