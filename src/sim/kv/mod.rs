//! KV blocks: which prompts share them, which are resident, who owns them, which goes next.

mod events;
mod pool;
mod prompts;
mod radix;
mod tiers;

pub use events::{BlockRun, KvEvent, KvEvents};
pub use pool::{Held, Hit, Home, KvExtent, KvPool};
pub use prompts::{PromptIndex, Segment};
pub use radix::{PageKey, ROOT, RadixCache, RadixNode, Stamp};
pub use tiers::{FromTiers, KvTiers, Lane, SharedTiers, Tier, TierUse};
