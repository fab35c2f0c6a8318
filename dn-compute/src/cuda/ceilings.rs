//! What a card can do at most, measured: the ceilings beside which the backend's own rates are told.

use std::time::{Duration, Instant};

use super::Cuda;
use super::call::{Call, words};
use super::device::{Buf, Device};
use super::elements::bytes;
use crate::spec::{DeviceFault, NumericError, Op};

/// Threads of a block of all of these kernels.
const BLOCK: usize = 256;
/// Blocks for each multiprocessor: all the threads that it takes.
const BLOCKS: usize = 8;
/// Sums of a thread that do not wait for each other: `CHAINS` in `ceilings.cu`.
const CHAINS: usize = 8;
/// Bytes of one in a word.
const ONES: u32 = 0x0101_0101;

/// What a card can do at most, by kernels that do nothing else. The products are those that the backend uses; a card may have
/// others that are faster (`wgmma`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// From the device's memory to the device's memory.
    ///
    /// # Units
    /// Bytes per second, those read and those written together.
    pub copy_bytes_per_s: u64,
    /// From the device's memory.
    ///
    /// # Units
    /// Bytes per second.
    pub read_bytes_per_s: u64,
    /// Products of four bytes with four (`dp4a`).
    ///
    /// # Units
    /// Operations per second; a product and an addition are two.
    pub dp4a_ops_per_s: u64,
    /// Products of tiles of bytes (`mma.sync`); `None` of a card without.
    ///
    /// # Units
    /// As above.
    pub tile_ops_per_s: Option<u64>,
}

/// How much is done for a measurement.
struct Size {
    /// Bytes that are read or copied: more than any cache of a card, a multiple of sixteen.
    bytes: usize,
    /// Products of a sum.
    rounds: u32,
    /// Launches that are timed together.
    launches: usize,
    /// How often; the fastest counts, the first wakes the card.
    repetitions: usize,
}

const SIZE: Size = Size { bytes: 512 << 20, rounds: 1 << 14, launches: 4, repetitions: 8 };

impl Cuda {
    /// Measures what the card can do at most; takes a second, and a gigabyte of its memory.
    ///
    /// # Errors
    /// A card that fails, has not so much memory left, or multiplies wrongly.
    pub fn ceilings(&self) -> Result<Ceilings, NumericError> {
        measure(&self.device, &SIZE)
    }
}

fn measure(device: &Device, size: &Size) -> Result<Ceilings, NumericError> {
    let from = device.hold(Op::Linear, size.bytes)?;
    let to = device.hold(Op::Linear, size.bytes.max(4 * threads(device)))?;
    device.driver().clear(from.at(), size.bytes).map_err(|fault| device.fault(Op::Linear, fault))?;
    let copied = fastest(device, size, |call| copy(call, &from, &to, size.bytes))?;
    let read = fastest(device, size, |call| read(call, &from, &to, size.bytes))?;
    let rate = |amount: u64, time: Duration| per_second(amount.saturating_mul(size.launches as u64), time);
    let dp4a = Product::Dp4a.measure(device, size, &to)?;
    let tiles = match device.driver().has_tiles() {
        true => Some(Product::Tiles.measure(device, size, &to)?),
        false => None,
    };
    Ok(Ceilings {
        copy_bytes_per_s: rate(2 * size.bytes as u64, copied),
        read_bytes_per_s: rate(size.bytes as u64, read),
        dp4a_ops_per_s: rate(Product::Dp4a.operations(device, size), dp4a),
        tile_ops_per_s: tiles.map(|time| rate(Product::Tiles.operations(device, size), time)),
    })
}

fn per_second(amount: u64, time: Duration) -> u64 {
    let rate = u128::from(amount) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn threads(device: &Device) -> usize {
    device.driver().units() * BLOCKS * BLOCK
}

/// The time of the launches, of the fastest repetition.
fn fastest(
    device: &Device,
    size: &Size,
    launch: impl Fn(&Call<'_>) -> Result<(), NumericError>,
) -> Result<Duration, NumericError> {
    let mut fastest = Duration::MAX;
    for _ in 0..size.repetitions {
        let call = Call::new(device, Op::Linear)?;
        let started = Instant::now();
        (0..size.launches).try_for_each(|_| launch(&call))?;
        call.finish(&mut [])?;
        fastest = fastest.min(started.elapsed());
    }
    Ok(fastest)
}

fn launch(
    call: &Call<'_>,
    kernel: &'static str,
    addresses: &[u64],
    numbers: &[u32],
) -> Result<(), NumericError> {
    let grid = [call.device.driver().units() * BLOCKS, 1, 1];
    call.launch(kernel, grid, BLOCK as u32, addresses, numbers)
}

fn copy(call: &Call<'_>, from: &Buf, to: &Buf, bytes: usize) -> Result<(), NumericError> {
    launch(call, "copy_all", &[from.at(), to.at()], &words(bytes / 16))
}

/// Reads bytes; leaves a word for each thread.
fn read(call: &Call<'_>, from: &Buf, to: &Buf, bytes: usize) -> Result<(), NumericError> {
    launch(call, "read_all", &[from.at(), to.at()], &words(bytes / 16))
}

/// A product of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    Dp4a,
    Tiles,
}

impl Product {
    /// What a launch does in one round of one chain: products of bytes that a thread, or a warp together, adds up.
    const fn products(self, threads: usize) -> usize {
        match self {
            Self::Dp4a => threads * 4,
            Self::Tiles => threads / 32 * (16 * 8 * 32),
        }
    }

    fn operations(self, device: &Device, size: &Size) -> u64 {
        2 * (self.products(threads(device)) * CHAINS) as u64 * u64::from(size.rounds)
    }

    /// What every thread has in the end: chain `k` adds up products with `k + 1`.
    const fn sum(self, rounds: u32) -> i32 {
        let factors = (CHAINS * (CHAINS + 1) / 2) as i32;
        let each = match self {
            Self::Dp4a => 4,
            Self::Tiles => 4 * 32,
        };
        each * factors * rounds as i32
    }

    fn launch(self, call: &Call<'_>, size: &Size, to: &Buf) -> Result<(), NumericError> {
        let kernel = match self {
            Self::Dp4a => "peak_dp4a",
            Self::Tiles => "peak_tiles",
        };
        launch(call, kernel, &[to.at()], &[size.rounds, ONES])
    }

    /// The time of its launches, whose results are looked at: what is left out would be fast.
    fn measure(self, device: &Device, size: &Size, to: &Buf) -> Result<Duration, NumericError> {
        let time = fastest(device, size, |call| self.launch(call, size, to))?;
        let mut sums = vec![0i32; threads(device)];
        Call::new(device, Op::Linear)?.finish(&mut [(to, bytes(&mut sums))])?;
        if sums.iter().any(|sum| *sum != self.sum(size.rounds)) {
            return Err(device.fault(Op::Linear, DeviceFault::Wrong));
        }
        Ok(time)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::cuda::emulation::{Emulation, emulated};

    const SMALL: Size = Size { bytes: 16 * 5003, rounds: 3, launches: 2, repetitions: 2 };

    #[test]
    fn what_is_measured_is_done() {
        for tiles in [true, false] {
            let Some(card) = emulated(Emulation { tiles, ..Emulation::default() }) else { return };
            let ceilings = measure(&card.device, &SMALL).unwrap();
            assert!(ceilings.copy_bytes_per_s > 0 && ceilings.read_bytes_per_s > 0, "{ceilings:?}");
            assert!(ceilings.dp4a_ops_per_s > 0, "{ceilings:?}");
            assert_eq!(ceilings.tile_ops_per_s.is_some(), tiles);
        }
        // Three multiprocessors with eight blocks of 256 threads: 192 warps, 4,096 products each, in eight chains, three times.
        let Some(card) = emulated(Emulation::default()) else { return };
        assert_eq!(Product::Tiles.operations(&card.device, &SMALL), 2 * 192 * 4096 * 8 * 3);
        assert_eq!(Product::Dp4a.operations(&card.device, &SMALL), 2 * 6144 * 4 * 8 * 3);
    }

    #[test]
    fn every_byte_is_copied_and_read() {
        let Some(card) = emulated(Emulation::default()) else { return };
        let device = &card.device;
        let pattern: Vec<u32> = (0..SMALL.bytes as u32 / 4).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        let call = Call::new(device, Op::Linear).unwrap();
        let from = call.upload(&pattern).unwrap();
        let (copied, read_words) = (call.room(pattern.len()).unwrap(), call.room(threads(device)).unwrap());
        copy(&call, &from, &copied, SMALL.bytes).unwrap();
        read(&call, &from, &read_words, SMALL.bytes).unwrap();
        let mut found = vec![0u32; pattern.len()];
        let mut each = vec![0u32; threads(device)];
        call.finish(&mut [(&copied, bytes(&mut found)), (&read_words, bytes(&mut each))]).unwrap();
        assert_eq!(found, pattern);
        let all = |words: &[u32]| words.iter().fold(0, |all, word| all ^ word);
        assert_eq!(all(&each), all(&pattern));
    }

    /// A card that leaves products out is no fast card.
    #[test]
    fn products_that_are_left_out_are_seen() {
        for change in [
            ("__dp4a(ones * (k + 1), ones, sums[k])", "__dp4a(ones, ones, sums[k])"),
            ("mma_32(sums[k], left, right)", "if (k) mma_32(sums[k], left, right)"),
        ] {
            let Some(card) = emulated(Emulation { change: Some(change), ..Emulation::default() }) else {
                return;
            };
            let error = measure(&card.device, &SMALL).unwrap_err();
            assert!(matches!(error, NumericError::Device { fault: DeviceFault::Wrong, .. }), "{error:?}");
        }
    }

    #[test]
    fn a_rate_is_an_amount_over_a_time() {
        assert_eq!(per_second(3_000_000_000, Duration::from_millis(2)), 1_500_000_000_000);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
    }
}
