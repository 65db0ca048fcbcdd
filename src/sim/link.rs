//! A link that transfers share: a network card, a PCIe connection, the path to a disk.
//!
//! *Processor sharing*: of `n` transfers on their way each progresses at the bandwidth divided by `n`. All of them
//! receive the same service, so the link keeps one number, the bytes that each transfer present since the link was last
//! idle has received by now; a transfer ends when that number has grown by its size. The number changes only when a
//! transfer begins or ends: looking at a link in between changes nothing, so results do not depend on who looks when.
//!
//! Arithmetic is in whole numbers: time in 1/1024 ns, service in a power of two of a byte that represents the bandwidth
//! exactly. The end of a transfer is rounded to the clock's nanoseconds once, ties to even, and sharing goes on from the
//! unrounded instant. Transfers that end within 1e-9 ms of each other (one unit of time) end together.

use std::collections::BTreeMap;

use crate::time::SimTime;

/// Units of time per nanosecond, as a power of two.
const FRACTION_BITS: u32 = 10;

/// A bandwidth without limit has no rate; transfers over it take no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    /// Units of service per nanosecond, at most 2^53.
    units: u128,
    /// Units of service per byte, as a power of two.
    shift: i32,
}

impl Rate {
    /// The rate of so many bytes per nanosecond (GB/s), exactly.
    fn of(bandwidth: f64) -> Option<Self> {
        if !bandwidth.is_normal() || bandwidth <= 0.0 {
            return None;
        }
        let exponent = ((bandwidth.to_bits() >> 52) & 0x7ff) as i32 - 1_075;
        let mantissa = (bandwidth.to_bits() & ((1 << 52) - 1)) | (1 << 52);
        Some(Self { units: u128::from(mantissa), shift: -exponent })
    }

    /// Service that so many bytes need; `None` when that is more than the clock can tell.
    fn service(self, bytes: u64) -> Option<u128> {
        let bytes = u128::from(bytes);
        match u32::try_from(self.shift) {
            Ok(shift) if shift < bytes.leading_zeros() => Some(bytes << shift),
            Ok(_) => None,
            // More than 2^53 bytes a nanosecond: what is left of a unit takes no time worth counting.
            Err(_) => Some(bytes.checked_shr(self.shift.unsigned_abs()).unwrap_or(0)),
        }
    }
}

/// A shared link; `T` says whose a transfer is.
#[derive(Debug, Clone)]
pub struct Link<T> {
    rate: Option<Rate>,
    /// Instant of the last change, in units of time.
    changed: u128,
    /// Service received by everybody present since the link was idle, at that instant.
    service: u128,
    /// On their way: by the service at which they end, then in the order in which they began.
    active: BTreeMap<(u128, u64), (T, u64)>,
    begun: u64,
    /// Bytes of transfers that began, and of those that ended.
    bytes_begun: u128,
    bytes_ended: u128,
    /// Time with transfers on their way up to the last change, in units of time.
    busy: u128,
}

impl<T> Link<T> {
    /// An idle link of `bandwidth` GB/s (1e9 bytes); without one, or with one that is not above zero, transfers take no
    /// time.
    pub fn new(bandwidth: Option<f64>) -> Self {
        Self {
            rate: bandwidth.and_then(Rate::of),
            changed: 0,
            service: 0,
            active: BTreeMap::new(),
            begun: 0,
            bytes_begun: 0,
            bytes_ended: 0,
            busy: 0,
        }
    }

    /// Whether transfers take no time.
    pub fn is_instant(&self) -> bool {
        self.rate.is_none()
    }

    /// A transfer of `bytes` begins. Transfers that ended before `now` must have been taken out with [`Self::ended`].
    pub fn begin(&mut self, now: SimTime, transfer: T, bytes: u64) {
        self.advance(now);
        let size = self.rate.map_or(Some(0), |rate| rate.service(bytes));
        // What cannot be told never ends, and still takes its share.
        let end = size.and_then(|size| self.service.checked_add(size)).unwrap_or(u128::MAX);
        self.active.insert((end, self.begun), (transfer, bytes));
        self.begun += 1;
        self.bytes_begun += u128::from(bytes);
    }

    /// When the next transfer ends if none begins before; `None` when none is on its way.
    pub fn next_end(&self) -> Option<SimTime> {
        self.end_of_first().map(instant)
    }

    /// Takes out a transfer that has ended by `now`: the earliest, of equals the one that began first.
    pub fn ended(&mut self, now: SimTime) -> Option<T> {
        let end = self.end_of_first()?;
        if instant(end) > now {
            return None;
        }
        let ((service, _), (transfer, bytes)) = self.active.pop_first()?;
        self.busy += end - self.changed;
        self.changed = end;
        self.service = service;
        self.bytes_ended += u128::from(bytes);
        if self.active.is_empty() {
            self.service = 0;
        }
        Some(transfer)
    }

    /// Transfers on their way.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Bytes of all transfers that ended.
    pub fn bytes_ended(&self) -> u128 {
        self.bytes_ended
    }

    /// Bytes of all transfers that began.
    pub fn bytes_begun(&self) -> u128 {
        self.bytes_begun
    }

    /// Seconds up to `now` in which transfers were on their way. A link that is busy works at its full bandwidth, so this
    /// divided by the time gone by is its utilisation.
    pub fn busy_seconds(&self, now: SimTime) -> f64 {
        let open = if self.active.is_empty() { 0 } else { units(now).saturating_sub(self.changed) };
        (self.busy + open) as f64 / f64::from(1_u32 << FRACTION_BITS) / 1e9
    }

    /// Transfers on their way at `now`, in the order in which they end: whose, the share of the bytes that is there, and the
    /// end if nobody joins. To look changes nothing.
    pub fn under_way(&self, now: SimTime) -> Vec<(&T, f64, SimTime)> {
        let Some(rate) = self.rate else { return Vec::new() };
        let shared = (self.active.len() as u128) << FRACTION_BITS;
        let span = units(now).saturating_sub(self.changed);
        let received = rate.units.checked_mul(span).map_or(u128::MAX, |work| work / shared.max(1));
        let service = self.service.saturating_add(received);
        let (mut at, mut before) = (self.changed as f64, self.service);
        let ways = (1..=self.active.len()).rev().zip(&self.active).map(|(left, ((end, _), (whose, bytes)))| {
            let step = end.saturating_sub(before) as f64 * left as f64 * f64::from(1_u32 << FRACTION_BITS);
            at += step / rate.units as f64;
            before = *end;
            let size = rate.service(*bytes).unwrap_or(u128::MAX);
            let rest = end.saturating_sub(service);
            let share = if size == 0 { 1.0 } else { 1.0 - rest as f64 / size as f64 };
            let ends = (at / f64::from(1_u32 << FRACTION_BITS)).round_ties_even();
            (whose, share.clamp(0.0, 1.0), SimTime::from_nanos(ends as u64))
        });
        ways.collect()
    }

    /// Exact end of the transfer that ends next, in units of time.
    fn end_of_first(&self) -> Option<u128> {
        let (&(service, _), _) = self.active.first_key_value()?;
        let Some(rate) = self.rate else { return Some(self.changed) };
        let rest = service - self.service;
        let work = rest.checked_mul((self.active.len() as u128) << FRACTION_BITS);
        let time = match work {
            // Within one unit of time of the last change: no time.
            Some(work) if work <= rate.units => 0,
            Some(work) => work.div_ceil(rate.units),
            None => u128::MAX,
        };
        Some(self.changed.saturating_add(time))
    }

    /// Everybody receives service up to `now`.
    fn advance(&mut self, now: SimTime) {
        // The last end was rounded down: `now` may lie a fraction of a nanosecond before it.
        let to = units(now).max(self.changed);
        let span = to - self.changed;
        self.changed = to;
        if self.active.is_empty() {
            return;
        }
        self.busy += span;
        let Some(rate) = self.rate else { return };
        let shared = (self.active.len() as u128) << FRACTION_BITS;
        // No transfer gets more than it asked for: the first end is not behind.
        let first = self.active.first_key_value().map_or(u128::MAX, |((service, _), _)| *service);
        let received = rate.units.checked_mul(span).map_or(u128::MAX, |work| work / shared);
        self.service = self.service.saturating_add(received).min(first);
    }
}

/// An instant in units of time.
fn units(at: SimTime) -> u128 {
    u128::from(at.as_nanos()) << FRACTION_BITS
}

/// The nanosecond nearest to an instant in units of time, ties to even.
fn instant(units: u128) -> SimTime {
    let (whole, rest, half) = (units >> FRACTION_BITS, units & ((1 << FRACTION_BITS) - 1), 1 << (FRACTION_BITS - 1));
    let up = rest > half || (rest == half && whole % 2 == 1);
    SimTime::from_nanos(u64::try_from(whole + u128::from(up)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ns: u64) -> SimTime {
        SimTime::from_nanos(ns)
    }

    /// Runs a link through transfers (begin, bytes) in ascending order, looking at it at every instant of `looks` too.
    /// Returns who ended when.
    fn run(link: &mut Link<usize>, transfers: &[(u64, u64)], looks: &[u64]) -> Vec<(usize, SimTime)> {
        let mut ends = Vec::new();
        let mut instants: Vec<(u64, Option<usize>)> =
            transfers.iter().enumerate().map(|(id, (begin, _))| (*begin, Some(id))).collect();
        instants.extend(looks.iter().map(|look| (*look, None)));
        instants.sort_by_key(|(instant, _)| *instant);
        let mut drain = |link: &mut Link<usize>, until: SimTime| {
            while let Some(end) = link.next_end().filter(|end| *end <= until) {
                while let Some(id) = link.ended(end) {
                    ends.push((id, end));
                }
            }
        };
        for (instant, transfer) in instants {
            drain(link, at(instant));
            if let Some(id) = transfer {
                link.begin(at(instant), id, transfers[id].1);
            }
        }
        drain(link, SimTime::MAX);
        ends
    }

    #[test]
    fn a_lone_transfer_takes_its_size_divided_by_the_bandwidth() {
        // 2 GB/s are 2 bytes a nanosecond. 3 bytes take 1.5 ns, to even: 2.
        let mut link = Link::new(Some(2.0));
        assert_eq!(run(&mut link, &[(100, 2_000), (5_000, 3)], &[]), [(0, at(1_100)), (1, at(5_002))]);
        assert_eq!(link.bytes_ended(), 2_003);
        assert_eq!(link.busy_seconds(at(10_000)), 1_001.5e-9);
    }

    #[test]
    fn two_transfers_share_and_the_one_left_gets_all() {
        // 1 byte/ns. A (100 bytes) is alone for 40 ns and has 60 left. B (20 bytes) takes 40 ns at half speed: ends at 80,
        // A has 40 left and ends at 120.
        let mut link = Link::new(Some(1.0));
        assert_eq!(run(&mut link, &[(0, 100), (40, 20)], &[]), [(1, at(80)), (0, at(120))]);
    }

    #[test]
    fn three_that_begin_together_end_by_size() {
        // 3 bytes/ns, 1 each. 10 bytes end at 10. Two left, 1.5 each: 10 more bytes take 6.67 ns, end at 16.67. The last
        // has 10 left at 3: 3.33 ns, end at 20.
        let mut link = Link::new(Some(3.0));
        let ends = run(&mut link, &[(0, 30), (0, 10), (0, 20)], &[]);
        assert_eq!(ends, [(1, at(10)), (2, at(17)), (0, at(20))]);
    }

    #[test]
    fn equals_end_together_in_the_order_in_which_they_began() {
        let mut link = Link::new(Some(7.0));
        let ends = run(&mut link, &[(0, 700), (0, 700), (0, 700)], &[]);
        assert_eq!(ends, [(0, at(300)), (1, at(300)), (2, at(300))]);
    }

    #[test]
    fn without_bandwidth_a_transfer_takes_no_time() {
        for bandwidth in [None, Some(0.0), Some(-1.0)] {
            let mut link = Link::new(bandwidth);
            assert!(link.is_instant());
            assert_eq!(run(&mut link, &[(5, 1 << 40), (5, 1)], &[]), [(0, at(5)), (1, at(5))]);
        }
    }

    #[test]
    fn a_transfer_longer_than_the_clock_never_ends_and_takes_its_share() {
        let mut link = Link::new(Some(1e-9));
        link.begin(at(0), 0, u64::MAX);
        assert!(link.next_end().is_none_or(|end| end == SimTime::MAX));
        let mut link = Link::new(Some(1.0));
        link.begin(at(0), 0, 1 << 50);
        link.begin(at(0), 1, 10);
        assert_eq!(link.next_end(), Some(at(20)));
    }

    proptest! {
        /// Bytes in are bytes out; a link that has anything to send works at its full bandwidth; nobody ends before a
        /// smaller transfer that began no later; and looking changes nothing.
        #[test]
        fn service_is_conserved_and_fair(
            gaps in prop::collection::vec((0..3_000_u64, 1..5_000_u64), 1..30),
            looks in prop::collection::vec(0..60_000_u64, 0..40),
            bandwidth in 0.3..20.0_f64,
        ) {
            let mut now = 0;
            let transfers: Vec<(u64, u64)> = gaps.iter().map(|(gap, bytes)| { now += gap; (now, *bytes) }).collect();
            let mut link = Link::new(Some(bandwidth));
            let ends = run(&mut link, &transfers, &[]);
            let total: u64 = transfers.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(ends.len(), transfers.len());
            prop_assert_eq!((link.bytes_begun(), link.bytes_ended()), (u128::from(total), u128::from(total)));
            prop_assert_eq!(link.active(), 0);
            // Busy time is work divided by bandwidth, up to the rounding of starts to units and ends to nanoseconds.
            let busy_ns = link.busy_seconds(SimTime::MAX) * 1e9;
            prop_assert!((busy_ns - total as f64 / bandwidth).abs() < transfers.len() as f64);
            // Work conservation: the last end is where a single queue would be empty.
            let mut free = 0.0_f64;
            for (begin, bytes) in &transfers {
                free = free.max(*begin as f64) + *bytes as f64 / bandwidth;
            }
            let last = ends.iter().map(|(_, end)| end.as_nanos()).max().unwrap_or(0) as f64;
            prop_assert!((last - free).abs() <= 1.0 + transfers.len() as f64 * 0.5);
            for (place, (id, end)) in ends.iter().enumerate() {
                let alone = transfers[*id].0 as f64 + transfers[*id].1 as f64 / bandwidth;
                prop_assert!(end.as_nanos() as f64 >= alone - 1.0);
                for (other, _) in &ends[place + 1..] {
                    prop_assert!(
                        transfers[*other].0 > transfers[*id].0 || transfers[*other].1 + 1 >= transfers[*id].1
                    );
                }
            }
            prop_assert_eq!(run(&mut Link::new(Some(bandwidth)), &transfers, &looks), ends);
        }
    }
}
