//! What happens when a user does something.

use std::time::Instant;

use bevy::input::keyboard::{Key, KeyCode};
use dynosim::scenario::Role;
use dynosim::time::SimTime;
use dynosim::view::player::Speed;
use dynosim::view::window::state::Target;

use crate::driver::Driver;

const AGGREGATED: &str = r#"{"version": 1, "input-tokens": 900, "output-tokens": 80, "request-count": 600,
    "request-rate": 40.0, "num-workers": 8, "extra-engine-args": {"num_gpu_blocks": 2048, "block_size": 64}}"#;

#[test]
fn a_click_selects_a_worker_and_escape_lets_go() {
    let Some(mut driver) = Driver::open(AGGREGATED) else { return };
    let before = driver.picture();
    let (x, y) = driver.worker(0, 2);
    driver.click(x, y);
    let name = driver.frame().pools[0].workers[2].name;
    assert_eq!(driver.view().selected, Some(Target::Worker(name)));
    driver.hover(4.0, 4.0);
    let selected = driver.picture();
    assert!(before.differences(&selected) > 500, "card and inspector show the selection");
    driver.key(Key::Escape, KeyCode::Escape);
    assert_eq!(driver.view().selected, None);
    let after = driver.picture();
    assert!(before.differences(&after) < 50, "the picture is as before");
}

#[test]
fn the_playhead_can_be_dragged_on_and_back() {
    let Some(mut driver) = Driver::open(AGGREGATED) else { return };
    let end = driver.player().end().expect("the run is known");
    driver.drag((200.0, 640.0), (900.0, 640.0));
    driver.settle();
    let late = driver.player().playhead();
    assert!(late > SimTime::from_nanos(end.as_nanos() / 2));
    assert_eq!(driver.frame().at, late);
    let busy = driver.picture();
    driver.drag((900.0, 640.0), (400.0, 640.0));
    driver.settle();
    let early = driver.player().playhead();
    assert!(early < late && early > SimTime::ZERO);
    assert_eq!(driver.frame().at, early);
    assert!(driver.frame().traffic.arrived < 600);
    assert!(busy.differences(&driver.picture()) > 1_000);
}

#[test]
fn keys_play_and_change_the_speed() {
    let Some(mut driver) = Driver::open(AGGREGATED) else { return };
    let speed = driver.player().speed();
    driver.type_char('+', KeyCode::Equal);
    assert_eq!(
        driver.player().speed(),
        match speed {
            Speed::Times(times) => Speed::Times(times * 2.0),
            Speed::Full => Speed::Full,
        }
    );
    driver.key(Key::Space, KeyCode::Space);
    assert!(driver.player().is_playing());
    driver.frames(10);
    driver.settle();
    assert!(driver.frame().at > SimTime::ZERO);
    driver.key(Key::Space, KeyCode::Space);
    assert!(!driver.player().is_playing());
    driver.key(Key::Home, KeyCode::Home);
    driver.settle();
    assert_eq!(driver.frame().at, SimTime::ZERO);
    driver.key(Key::ArrowRight, KeyCode::ArrowRight);
    driver.settle();
    assert_eq!(driver.frame().at, SimTime::from_nanos(1_000_000_000));
}

#[test]
fn the_speed_slider_and_the_play_button_obey_the_mouse() {
    let Some(mut driver) = Driver::open(AGGREGATED) else { return };
    let before = driver.player().speed();
    driver.drag((408.0, 23.0), (370.0, 23.0));
    assert_ne!(driver.player().speed(), before);
    assert!(!driver.player().is_playing());
    driver.click(86.0, 23.0);
    assert!(driver.player().is_playing());
}

#[test]
fn help_theme_and_panels_have_keys() {
    let Some(mut driver) = Driver::open(AGGREGATED) else { return };
    let dark = driver.picture();
    driver.key(Key::F1, KeyCode::F1);
    assert!(driver.view().help);
    assert!(dark.differences(&driver.picture()) > 20_000);
    driver.key(Key::F1, KeyCode::F1);
    assert!(!driver.view().help);
    driver.type_char('t', KeyCode::KeyT);
    let light = driver.picture();
    assert!(dark.brightness() < 70.0 && light.brightness() > 190.0);
    driver.key(Key::Tab, KeyCode::Tab);
    assert!(!driver.view().panels);
    assert!(light.differences(&driver.picture()) > 20_000);
}

#[test]
fn search_finds_a_worker_and_keeps_the_keys_to_itself() {
    let Some(mut driver) = Driver::open(AGGREGATED) else { return };
    driver.type_char('/', KeyCode::Slash);
    driver.frames(2);
    for (c, code) in [('w', KeyCode::KeyW), ('5', KeyCode::Digit5)] {
        driver.type_char(c, code);
    }
    assert_eq!(driver.view().search.trim_start_matches('/'), "w5");
    driver.key(Key::Enter, KeyCode::Enter);
    driver.frames(2);
    let Some(Target::Worker(name)) = driver.view().selected else { panic!("{:?}", driver.view().selected) };
    assert_eq!((name.role, name.id), (Role::Aggregated, 5));
}

#[test]
fn a_disaggregated_fleet_under_load_is_drawn_in_both_pools() {
    let scenario = r#"{"version": 1, "input-tokens": 4000, "output-tokens": 100, "request-count": 300,
        "request-rate": 30.0, "num-prefill-workers": 4, "num-decode-workers": 4,
        "prefill-engine-args": {"num_gpu_blocks": 4096, "block_size": 64, "kv_bytes_per_token": 131072,
            "kv_transfer_bandwidth": 16},
        "decode-engine-args": {"num_gpu_blocks": 4096, "block_size": 64, "kv_bytes_per_token": 131072,
            "kv_transfer_bandwidth": 16}}"#;
    let Some(mut driver) = Driver::open(scenario) else { return };
    let empty = driver.picture();
    driver.type_char('b', KeyCode::KeyB);
    driver.settle();
    assert!(driver.frame().pools.iter().any(|pool| pool.workers.iter().any(|worker| !worker.running.is_empty())));
    let busy = driver.picture();
    assert!(empty.differences(&busy) > 2_000);
    assert!(busy.colours() > 50);
    assert_eq!(busy.at(640, 60), [0x14, 0x16, 0x1b], "the ground between the panels");
}

/// Times frames of large fleets; run with `--ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn frame_times() {
    for (workers, in_flight) in [(8, 400), (64, 3_000), (1_000, 10_000)] {
        let scenario = format!(
            r#"{{"version": 1, "input-tokens": 500, "output-tokens": 400, "request-count": {n},
                "replay-concurrency": {in_flight}, "num-workers": {workers},
                "extra-engine-args": {{"num_gpu_blocks": 4096, "block_size": 64}}}}"#,
            n = in_flight * 3
        );
        let Some(mut driver) = Driver::open(&scenario) else { return };
        driver.type_char('b', KeyCode::KeyB);
        driver.settle();
        let flying = driver.frame().traffic.arrived - driver.frame().traffic.ended;
        let time = |driver: &mut Driver| {
            driver.frames(5);
            let start = Instant::now();
            driver.frames(40);
            start.elapsed().as_secs_f64() * 1e3 / 40.0
        };
        let still = time(&mut driver);
        driver.key(Key::Space, KeyCode::Space);
        let playing = time(&mut driver);
        println!("{workers} workers, {flying} in flight: {still:.1} ms per frame standing, {playing:.1} ms playing");
    }
}
