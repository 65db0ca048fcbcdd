//! Where things stand in the scene: traffic above the router, pools to the right, the workers of a pool in a grid.
//!
//! A worker keeps its place as long as it lives, and a grid grows only when its pool outgrows it, so that a fleet that
//! scales up and down does not jump about.

use std::collections::BTreeMap;

use bevy_egui::egui::{Pos2, Rect, Vec2, pos2, vec2};

use crate::scenario::Role;
use crate::view::frame::{FrameModel, PoolFrame, WorkerName};

/// Size of a worker card, units of the scene; a unit is a point on the screen at zoom 1.
pub const CARD: Vec2 = vec2(236.0, 172.0);
/// Free space between cards; transfers run in it.
pub const GUTTER: f32 = 22.0;
/// Height of a pool's heading.
pub const HEADING: f32 = 34.0;
/// Free space between traffic, router and pools.
const CHANNEL: f32 = 74.0;
const TRAFFIC: Vec2 = vec2(150.0, 122.0);
const ROUTER: Vec2 = vec2(150.0, 160.0);
/// Free space between traffic and router.
const DROP: f32 = 56.0;
/// Room for what is said about decisions, below the pools.
const NOTES: f32 = 140.0;
/// Zoom below which traffic, router and headings are drawn larger than the rest, to stay readable.
const READABLE: f32 = 0.62;

/// Places in the grids, kept from frame to frame.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slots {
    pools: BTreeMap<Role, Pool>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Pool {
    /// Who stands where.
    places: Vec<Option<WorkerName>>,
    /// Places the grid is laid out for.
    room: usize,
}

impl Slots {
    /// Takes those who left off their places, and gives newcomers the first free ones.
    pub fn update(&mut self, frame: &FrameModel) {
        self.pools.retain(|role, _| frame.pools.iter().any(|p| p.role == *role));
        for pool in &frame.pools {
            self.pools.entry(pool.role).or_default().update(pool);
        }
    }

    /// Makes room for at least that many workers from the start.
    pub fn reserve(&mut self, role: Role, workers: usize) {
        let pool = self.pools.entry(role).or_default();
        pool.room = pool.room.max(room_for(workers));
    }
}

impl Pool {
    fn update(&mut self, frame: &PoolFrame) {
        let alive = |name: &WorkerName| frame.workers.binary_search_by_key(&name.id, |w| w.name.id).is_ok();
        for place in &mut self.places {
            if place.as_ref().is_some_and(|name| !alive(name)) {
                *place = None;
            }
        }
        let mut placed: Vec<u32> = self.places.iter().flatten().map(|name| name.id).collect();
        placed.sort_unstable();
        let mut next = 0;
        for worker in frame.workers.iter().filter(|w| placed.binary_search(&w.name.id).is_err()) {
            while self.places.get(next).is_some_and(Option::is_some) {
                next += 1;
            }
            if next == self.places.len() {
                self.places.push(None);
            }
            self.places[next] = Some(worker.name);
        }
        self.room = self.room.max(room_for(self.places.len()));
    }
}

/// Grids grow in steps: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, then by an eighth of the next power of two.
fn room_for(workers: usize) -> usize {
    let mut room = 1;
    while room < workers {
        let power = room.next_power_of_two();
        room = match room {
            1..=3 => room + 1,
            32.. => room + (room + 1).next_power_of_two() / 8,
            _ if room == power => power + power / 2,
            _ => power,
        };
    }
    room
}

/// Where everything stands, in units of the scene.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The source of requests.
    pub traffic: Rect,
    /// The router.
    pub router: Rect,
    /// Pools in the order of the frame.
    pub pools: Vec<PoolLayout>,
    /// All of it.
    pub bounds: Rect,
}

/// Where a pool and its workers stand.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolLayout {
    /// Part its workers play.
    pub role: Role,
    /// Its frame.
    pub rect: Rect,
    /// Its heading within the frame.
    pub heading: Rect,
    /// Its workers, by ascending number.
    pub workers: Vec<(WorkerName, Rect)>,
}

impl Layout {
    /// Lays out a frame for a part of the screen of that size; `notes`: with room for decisions.
    pub fn of(frame: &FrameModel, slots: &Slots, screen: Vec2, notes: bool) -> Self {
        let rooms: Vec<usize> = frame.pools.iter().map(|p| slots.pools.get(&p.role).map_or(1, |s| s.room)).collect();
        let (rows, zoom) = best_rows(&rooms, screen, if notes { NOTES } else { 0.0 });
        let front = (READABLE / zoom).max(1.0);
        let heading_height = HEADING * front;
        let pool_height = heading_height + GUTTER + rows as f32 * (CARD.y + GUTTER);
        let middle = pool_height.max((TRAFFIC.y + DROP + ROUTER.y) * front) / 2.0;
        let top = middle - (TRAFFIC.y + DROP + ROUTER.y) * front / 2.0;
        let traffic = Rect::from_min_size(pos2(0.0, top), TRAFFIC * front);
        let router = Rect::from_min_size(pos2(0.0, traffic.max.y + DROP * front), ROUTER * front);
        let mut x = router.max.x + CHANNEL * front;
        let mut place = |size: Vec2| {
            let rect = Rect::from_min_size(pos2(x, middle - size.y / 2.0), size);
            x += size.x + CHANNEL * front;
            rect
        };
        let mut pools = Vec::with_capacity(frame.pools.len());
        for (pool, &room) in frame.pools.iter().zip(&rooms) {
            let columns = room.div_ceil(rows);
            let rect = place(vec2(GUTTER + columns as f32 * (CARD.x + GUTTER), pool_height));
            let heading = Rect::from_min_size(rect.min, vec2(rect.width(), heading_height));
            let origin = rect.min + vec2(GUTTER, heading_height + GUTTER / 2.0);
            let mut workers = Vec::with_capacity(pool.workers.len());
            for (place, name) in slots.pools.get(&pool.role).iter().flat_map(|s| s.places.iter().enumerate()) {
                if let Some(name) = name {
                    let (column, row) = (place % columns, place / columns);
                    let step = vec2(column as f32 * (CARD.x + GUTTER), row as f32 * (CARD.y + GUTTER));
                    workers.push((*name, Rect::from_min_size(origin + step, CARD)));
                }
            }
            workers.sort_unstable_by_key(|(name, _)| *name);
            pools.push(PoolLayout { role: pool.role, rect, heading, workers });
        }
        let mut bounds = pools.iter().fold(traffic.union(router), |all, pool| all.union(pool.rect));
        if notes {
            bounds.max.y += NOTES * front;
        }
        Self { traffic, router, pools, bounds }
    }

    /// Where a worker stands.
    pub fn worker(&self, name: WorkerName) -> Option<Rect> {
        let pool = self.pools.iter().find(|p| p.role == name.role)?;
        let at = pool.workers.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        Some(pool.workers[at].1)
    }

    /// The worker at a point.
    pub fn worker_at(&self, point: Pos2) -> Option<WorkerName> {
        let pool = self.pools.iter().find(|p| p.rect.contains(point))?;
        pool.workers.iter().find(|(_, rect)| rect.contains(point)).map(|(name, _)| *name)
    }
}

/// The number of rows that shows the pools largest on a screen of that size, and about how large.
fn best_rows(rooms: &[usize], screen: Vec2, below: f32) -> (usize, f32) {
    let most = rooms.iter().copied().max().unwrap_or(1).max(1);
    let scale = |rows: usize| {
        let pools: f32 = rooms.iter().map(|n| GUTTER + n.div_ceil(rows) as f32 * (CARD.x + GUTTER) + CHANNEL).sum();
        let width = ROUTER.x + pools;
        let height = HEADING + GUTTER + rows as f32 * (CARD.y + GUTTER) + below;
        (screen.x / width).min(screen.y / height)
    };
    let rows = (1..=most).max_by(|&a, &b| scale(a).total_cmp(&scale(b)).then(b.cmp(&a))).unwrap_or(1);
    (rows, scale(rows).max(0.01))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_grow_in_few_steps() {
        let rooms: Vec<usize> = (1..=17).map(room_for).collect();
        assert_eq!(rooms, [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16, 16, 16, 16, 24]);
    }
}
