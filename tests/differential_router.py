"""The part of differential.py that concerns the KV router.

The reference breaks cost ties at random, unseeded. A case is run with several of our seeds until one agrees in every row
and figure. Where none does, the decisions are compared one by one, cost terms included: both programs log them. A difference
that comes after a tie between workers with a past may be the tie's doing and is counted as such; any other is a difference.
Equal workers may have changed places, so a decision is the multiset of its candidates' terms and the terms of the chosen one.
"""

import json
import re

SEEDS = 24
FORMULA = re.compile(
    r"Formula for worker_id=(\d+) dp_rank=(\d+) with \S+ effective cached blocks: (\S+) = .* = \S+ \* \S+ \+ (\S+) \+ (\S+) "
    r"\(raw_prefill_blocks: (\S+), overlap_credit_blocks: (\S+), overlap_credit_decay: (\S+)\)"
)
SELECTED = re.compile(r"Selected worker .*request_id=(\S+) worker_id=(\d+) .*dp_rank=(\d+) logit=(\S+)")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def maybe(rng, probability, settings, key, draw):
    if rng.random() < probability:
        settings[key] = draw()


def draw_config(rng):
    config = {}
    maybe(rng, 0.3, config, "overlap_score_credit", lambda: rng.choice([0.0, 0.5, 1.5, 2.0]))
    maybe(rng, 0.3, config, "overlap_score_credit_decay", lambda: rng.choice([0.3, 1.0, 5.0]))
    maybe(rng, 0.3, config, "prefill_load_scale", lambda: rng.choice([0.0, 0.5, 4.0, 32.0]))
    maybe(rng, 0.1, config, "overlap_score_weight", lambda: rng.choice([0.0, 0.7, 2.0]))
    # An odd weight makes ties rare.
    maybe(rng, 0.5, config, "decode_active_request_weight", lambda: rng.choice([0.25, 1.0, 3.1, 17.3]))
    maybe(rng, 0.15, config, "router_track_active_blocks", lambda: False)
    maybe(rng, 0.2, config, "router_assume_kv_reuse", lambda: False)
    maybe(rng, 0.15, config, "router_track_prefill_tokens", lambda: False)
    maybe(rng, 0.4, config, "router_queue_threshold", lambda: rng.choice([0.0, 0.05, 0.2, 0.5, 1.0]))
    maybe(rng, 0.5, config, "router_queue_policy", lambda: rng.choice(["fcfs", "lcfs", "wspt"]))
    return config


def draw_policy(rng):
    """A file of policy classes, as JSON (which is YAML)."""
    bounds = [0] + sorted(rng.sample([16, 100, 400, 1500], rng.choice([0, 1, 2])))
    buckets = [{"min_tokens": bound, "bucket": f"b{index}"} for index, bound in enumerate(bounds)]
    families = rng.choice([["std"], ["std", "other"]])
    classes = [
        {"name": f"{family}-{bucket['bucket']}", "policy_family": family, "cache_bucket": bucket["bucket"]}
        for family in families
        for bucket in buckets
    ]
    if rng.random() < 0.6:
        classes.append({"name": "vip"})
    rng.shuffle(classes)
    for item in classes:
        item["queue_policy"] = rng.choice(["fcfs", "wspt"])
        item["quantum"] = rng.choice([1, 10, 64, 200, 1000])
        maybe(rng, 0.5, item, "prefill_busy_threshold", lambda: rng.choice([0, 10, 100, 500, 2000]))
        maybe(rng, 0.5, item, "prefill_busy_threshold_frac", lambda: rng.choice([0.0, 0.05, 0.3, 1.0]))
        maybe(rng, 0.1, item, "request_queue_limit_per_worker", lambda: rng.choice([1, 2, 5]))
        maybe(rng, 0.05, item, "raw_isl_token_queue_limit_per_worker", lambda: rng.choice([100, 1000]))
        maybe(rng, 0.05, item, "cached_token_queue_limit_per_worker", lambda: rng.choice([1, 100]))
    return {"default_policy_family": families[0], "uncached_isl_buckets": buckets, "policy_classes": classes}


def draw_router(rng, flags, shards, folder):
    """Adds a KV router to a case that was drawn without one."""
    flags["router-mode"] = "kv_router"
    if "num-workers" in flags:
        flags["num-workers"] = max(2, flags["num-workers"])
    flags["router-config"] = draw_config(rng)
    for engine in ("extra-engine-args", "prefill-engine-args", "decode-engine-args"):
        if engine in flags:
            policies = ["fcfs", "lcfs", "wspt"]
            maybe(rng, 0.15, flags[engine], "router_queue_policy", lambda: rng.choice(policies))
    if rng.random() < 0.25:
        path = folder / "policy.yaml"
        path.write_text(json.dumps(draw_policy(rng), indent=1) + "\n")
        flags["router-policy-config"] = str(path)
    hinted = flags.get("trace-format", "mooncake") in ("mooncake", "mooncake-delta", "agentic_mooncake")
    if hinted and rng.random() < 0.6:
        for row in (row for rows in shards for row in rows if row is not None):
            maybe(rng, 0.5, row, "priority", lambda: rng.choice([-3, 0, 1, 5, 20]))
            maybe(rng, 0.3, row, "strict_priority", lambda: rng.choice([0, 1, 2]))
            maybe(rng, 0.4, row, "policy_class", lambda: rng.choice(["vip", "std", "other", "unknown"]))


def reference_options(options):
    """Replaces the flags of the router by what the reference's function takes."""
    from dynamo.llm import KvRouterConfig

    config = options.pop("router_config", None)
    policy = options.pop("router_policy_config", None)
    if config is not None:
        if policy is not None:
            config = {**config, "router_policy_config": policy}
        options["router_config"] = KvRouterConfig.from_json(json.dumps(config))


def reference_decisions(log):
    """Decisions from the reference's log: terms of every candidate, terms of the chosen one, its exact cost; by pool.

    In a disaggregated run the first decision about a request is that of the prefill pool.
    """
    decisions, candidates, known = ([], []), {}, set()
    for line in log.splitlines():
        line = ESCAPES.sub("", line)
        if found := FORMULA.search(line):
            worker, rank, cost, decode, active, raw, credit, decay = found.groups()
            candidates[worker, rank] = tuple(map(float, (cost, raw, credit, decay, decode, active)))
        elif found := SELECTED.search(line):
            request, worker, rank, cost = found.groups()
            decision = (sorted(candidates.values()), candidates[worker, rank], float(cost))
            decisions[request in known].append(decision)
            known.add(request)
            candidates = {}
    return decisions


def our_decisions(path, alike):
    """The same of ours, and whether the choice was a tie that decides anything.

    Workers that never got a request are equal, if all of them are `alike`; so a tie between them decides nothing.
    """
    decisions, used = ([], []), set()
    for line in path.read_text().splitlines():
        line = json.loads(line)
        terms = [
            (c["cost"], c["raw_prefill_blocks"], c["overlap_credit_blocks"], c["overlap_credit_decay"], c["decode_blocks"],
             c["active_request_cost"])
            for c in line["candidates"]
        ]
        name = [(line["pool"], c["worker"], c["rank"]) for c in line["candidates"]]
        chosen = line["chosen"]
        tied = [n for n, t in zip(name, terms) if t[0] == terms[chosen][0]]
        matters = len(tied) > 1 and (not alike or any(n in used for n in tied))
        used.add(name[chosen])
        decisions[line["pool"] == "decode"].append((sorted(terms), terms[chosen], terms[chosen][0], matters))
    return decisions


def near(wanted, got):
    # The log of the reference shows three decimals.
    return all(abs(a - b) <= 0.00051 + 1e-9 * abs(a) for a, b in zip(wanted, got))


def first_difference(wanted, got):
    """How many decisions agree, the text of the first one that differs, and whether a tie may be the reason.

    A tie in one pool may be the reason for a difference in the other.
    """
    agreed, texts, ties = zip(*map(first_difference_of_pool, wanted, got))
    return sum(agreed), next(filter(None, texts), ""), any(ties)


def first_difference_of_pool(wanted, got):
    after_tie = False
    for index, (theirs, ours) in enumerate(zip(wanted, got)):
        same = len(theirs[0]) == len(ours[0]) and all(map(near, theirs[0], ours[0]))
        exact = abs(theirs[2] - ours[2]) <= 1e-9 * max(1.0, abs(theirs[2]))
        if not (same and exact and near(theirs[1], ours[1])):
            return index, f"decision {index}: reference {theirs}, ours {ours}", after_tie or (same and ours[3])
        after_tie = after_tie or ours[3]
    if len(wanted) != len(got):
        return min(len(wanted), len(got)), f"{len(wanted)} decisions in the reference, {len(got)} in ours", after_tie
    return len(wanted), "", after_tie
