//! The agent preset.

use super::*;

fn agents(preset: AgentPreset, seed: u64) -> Result<Workload, WorkloadError> {
    let mut run = run(TrafficSource::Preset(Preset::Agent(preset)));
    run.seed = seed;
    load(&run)
}

#[test]
fn agent_sessions_depend_on_the_seed_alone() {
    let preset = AgentPreset::default;
    let workload = agents(preset(), 1).expect("sessions");
    check_shape(&workload);
    assert!(workload.planned_outputs);
    assert_eq!(picture(&workload), picture(&agents(preset(), 1).expect("sessions")));
    assert_ne!(picture(&workload), picture(&agents(preset(), 2).expect("sessions")));
    // Other waits leave lengths and starts alone.
    let patient = agents(AgentPreset { tool_wait_ms: 9_000.0, ..preset() }, 1).expect("sessions");
    assert_eq!((lengths(&workload), arrivals_ms(&workload)), (lengths(&patient), arrivals_ms(&patient)));
}

#[test]
fn agent_prompts_grow_within_the_limit() {
    let preset = AgentPreset { mean_turns: 1e6, max_context_tokens: 20_000, ..AgentPreset::default() };
    let workload = agents(preset, 1).expect("sessions");
    check_shape(&workload);
    let trie = trie(&workload);
    for session in sessions(&workload) {
        let turns = session.first..session.first + session.turns;
        for (this, next) in turns.clone().zip(turns.skip(1)) {
            let (a, b) = (workload.requests[this as usize], workload.requests[next as usize]);
            assert!(b.prompt_tokens > a.prompt_tokens + a.output_tokens);
            assert_eq!(trie.shared_blocks(this, next), a.prompt_tokens / 64);
        }
    }
    assert!(workload.requests.iter().all(|r| r.prompt_tokens + r.output_tokens <= 20_000));
    assert_eq!(workload.notes, ["200 of 200 agent sessions ended at max_context_tokens"]);
    // Sessions of different system prompts share nothing, the others the whole system prompt.
    let shared: HashSet<_> = sessions(&workload).iter().skip(1).map(|s| trie.shared_blocks(0, s.first)).collect();
    assert_eq!(shared, HashSet::from([0, 48]));
}

#[test]
fn wild_agent_parameters_are_a_result_or_an_error() {
    let base = AgentPreset { sessions: 20, ..AgentPreset::default() };
    for (preset, field) in [
        (AgentPreset { sessions: 0, ..base.clone() }, "sessions"),
        (AgentPreset { sessions: 1_000_000_000, ..base.clone() }, "sessions"),
        (AgentPreset { sessions_per_s: 0.0, ..base.clone() }, "sessions_per_s"),
        (AgentPreset { sessions_per_s: 1e-300, ..base.clone() }, "sessions_per_s"),
        (AgentPreset { mean_turns: f64::NAN, ..base.clone() }, "mean_turns"),
        (AgentPreset { turn_sigma: -1.0, ..base.clone() }, "turn_sigma"),
        (AgentPreset { tool_wait_ms: 1e300, ..base.clone() }, "tool_wait_ms"),
        (AgentPreset { max_context_tokens: 3_073, ..base.clone() }, "max_context_tokens"),
        (AgentPreset { block_size: 0, ..base.clone() }, "block_size"),
    ] {
        let error = agents(preset, 1).expect_err(field).to_string();
        assert!(error.contains(field), "{error}");
    }
    for preset in [
        AgentPreset { burst_every_s: 1e-9, burst_length_s: 1e-10, ..base.clone() },
        AgentPreset { burst_every_s: 10.0, burst_length_s: 1e9, burst_factor: 0.0, ..base.clone() },
        AgentPreset { burst_factor: 1e300, ..base.clone() },
        AgentPreset { turn_sigma: 1e300, output_sigma: 1e300, ..base.clone() },
        AgentPreset { mean_turns: f64::MAX, system_tokens: 0, system_prompts: MAX_TOKENS, ..base.clone() },
        AgentPreset { max_context_tokens: 3_074, block_size: MAX_TOKENS, ..base },
    ] {
        if let Ok(workload) = agents(preset, 1) {
            check_shape(&workload);
        }
    }
}
