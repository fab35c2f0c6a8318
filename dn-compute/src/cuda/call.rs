//! One call of an operation: inputs to the device, launches, outputs back.

use std::cell::RefCell;

use super::device::{Buf, Device};
use super::driver::{Args, Download, Launch};
use crate::spec::{NumericError, Op};

/// Threads of a block where each takes an element.
const ELEMENT_BLOCK: u32 = 256;
/// Lanes of a warp.
const WARP: usize = 32;

/// What a call's kernels found wrong. The device says *that* something is; the host finds out what and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Faults(pub(super) u32);

impl Faults {
    /// An input was not finite or could not be quantised.
    pub(super) const fn input(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether there are any.
    pub(super) const fn any(self) -> bool {
        self.0 != 0
    }
}

/// A call of an operation.
pub(super) struct Call<'a> {
    pub(super) device: &'a Device,
    op: Op,
    fault: Buf,
    later: Option<Later>,
}

/// What is launched together at the end. Until then nothing that it uses is given back: uploads do not wait for it.
struct Later {
    key: u64,
    launches: RefCell<Vec<Launch>>,
    held: RefCell<Vec<Buf>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(device: &'a Device, op: Op) -> Result<Self, NumericError> {
        let fault = device.take(op, 16)?;
        device.driver().clear(fault.at(), 16).map_err(|fault| device.fault(op, fault))?;
        Ok(Self { device, op, fault, later: None })
    }

    /// The same, all of whose launches come again and again, for the same `key` in the same order.
    pub(super) fn repeated(self, key: u64) -> Self {
        let later = Later { key, launches: RefCell::default(), held: RefCell::default() };
        Self { later: Some(later), ..self }
    }

    /// Whether its launches wait for the end.
    pub(super) const fn is_repeated(&self) -> bool {
        self.later.is_some()
    }

    fn take(&self, bytes: usize) -> Result<Buf, NumericError> {
        let buf = self.device.take(self.op, bytes)?;
        if let Some(later) = &self.later {
            later.held.borrow_mut().push(buf.clone());
        }
        Ok(buf)
    }

    /// Room for so many words of four bytes, its contents unknown.
    pub(super) fn room(&self, words: usize) -> Result<Buf, NumericError> {
        self.take(4 * words)
    }

    /// Values on their way to the device.
    pub(super) fn upload<T: bytemuck::NoUninit>(&self, values: &[T]) -> Result<Buf, NumericError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buf = self.take(bytes.len())?;
        if !bytes.is_empty() {
            self.device
                .driver()
                .upload(buf.at(), bytes)
                .map_err(|fault| self.device.fault(self.op, fault))?;
        }
        Ok(buf)
    }

    /// The word in which kernels note faults.
    pub(super) fn fault(&self) -> u64 {
        self.fault.at()
    }

    /// Runs a kernel over `grid` blocks of `block` threads.
    pub(super) fn launch(
        &self,
        kernel: &'static str,
        grid: [usize; 3],
        block: u32,
        addresses: &[u64],
        numbers: &[u32],
    ) -> Result<(), NumericError> {
        let mut args = Args::default();
        args.addresses[..addresses.len()].copy_from_slice(addresses);
        args.numbers[..numbers.len()].copy_from_slice(numbers);
        let launch = Launch { kernel, grid: grid.map(|n| n as u32), block, args };
        if let Some(later) = &self.later {
            later.launches.borrow_mut().push(launch);
            return Ok(());
        }
        self.device.driver().launch(&launch).map_err(|fault| self.device.fault(self.op, fault))
    }

    /// Runs a kernel with a thread for each of `items`.
    pub(super) fn launch_items(
        &self,
        kernel: &'static str,
        items: usize,
        addresses: &[u64],
        numbers: &[u32],
    ) -> Result<(), NumericError> {
        let blocks = items.div_ceil(ELEMENT_BLOCK as usize).max(1);
        self.launch(kernel, [blocks, 1, 1], ELEMENT_BLOCK, addresses, numbers)
    }

    /// Runs a kernel with a block for each of `rows` of `cols`.
    pub(super) fn launch_rows(
        &self,
        kernel: &'static str,
        rows: usize,
        cols: usize,
        addresses: &[u64],
        numbers: &[u32],
    ) -> Result<(), NumericError> {
        let block = cols.div_ceil(4).next_multiple_of(WARP).clamp(WARP, 256) as u32;
        self.launch(kernel, [rows, 1, 1], block, addresses, numbers)
    }

    /// Waits, and copies outputs to the host.
    pub(super) fn finish(self, outs: &mut [(&Buf, &mut [u8])]) -> Result<Faults, NumericError> {
        if let Some(Later { key, launches, .. }) = &self.later {
            let run = self.device.run(*key, &launches.borrow());
            run.map_err(|fault| self.device.fault(self.op, fault))?;
        }
        let mut word = [0; 4];
        let mut parts: Vec<Download<'_>> = vec![(self.fault.at(), &mut word)];
        parts.extend(outs.iter_mut().filter(|(_, to)| !to.is_empty()).map(|(buf, to)| (buf.at(), &mut **to)));
        let done = self.device.driver().download(&mut parts);
        done.map_err(|fault| self.device.fault(self.op, fault))?;
        Ok(Faults(u32::from_le_bytes(word)))
    }
}

/// A count of 64 bits as a kernel takes it: the low word, the high word.
pub(super) const fn words(n: usize) -> [u32; 2] {
    let n = n as u64;
    [n as u32, (n >> 32) as u32]
}
