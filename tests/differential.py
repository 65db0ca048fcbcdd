#!/usr/bin/env python3
"""Compares this program with the reference on random small runs.

Run by hand; needs the reference (Dynamo 1.4.2) installed in a virtual environment, $DYNOSIM_REFERENCE or
~/.cache/dynosim-reference, and the release binary:

    cargo build --release
    ~/.cache/dynosim-reference/bin/python tests/differential.py --cases 500 --seed 1

Every case is a trace of a few requests, in any of the reference's formats, and random settings, drawn from the seed and
the case's number alone. The
reference runs in a copy of this process, ours as a command. Request rows and reports are compared with the tolerances of the
parity tests. For a case that differs, the first difference and a folder with trace, command and all outputs are
printed; `--case N` runs that case alone. Where the reference raises an error, ours must exit with an error too; where it
never ends, there is nothing to compare with and the case is counted as such. Exits with 1 when a case differs.
"""

import argparse
import collections
import gzip
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
TIMEOUT_S = 15
HOST_KEYS = {"wall_time_ms", "processed_tokens_per_s", "processed_output_tokens_per_s"}
SKETCHED = ("_itl_ms", "_output_token_throughput_per_user")
PERCENTILES = ("median", "p75", "p90", "p95", "p99")
ENGINES = ("vllm", "trtllm", "sglang", "sglang")
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


def draw_agentic(rng, trace_block):
    """Requests that wait for others, in any order of rows; of these the reference writes no rows."""
    count = rng.choice([1, 2, 4, 8, 15, 30])
    spread = rng.choice([0, 20, 500, 3000])
    families = [[rng.randrange(1000) for _ in range(5)] for _ in range(rng.choice([1, 2]))]
    rows, fresh = [], 10_000
    for number in range(count):
        blocks = rng.randint(1, 5)
        ids = rng.choice(families)[: rng.randint(0, blocks)]
        while len(ids) < blocks:
            fresh += 1
            ids.append(fresh)
        tokens = (blocks - 1) * trace_block + rng.randint(1, trace_block)
        row = {"request_id": f"r{number}", "output_length": rng.choice([0, 1, 2, 5, 30, 80]), "hash_ids": ids}
        row["input_length"] = tokens
        if rng.random() < 0.8:
            row["timestamp"] = rng.choice([round(rng.uniform(0, spread)), round(rng.uniform(0, spread), 3)])
        if number and rng.random() < 0.7:
            row["wait_for"] = [f"r{rng.randrange(number)}" for _ in range(rng.choice([1, 1, 1, 2, 3]))]
        if rng.random() < 0.6:
            row[rng.choice(["delay", "delay_ms"])] = rng.choice([0, 3, 40.5, rng.uniform(0, 300)])
        if rng.random() < 0.3:
            row["tool_wait_ms"] = rng.choice([0, 7, rng.uniform(0, 300)])
        if rng.random() < 0.5:
            row["session_id"] = f"s{rng.randrange(3)}"
        if rng.random() < 0.05:
            row["output_token_ids"] = [rng.randrange(5) for _ in range(row["output_length"])]
        rows.append(row)
    if rng.random() < 0.4:
        rng.shuffle(rows)
    return rows


def draw_applied(rng):
    """Agent sessions by their lengths, some lines blank."""
    rows = []
    for _ in range(rng.choice([1, 2, 3, 6, 10])):
        turns = rng.choice([0, 0, 1, 2, 4])
        rows.append(
            {
                "num_turns": turns,
                "input_prompt_length": rng.choice([1, 60, 512, 1300, 2600]),
                "assistant_response_length": [rng.choice([0, 1, 20, 70]) for _ in range(turns)],
                "tool_call_output_length": [rng.choice([0, 11, 100, 900]) for _ in range(turns)],
                "tool_call_latency": [rng.choice([0, 0.05, 0.5, rng.uniform(0, 1)]) for _ in range(turns)],
                "final_assistant_response_length": rng.choice([0, 1, 10, 40]),
            }
        )
        if rng.random() < 0.2:
            rows.append(None)
    return rows


def longest_applied(row):
    return row["input_prompt_length"] + sum(row["assistant_response_length"]) + sum(row["tool_call_output_length"])


def draw_dynamo(rng, agents):
    """Captured requests in one or more shards, alone or as turns of agent sessions with children."""
    block = rng.choice([16, 64, 100])
    begin = rng.choice([0, 1000, 1_779_163_048_815])
    names = [f"S{i}" for i in range(rng.choice([1, 2, 4]))]
    parents = {name: rng.choice(names[:i] + ["elsewhere"]) for i, name in enumerate(names) if i and rng.random() < 0.7}
    shared = [rng.randrange(2**64) for _ in range(6)]
    records, fresh = [], 1
    for number in range(rng.choice([1, 2, 5, 12, 25])):
        blocks = rng.randint(1, 6)
        hashes = shared[: rng.randint(0, blocks)]
        while len(hashes) < blocks:
            fresh += 1
            hashes.append(fresh)
        start = begin + rng.choice([0, 50, rng.randrange(3000)])
        took = rng.choice([0.0, 12.5, 99.49, rng.uniform(0, 400)])
        request = {
            "request_id": f"q{rng.randrange(1000)}-{number}",
            "request_received_ms": start,
            "output_tokens": rng.choice([0, 1, 3, 20, 70]),
            "replay": {
                "trace_block_size": block,
                "input_length": (blocks - 1) * block + rng.randint(1, block),
                "input_sequence_hashes": hashes,
            },
        }
        if rng.random() < 0.8:
            request["total_time_ms"] = took
        record = dynamo_record("request_end", start + round(took) + rng.choice([0, 3]), request=request)
        if agents:
            record["agent_context"] = dynamo_context(rng.choice(names), parents)
        records.append(record)
    if agents:
        records += [tool for name in parents for tool in draw_tools(rng, records, name, parents)]
    if rng.random() < 0.3:
        records.append(dynamo_record("request_payload", begin, request={"messages": []}))
    rng.shuffle(records)
    rows = [{"timestamp": 1, "event": record} if rng.random() < 0.3 else record for record in records]
    shards = rng.choice([1, 1, 2, 3])
    return [rows[i::shards] for i in range(min(shards, len(rows)))], block


def dynamo_record(kind, time, **more):
    return {"schema": "dynamo.request.trace.v1", "event_type": kind, "event_time_unix_ms": time, **more}


def dynamo_context(name, parents):
    return {"session_id": name, **({"parent_session_id": parents[name]} if name in parents else {})}


def draw_tools(rng, records, child, parents):
    """Events of tools, some of which say what called the child session and what took its result."""
    parent = parents[child]
    callers = [r["request"]["request_id"] for r in records if r["agent_context"]["session_id"] == parent]
    if not callers or rng.random() < 0.4:
        return
    tool = {"tool_call_id": f"t-{child}", "tool_class": "agent", "started_at_unix_ms": 5, "ended_at_unix_ms": 9}
    if rng.random() < 0.8:
        tool["claude"] = {
            "source_request_id": rng.choice(callers),
            "consumer_request_id": rng.choice([None, rng.choice(callers)]),
            "child_session_id": rng.choice([child, child, None, "elsewhere"]),
            "execution_mode": rng.choice(["blocking", "background"]),
        }
    yield dynamo_record("tool_end", 9, tool=tool, agent_context=dynamo_context(parent, parents))


def span_of(rows):
    """Longest prompt and longest output of Mooncake rows."""
    return max(row["input_length"] for row in rows), max(row["output_length"] for row in rows)


def draw_sglang(rng, block):
    """Settings of the SGLang scheduler."""
    settings = {}
    if rng.random() < 0.35:
        settings["schedule_policy"] = rng.choice(["fifo", "fcfs", "lpm", "lpm", "lpm"])
    if rng.random() < 0.45:
        settings["chunked_prefill_size"] = block * rng.choice([1, 2, 3, 5, 10, 30])
    if rng.random() < 0.25:
        settings["max_prefill_tokens"] = block * rng.choice([2, 4, 10, 40]) + rng.choice([0, 3])
    if rng.random() < 0.3:
        settings["clip_max_new_tokens"] = rng.choice([0, 1, 5, 20, 100])
    if rng.random() < 0.3:
        settings["schedule_conservativeness"] = rng.choice([0, 0.1, 0.3, 0.5, 1.0])
    return settings


def draw_engine(rng, longest, block, role, kind):
    """Settings of one engine; pools from too small for the longest request to plenty."""
    engine = {"block_size": block}
    longest_prompt, longest_output = longest
    # SGLang starts a request only with room for its output; what does not fit blocks everything.
    need = max(1, -(-(longest_prompt + (longest_output if kind == "sglang" else 0)) // block))
    tight = max(1, need - 1) if kind != "sglang" or rng.random() < 0.2 else need + 2
    pool = rng.choice([None, need + 1, need + 4, 2 * need, 3 * need + 5, 8 * need, tight])
    if pool is not None:
        engine["num_gpu_blocks"] = pool
    if role:
        engine["worker_type"] = role
    if kind != "vllm" or rng.random() < 0.1:
        engine["engine_type"] = kind
    if kind == "sglang":
        settings = draw_sglang(rng, block)
        if rng.random() < 0.2:
            settings["page_size"] = block
            if rng.random() < 0.5:
                del engine["block_size"]
        if settings:
            engine["sglang"] = settings
    elif kind == "trtllm" and rng.random() < 0.3:
        engine["trtllm"] = {"capacity_scheduler_policy": "guaranteed_no_evict"}
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
    if kind == "vllm" and rng.random() < 0.2:
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


def draw_trace_of(rng, kind):
    """Flags and shards of a trace of this kind, and its longest prompt and output."""
    trace_block = rng.choice([16, 64, 100, 512])
    flags = {"trace-block-size": trace_block}
    if kind == "agentic_mooncake":
        rows = draw_agentic(rng, trace_block)
        return {**flags, "trace-format": kind}, [rows], span_of(rows)
    if kind == "applied_compute_agentic":
        rows = draw_applied(rng)
        if rng.random() < 0.6:
            flags["trace-shared-prefix-ratio"] = rng.choice([0.0, 0.3, 0.5, 1.0])
            flags["trace-num-prefix-groups"] = rng.choice([0, 1, 2, 3])
        flags["replay-concurrency"] = rng.choice([1, 2, 3, 8])
        return {**flags, "trace-format": kind}, [rows], (max(longest_applied(row) for row in rows if row), 70)
    if kind.startswith("dynamo"):
        shards, block = draw_dynamo(rng, kind == "dynamo agents")
        flags = {"trace-block-size": block} if rng.random() < 0.3 else {}
        return {**flags, "trace-format": "dynamo"}, shards, (6 * block, 70)
    delta = kind == "mooncake-delta"
    rows = draw_trace(rng, trace_block, delta)
    if delta:
        flags["trace-format"] = kind
    return flags, [rows], span_of(rows)


KINDS = {
    "mooncake": 50,
    "mooncake-delta": 10,
    "agentic_mooncake": 12,
    "applied_compute_agentic": 8,
    "dynamo": 8,
    "dynamo agents": 12,
}


def draw_case(seed, number, kind=None, engines=ENGINES):
    """Flags (without dashes) and trace rows of a case, by shard."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(KINDS), KINDS.values())[0] if kind is None else kind
    flags, shards, span = draw_trace_of(rng, kind)
    scheduler = rng.choice(engines)
    sizes = (1, 4, 16, 48, 64, 512) if scheduler == "sglang" else (4, 16, 48, 64, 512)
    block = rng.choice([size for size in sizes if span[0] / size < 2000])
    graph = kind in ("agentic_mooncake", "dynamo agents")
    if graph or kind == "mooncake-delta" or scheduler == "trtllm" or rng.random() < 0.5:
        engine = draw_engine(rng, span, block, None, scheduler)
        if rng.random() < 0.2:
            engine["dp_size"] = rng.randint(2, 3)
        flags["extra-engine-args"] = engine
        flags["num-workers"] = rng.randint(1, 4)
    else:
        prefill, decode = (draw_engine(rng, span, block, role, scheduler) for role in ("prefill", "decode"))
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
    if not graph and rng.random() < 0.3:
        flags["replay-concurrency"] = rng.choice([1, 2, 3, 8])
    if rng.random() < 0.2:
        flags["arrival-speedup-ratio"] = rng.choice([0.5, 2.0, 4.0])
    if rng.random() < 0.15:
        flags["max-sim-time-seconds"] = rng.choice([0.05, 0.3, 2.0])
    if rng.random() < 0.2:
        flags["sla-ttft-ms"] = rng.choice([20.0, 100.0])
        flags["sla-e2e-ms"] = rng.choice([50.0, 1000.0])
    return flags, shards


def write_trace(rng, shards, folder):
    """Writes the shards; several Dynamo shards may be packed."""
    paths = []
    for number, rows in enumerate(shards):
        text = "".join("\n" if row is None else json.dumps(row) + "\n" for row in rows)
        if len(shards) > 1 and rng.random() < 0.5:
            path = folder / f"trace-{number}.jsonl.gz"
            path.write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            path = folder / f"trace-{number}.jsonl"
            path.write_text(text)
        paths.append(path)
    return paths


# --- running it -----------------------------------------------------------------------------------------------------


def reference_process(flags, paths, folder):
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
        report = run_trace_replay([str(path) for path in paths], report_jsonl_path=str(rows), **options)
        (folder / "reference.json").write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    # Dead ends and bad input are plain exceptions; a panic of native code derives from BaseException.
    except BaseException as problem:  # noqa: BLE001
        (folder / "reference.error").write_text(f"{type(problem).__name__}: {problem}\n")


def run_reference(flags, paths, folder):
    """Report, rows and error of the reference; all None when it does not end."""
    # A fork starts at once, and unlike a thread it can be ended from outside.
    process = multiprocessing.get_context("fork").Process(target=reference_process, args=(flags, paths, folder))
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


def command(binary, flags, paths, folder):
    words = [str(binary), "replay", *map(str, paths)]
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


def compare(flags, shards, binary, folder):
    """Outcome of a case: a word for the summary, and the first difference."""
    for stale in folder.glob("reference.*"):
        stale.unlink()
    paths = write_trace(random.Random(folder.name), shards, folder)
    words = command(binary, flags, paths, folder)
    if "router-mode" in flags:
        words += ["--decisions", str(folder / "ours.decisions.jsonl")]
    (folder / "command.txt").write_text(shlex.join(words) + "\n")
    report, wanted, error = run_reference(flags, paths, folder)
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
    difference = first_difference(report, wanted, folder, flags)
    return ("different", difference) if difference else ("equal", "")


def first_difference(report, rows, folder, flags, ignored=("uuid",)):
    """The first difference between the reference and what ours wrote, or nothing."""
    ours, ours_rows = json.loads((folder / "ours.json").read_text()), read_rows(folder / "ours.jsonl")
    # The reference writes no rows of requests that wait for others.
    silent = not rows and flags.get("trace-format") in ("agentic_mooncake", "dynamo")
    of_rows = () if silent else row_differences(rows, ours_rows, ignored)
    return next(itertools.chain(of_rows, report_differences(report, ours)), None)


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
        outcome = first_difference(report, rows, folder, flags, ignored)
        ours = router.our_decisions(folder / "ours.decisions.jsonl", alike)
        index, text, after_tie = router.first_difference(theirs, ours)
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
    parser.add_argument("--kind", choices=KINDS, help="draw traces of this kind only")
    parser.add_argument("--engine", choices=sorted(set(ENGINES)), help="draw this engine only (gives other cases)")
    parser.add_argument("--router", choices=("never", "some", "always"), default="some", help="cases with a KV router")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/dynosim")
    parser.add_argument("--verbose", action="store_true", help="print the outcome of every case")
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
        engines = (args.engine,) if args.engine else ENGINES
        flags, shards = draw_case(args.seed, number, args.kind, engines)
        folder = keep / "-".join([str(args.seed), str(number), *(args.kind or "").split()])
        folder.mkdir(exist_ok=True)
        rng = random.Random(f"{args.seed}/{number}/router")
        if rng.random() < {"never": 0.0, "some": 0.5, "always": 1.0}[args.router]:
            router.draw_router(rng, flags, shards, folder)
        word, difference = compare(flags, shards, args.binary, folder)
        summary[word] += 1
        if args.verbose:
            print(f"case {number}: {word} {difference}", flush=True)
        if word == "different":
            print(f"case {number}: {difference}\n    {folder}", flush=True)
        elif args.case is None:
            shutil.rmtree(folder)
    print(f"{sum(summary.values())} cases: " + ", ".join(f"{n} {word}" for word, n in sorted(summary.items())))
    sys.exit(1 if summary["different"] else 0)


if __name__ == "__main__":
    main()
