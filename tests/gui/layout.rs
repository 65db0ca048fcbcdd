//! Where things stand.

use bevy_egui::egui::{Rect, vec2};
use dynosim::scenario::Role;
use dynosim::view::frame::{FrameModel, PoolFrame};
use dynosim::view::window::layout::{Layout, Slots};

use crate::frames;

fn lay_out(frame: &FrameModel, slots: &mut Slots) -> Layout {
    slots.update(frame);
    Layout::of(frame, slots, vec2(800.0, 480.0), true)
}

fn places(layout: &Layout) -> Vec<Rect> {
    layout.pools.iter().flat_map(|pool| pool.workers.iter().map(|(_, rect)| *rect)).collect()
}

fn pool(n: u32) -> PoolFrame {
    frames::pool(Role::Aggregated, n, 1)
}

#[test]
fn workers_stand_apart_and_within_their_pool() {
    for (prefill, decode) in [(1, 1), (4, 4), (3, 17), (300, 700)] {
        let frame =
            frames::around(vec![frames::pool(Role::Prefill, prefill, 1), frames::pool(Role::Decode, decode, 1)]);
        let layout = lay_out(&frame, &mut Slots::default());
        for pool in &layout.pools {
            for (_, rect) in &pool.workers {
                assert!(pool.rect.contains_rect(*rect), "{rect:?} in {:?}", pool.rect);
                assert!(!pool.heading.intersects(*rect));
            }
            assert!(!pool.rect.intersects(layout.router) && !pool.rect.intersects(layout.traffic));
            assert!(layout.bounds.contains_rect(pool.rect));
        }
        assert!(!layout.pools[0].rect.intersects(layout.pools[1].rect));
        let places = places(&layout);
        assert_eq!(places.len() as u32, prefill + decode);
        for (i, a) in places.iter().enumerate() {
            assert!(places[i + 1..].iter().all(|b| !a.intersects(*b)));
        }
    }
}

#[test]
fn workers_keep_their_place_when_others_come_and_go() {
    let mut slots = Slots::default();
    let all = frames::around(vec![pool(8)]);
    let before = lay_out(&all, &mut slots);
    let mut fewer = all.clone();
    fewer.pools[0].workers.remove(2);
    fewer.pools[0].workers.truncate(5);
    let between = lay_out(&fewer, &mut slots);
    for worker in &fewer.pools[0].workers {
        assert_eq!(before.worker(worker.name), between.worker(worker.name));
    }
    // A newcomer takes the first free place: that of the one who left.
    let mut again = fewer.clone();
    let mut newcomer = all.pools[0].workers[2].clone();
    newcomer.name.id = 9;
    again.pools[0].workers.push(newcomer.clone());
    let after = lay_out(&again, &mut slots);
    assert_eq!(after.worker(newcomer.name), before.worker(all.pools[0].workers[2].name));
}

#[test]
fn the_same_frame_is_laid_out_the_same_again() {
    let frame = frames::disaggregated();
    let mut slots = Slots::default();
    let first = lay_out(&frame, &mut slots);
    assert_eq!(first, lay_out(&frame, &mut slots));
    assert_eq!(first, lay_out(&frame, &mut Slots::default()));
}
