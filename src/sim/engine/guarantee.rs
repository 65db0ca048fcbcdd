//! What TensorRT-LLM does differently under `guaranteed_no_evict`: a request joins only if there is room for its whole
//! output beside the whole outputs of all others, so that nobody ever gives way.

use super::scheduler::{Job, Slot, VllmScheduler};

impl VllmScheduler {
    /// Blocks of a request with its whole output.
    pub(super) fn whole_blocks(&self, job: &Job) -> u64 {
        (u64::from(job.prompt) + u64::from(job.output)).div_ceil(u64::from(self.config.block_size))
    }

    /// Output of a request, cut to what the pool holds beside its prompt.
    pub(super) fn guaranteed_output(&self, job: &Job) -> u32 {
        let total = u64::from(self.pool.capacity()) * u64::from(self.config.block_size);
        match total.checked_sub(u64::from(job.prompt)) {
            None | Some(0) => job.output,
            Some(room) => u32::try_from(room).map_or(job.output, |room| job.output.min(room)),
        }
    }

    /// Blocks a request could get: those not in use, less what running requests are still promised.
    pub(super) fn available(&self) -> u32 {
        let unused = self.pool.capacity() - self.pool.active();
        if !self.guaranteed {
            return unused;
        }
        let promised: u64 = self.running.iter().map(|id| self.outstanding(&self.slots[*id as usize])).sum();
        u32::try_from(promised).map_or(0, |promised| unused.saturating_sub(promised))
    }

    /// Blocks a running request will still take for its whole output.
    fn outstanding(&self, slot: &Slot) -> u64 {
        let allocated = match slot.batched {
            // Of a member of the decode batch the last token is computed in the pass being formed, if it takes part.
            Some(since) => {
                let taking_part = self.batch_pass == self.pass && self.batch_step == self.tokens.step;
                slot.len + (self.tokens.step - 1 - since) as u32 - u32::from(!taking_part)
            }
            None => slot.allocated,
        };
        self.whole_blocks(&slot.job).saturating_sub(u64::from(allocated.div_ceil(self.config.block_size)))
    }
}
