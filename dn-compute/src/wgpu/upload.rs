//! Values on their way to the device.
//!
//! `wgpu`'s own way (`write_buffer`) takes memory for each write, and where there is none it gives the whole device up. So values
//! go through buffers that are made like all others: where there is no room for one, only the call that wanted it fails. They go
//! in pieces, of which one thread that sends has two at a time, so that no matrix is in the host's memory once more; of several
//! threads each may make a piece of its own before it sees that of another.

#[cfg(not(target_arch = "wasm32"))]
use std::collections::VecDeque;
#[cfg(not(target_arch = "wasm32"))]
use std::ops::Range;
use std::sync::atomic::Ordering;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::device::{Buffer, Gpu};
use crate::spec::DeviceFault;

/// Most bytes of a piece; fewer if told so.
pub(super) const PIECE_BYTES: usize = 16 << 20;

/// Values, and where they go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub(super) buffer: &'a Buffer,
    /// In bytes, a multiple of four.
    pub(super) at: u64,
    /// Whole words.
    pub(super) bytes: &'a [u8],
}

/// Values that wait for what they are for to be submitted.
#[derive(Debug, Default)]
pub(super) struct Writes {
    bytes: Vec<u8>,
    /// Buffers, to whose starts they go, and how many of the bytes each gets.
    places: Vec<(Buffer, usize)>,
}

impl Writes {
    /// More, for the start of a buffer.
    pub(super) fn push(&mut self, buffer: Buffer, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.places.push((buffer, bytes.len()));
    }

    pub(super) fn all(&self) -> Vec<Write<'_>> {
        let mut rest = self.bytes.as_slice();
        let mut next = |length: usize| {
            let own;
            (own, rest) = rest.split_at(length);
            own
        };
        self.places.iter().map(|(buffer, length)| Write { buffer, at: 0, bytes: next(*length) }).collect()
    }
}

/// Which parts of which writes go together, at most `most` bytes of them; an empty write goes nowhere.
#[cfg(not(target_arch = "wasm32"))]
fn cut(lengths: impl IntoIterator<Item = usize>, most: usize) -> Vec<Vec<(usize, Range<usize>)>> {
    // Whole words.
    let most = (most / 4 * 4).max(4);
    let (mut pieces, mut piece, mut room) = (Vec::new(), Vec::new(), most);
    for (write, length) in lengths.into_iter().enumerate() {
        let mut at = 0;
        while at < length {
            let end = length.min(at + room);
            piece.push((write, at..end));
            room -= end - at;
            at = end;
            if room == 0 {
                pieces.push(std::mem::take(&mut piece));
                room = most;
            }
        }
    }
    pieces.extend(Some(piece).filter(|piece| !piece.is_empty()));
    pieces
}

/// Cuts writes into pieces of at most `most` bytes.
#[cfg(not(target_arch = "wasm32"))]
fn pieces<'a>(writes: &[Write<'a>], most: usize) -> Vec<Vec<Write<'a>>> {
    let part = |(write, range): (usize, Range<usize>)| {
        let Write { buffer, at, bytes } = writes[write];
        Write { buffer, at: at + range.start as u64, bytes: &bytes[range] }
    };
    let lengths = writes.iter().map(|write| write.bytes.len());
    cut(lengths, most).into_iter().map(|piece| piece.into_iter().map(part).collect()).collect()
}

/// What is on its way: how many bytes each submission carries, the oldest first.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Default)]
pub(super) struct OnTheWay(Mutex<VecDeque<(usize, ::wgpu::SubmissionIndex)>>);

#[cfg(not(target_arch = "wasm32"))]
impl OnTheWay {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(usize, ::wgpu::SubmissionIndex)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: usize, submission: ::wgpu::SubmissionIndex) {
        self.lock().push_back((bytes, submission));
    }

    /// The oldest, if all together are more than `most` bytes.
    fn beyond(&self, most: usize) -> Option<::wgpu::SubmissionIndex> {
        let mut all = self.lock();
        let bytes: usize = all.iter().map(|(bytes, _)| bytes).sum();
        let (_, oldest) = (bytes > most).then(|| all.pop_front())??;
        Some(oldest)
    }
}

impl Gpu {
    /// Sends values: they are there for whatever is submitted from now on.
    pub(super) fn send(&self, writes: &[Write<'_>]) -> Result<(), DeviceFault> {
        #[cfg(not(target_arch = "wasm32"))]
        for piece in pieces(writes, self.piece_bytes) {
            self.send_piece(&piece)?;
        }
        #[cfg(target_arch = "wasm32")]
        self.queue.submit(self.stage(writes)?);
        Ok(())
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn send_piece(&self, piece: &[Write<'_>]) -> Result<(), DeviceFault> {
        // What arrived gives its memory back when it is waited for.
        while let Some(oldest) = self.on_the_way.beyond(self.piece_bytes) {
            self.wait(oldest)?;
        }
        let (commands, bytes) = self.piece(piece)?;
        self.on_the_way.add(bytes, self.queue.submit([commands]));
        Ok(())
    }

    /// Sends values but for the last piece of them, which goes with the commands that come back.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn stage(&self, writes: &[Write<'_>]) -> Result<Option<::wgpu::CommandBuffer>, DeviceFault> {
        let mut pieces = pieces(writes, self.piece_bytes);
        let last = pieces.pop();
        for piece in &pieces {
            self.send_piece(piece)?;
        }
        last.map(|piece| Ok(self.piece(&piece)?.0)).transpose()
    }

    /// A browser has its own way, which does not give the device up.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn stage(&self, writes: &[Write<'_>]) -> Result<Option<::wgpu::CommandBuffer>, DeviceFault> {
        for write in writes {
            self.moved.to_device.fetch_add(write.bytes.len() as u64, Ordering::Relaxed);
            self.queue.write_buffer(write.buffer, write.at, write.bytes);
        }
        Ok(None)
    }

    /// Puts values into a buffer that the host sees, and records where they go from there; says how many bytes they are.
    #[cfg(not(target_arch = "wasm32"))]
    fn piece(&self, piece: &[Write<'_>]) -> Result<(::wgpu::CommandBuffer, usize), DeviceFault> {
        let size: usize = piece.iter().map(|write| write.bytes.len()).sum();
        let from = self.passing(size as u64)?;
        {
            let view = from.slice(..).get_mapped_range_mut();
            let mut view = view.map_err(|_| self.lost())?;
            let mut at = 0;
            for write in piece {
                view.slice(at..at + write.bytes.len()).copy_from_slice(write.bytes);
                at += write.bytes.len();
            }
        }
        from.unmap();
        let mut encoder = self.device.create_command_encoder(&::wgpu::CommandEncoderDescriptor::default());
        let mut at = 0;
        for write in piece {
            let length = write.bytes.len() as u64;
            encoder.copy_buffer_to_buffer(&from, at, write.buffer, write.at, length);
            at += length;
        }
        self.moved.to_device.fetch_add(at, Ordering::Relaxed);
        Ok((encoder.finish(), size))
    }
}

#[cfg(all(test, feature = "engine"))]
mod tests {
    use pollster::block_on;

    use super::super::call::{Buf, Call};
    use super::super::device::Use;
    use super::super::{Wgpu, WgpuOptions};
    use super::*;
    use crate::spec::Op;
    use crate::testing::device::device;

    #[test]
    fn pieces_are_full_and_miss_nothing() {
        for lengths in [&[][..], &[0], &[4], &[8, 0, 4, 4], &[60, 4, 64], &[400, 0, 12, 8], &[128; 3]] {
            for most in [0, 4, 7, 8, 64, 100, 4000] {
                let room = (most / 4 * 4).max(4);
                let pieces = cut(lengths.iter().copied(), most);
                let bytes =
                    |piece: &Vec<(usize, Range<usize>)>| piece.iter().map(|(_, part)| part.len()).sum();
                let sizes: Vec<usize> = pieces.iter().map(bytes).collect();
                let (last, full) = sizes.split_last().unwrap_or((&room, &[]));
                assert!(
                    full.iter().all(|size| *size == room) && (1..=room).contains(last),
                    "{sizes:?} {most}"
                );
                // Every byte of every write, in order.
                let all = pieces
                    .iter()
                    .flatten()
                    .flat_map(|(write, part)| part.clone().map(move |at| (*write, at)));
                let expected = lengths
                    .iter()
                    .enumerate()
                    .flat_map(|(write, length)| (0..*length).map(move |at| (write, at)));
                assert!(all.eq(expected), "{lengths:?} {most}");
                assert!(pieces.iter().flatten().all(|(_, part)| part.start % 4 == 0 && !part.is_empty()));
            }
        }
    }

    fn opened(max_upload_bytes: Option<usize>) -> Option<Wgpu> {
        device(&WgpuOptions { max_upload_bytes, ..WgpuOptions::default() })
    }

    fn bytes_of(gpu: &Gpu, buffer: &Buffer) -> Vec<u8> {
        let mut bytes = vec![1; buffer.size() as usize];
        let buf = Buf { buffer: buffer.clone(), bytes: buffer.size() };
        let call = Call::new(gpu, Op::Linear).expect("a device that works");
        block_on(call.finish(&mut [(&buf, &mut bytes)], true)).expect("a device that works");
        bytes
    }

    fn numbers(len: usize) -> Vec<u8> {
        (0..len as u32 / 4).flat_map(|i| (i.wrapping_mul(0x9e37_79b9) ^ i >> 7).to_le_bytes()).collect()
    }

    #[test]
    fn what_is_longer_than_a_piece_arrives_whole() {
        let Some(device) = opened(None) else { return };
        let gpu = &device.gpu;
        let sent = numbers(3 * PIECE_BYTES + 1236);
        let buffer = gpu.create(Use::Storage, sent.len() as u64).unwrap();
        let before = device.traffic().to_device_bytes;
        gpu.send(&[Write { buffer: &buffer, at: 0, bytes: &sent }]).unwrap();
        assert_eq!(device.traffic().to_device_bytes - before, sent.len() as u64);
        assert!(bytes_of(gpu, &buffer) == sent);
    }

    #[test]
    fn no_piece_is_larger_than_usual() {
        let Some(device) = opened(Some(usize::MAX)) else { return };
        assert_eq!(device.gpu.piece_bytes, PIECE_BYTES);
    }

    /// Several writes in pieces that end within them: each is where it belongs, and nothing is anywhere else.
    #[test]
    fn writes_are_where_they_belong() {
        for most in [4, 12, 28, 100, 1000] {
            let Some(device) = opened(Some(most)) else { return };
            let gpu = &device.gpu;
            let (one, two) = (gpu.create(Use::Storage, 160).unwrap(), gpu.create(Use::Storage, 48).unwrap());
            let values = numbers(100);
            let write = |buffer, at, bytes| Write { buffer, at, bytes };
            let writes = [
                write(&one, 8, &values[..60]),
                write(&two, 0, &[]),
                write(&two, 4, &values[60..72]),
                write(&one, 120, &values[72..100]),
            ];
            gpu.send(&writes).unwrap();
            let (mut first, mut second) = (vec![0; 160], vec![0; 48]);
            first[8..68].copy_from_slice(&values[..60]);
            first[120..148].copy_from_slice(&values[72..]);
            second[4..16].copy_from_slice(&values[60..72]);
            assert_eq!((bytes_of(gpu, &one), bytes_of(gpu, &two)), (first, second), "{most}");
        }
    }
}
