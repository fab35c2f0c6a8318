//! One call of an operation: inputs to the device, dispatches, outputs back.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::device::{Buffer, Gpu, Use};
use super::kernels::{Kernel, LANES};
use super::mapping::Mapping;
use super::upload::{Write, Writes};
use crate::spec::resident::Kept;
use crate::spec::{DeviceFault, NumericError, Op};

/// Where the first output stands in what comes back; before it stands the word of faults.
///
/// # Units
/// Bytes.
const FIRST_OUT: u64 = 16;

/// Part of a buffer on the device, from its start.
#[derive(Debug, Clone)]
pub(super) struct Buf {
    pub(super) buffer: Buffer,
    /// Bytes in use.
    pub(super) bytes: u64,
}

/// Values that never change, and the device that has them.
#[derive(Debug)]
struct Constant {
    gpu: u64,
    buf: Buf,
}

/// What a call's dispatches found wrong. The device says *that* something is; the host finds out what and where.
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

/// A call of an operation, as far as it is recorded.
pub(super) struct Call<'a> {
    gpu: &'a Gpu,
    op: Op,
    encoder: ::wgpu::CommandEncoder,
    held: Vec<(Use, Buffer)>,
    fault: Buf,
    /// What has to be on the device before anything that is recorded.
    writes: Writes,
    /// Why it cannot be done: then nothing more is recorded, and what [`room`](Self::room) gives is no room.
    failed: Option<DeviceFault>,
    /// Room that kernels alone have written to, in the order of its giving out.
    rooms: Vec<Buffer>,
    /// Room that what is recorded from now on may have again, by size.
    free: BTreeMap<u64, Vec<Buffer>>,
    /// What comes back, and how much of it is taken.
    back: Option<(Buffer, u64)>,
}

impl<'a> Call<'a> {
    pub(super) fn new(gpu: &'a Gpu, op: Op) -> Result<Self, NumericError> {
        gpu.check(op)?;
        let buffer = gpu.take(Use::Storage, 4).map_err(|fault| gpu.fault(op, fault))?;
        let mut encoder = gpu.device.create_command_encoder(&::wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(&buffer, 0, Some(4));
        let fault = Buf { buffer: buffer.clone(), bytes: 4 };
        Ok(Self {
            gpu,
            op,
            encoder,
            held: vec![(Use::Storage, buffer)],
            fault,
            writes: Writes::default(),
            failed: None,
            rooms: Vec::new(),
            free: BTreeMap::new(),
            back: None,
        })
    }

    /// A buffer for as long as the call lasts.
    fn hold(&mut self, what: Use, bytes: u64) -> Option<Buffer> {
        match self.gpu.take(what, bytes) {
            Ok(buffer) => {
                self.held.push((what, buffer.clone()));
                Some(buffer)
            }
            Err(fault) => {
                self.failed.get_or_insert(fault);
                None
            }
        }
    }

    /// Room for `words`, its contents unknown.
    pub(super) fn room(&mut self, words: usize) -> Buf {
        let bytes = 4 * words.max(1) as u64;
        let again = self.free.get_mut(&Gpu::size_of(bytes)).and_then(Vec::pop);
        let buffer = match again.or_else(|| self.hold(Use::Storage, bytes)) {
            Some(buffer) => {
                self.rooms.push(buffer.clone());
                buffer
            }
            None => self.fault.buffer.clone(),
        };
        Buf { buffer, bytes }
    }

    /// How much room was given out until now.
    pub(super) fn mark(&self) -> usize {
        self.rooms.len()
    }

    /// Lets what is recorded from now on have the room that was given out since `mark`: the device does one thing after another.
    pub(super) fn recycle(&mut self, mark: usize) {
        for buffer in self.rooms.drain(mark..) {
            self.free.entry(buffer.size()).or_default().push(buffer);
        }
    }

    /// Values on their way to the device. They arrive before anything that is recorded, so their room is never used again.
    pub(super) fn upload<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Buf {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let length = bytes.len().max(4) as u64;
        match self.hold(Use::Storage, length) {
            Some(buffer) => {
                self.writes.push(buffer.clone(), bytes);
                Buf { buffer, bytes: length }
            }
            None => Buf { buffer: self.fault.buffer.clone(), bytes: length },
        }
    }

    /// Values that never change: sent once, at once, and kept with them.
    pub(super) fn constant<T: bytemuck::NoUninit>(&mut self, values: &[T], kept: &Kept) -> Buf {
        let gpu = self.gpu;
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let send = || {
            let buffer = gpu.create(Use::Storage, (bytes.len() as u64).next_multiple_of(16)).ok()?;
            gpu.send(&[Write { buffer: &buffer, at: 0, bytes }]).ok()?;
            Some(Constant { gpu: gpu.id, buf: Buf { buffer, bytes: bytes.len() as u64 } })
        };
        match kept.get_or(send) {
            Some(constant) if constant.gpu == gpu.id => constant.buf.clone(),
            // Another device keeps them, or this one has no room for good.
            _ => self.upload(values),
        }
    }

    /// Blocks of keys of a query that one workgroup of attention takes; where there are more, several do.
    pub(super) const fn blocks_per_group(&self) -> usize {
        self.gpu.blocks_per_group
    }

    /// The word that every kernel notes faults in.
    pub(super) fn fault(&self) -> Buf {
        self.fault.clone()
    }

    /// Copies words on the device, after what was recorded so far; each place counts words from its buffer's start.
    pub(super) fn copy(&mut self, (src, from): (&Buf, usize), (dst, to): (&Buf, usize), words: usize) {
        if self.failed.is_some() {
            return;
        }
        let [from, to, bytes] = [from, to, words].map(|words| 4 * words as u64);
        self.encoder.copy_buffer_to_buffer(&src.buffer, from, &dst.buffer, to, bytes);
    }

    /// Runs `kernel` over `groups` workgroups, `depth` times in the third dimension.
    pub(super) fn dispatch(
        &mut self,
        kernel: Kernel,
        bufs: &[&Buf],
        params: &[u32],
        groups: usize,
        depth: usize,
    ) {
        let gpu = self.gpu;
        let uniform = match self.hold(Use::Parameters, 4 * params.len() as u64) {
            Some(uniform) if self.failed.is_none() => uniform,
            _ => return,
        };
        self.writes.push(uniform.clone(), bytemuck::cast_slice(params));
        let pipeline = gpu.pipelines.of(&gpu.device, kernel);
        let binding = |buffer, bytes| {
            ::wgpu::BindingResource::Buffer(::wgpu::BufferBinding {
                buffer,
                offset: 0,
                size: std::num::NonZeroU64::new(bytes),
            })
        };
        let mut entries: Vec<::wgpu::BindGroupEntry<'_>> = bufs
            .iter()
            .enumerate()
            .map(|(i, buf)| ::wgpu::BindGroupEntry {
                binding: i as u32,
                resource: binding(&buf.buffer, buf.bytes.next_multiple_of(16).min(buf.buffer.size())),
            })
            .collect();
        let resource = binding(&uniform, uniform.size());
        entries.push(::wgpu::BindGroupEntry { binding: bufs.len() as u32, resource });
        let group = gpu.device.create_bind_group(&::wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        drop(entries);
        let groups = groups as u32;
        let x = groups.min(gpu.max_groups);
        {
            let mut pass = self.encoder.begin_compute_pass(&::wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, groups.div_ceil(x), depth as u32);
        }
    }

    /// Runs `kernel` with a lane for each of `items`.
    pub(super) fn dispatch_items(&mut self, kernel: Kernel, bufs: &[&Buf], params: &[u32], items: usize) {
        self.dispatch(kernel, bufs, params, items.div_ceil(LANES as usize), 1);
    }

    /// Makes room for so many bytes of outputs to come back.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.back = self.hold(Use::Readback, FIRST_OUT + bytes).map(|buffer| (buffer, FIRST_OUT));
    }

    /// Has the first bytes of a buffer, as they are after what was recorded so far, come back next.
    pub(super) fn fetch(&mut self, buf: &Buf, bytes: u64) {
        if let (None, Some((back, at))) = (&self.failed, &mut self.back)
            && bytes > 0
        {
            self.encoder.copy_buffer_to_buffer(&buf.buffer, 0, back, *at, bytes);
            *at += bytes;
        }
    }

    /// Submits what was recorded, waits, and copies outputs to the host; with a fault only where `always`.
    pub(super) async fn finish(
        mut self,
        outs: &mut [(&Buf, &mut [u8])],
        always: bool,
    ) -> Result<Faults, NumericError> {
        self.expect(outs.iter().map(|(_, to)| to.len() as u64).sum());
        for (buf, to) in outs.iter() {
            self.fetch(buf, to.len() as u64);
        }
        let copy = |faults: Faults, mut from: &[u8]| {
            if always || !faults.any() {
                for (_, to) in outs.iter_mut() {
                    let own;
                    (own, from) = from.split_at(to.len());
                    to.copy_from_slice(own);
                }
            }
            faults
        };
        self.submit(copy).await
    }

    /// Submits what was recorded, waits, and hands over what the device noted and what came back.
    pub(super) async fn submit<T>(
        mut self,
        read: impl FnOnce(Faults, &[u8]) -> T,
    ) -> Result<T, NumericError> {
        let gpu = self.gpu;
        let (None, Some((back, total))) = (&self.failed, self.back.take()) else {
            return Err(gpu.fault(self.op, self.failed.unwrap_or(DeviceFault::OutOfMemory)));
        };
        self.encoder.copy_buffer_to_buffer(&self.fault.buffer, 0, &back, 0, 4);
        let first = gpu.stage(&self.writes.all()).map_err(|fault| gpu.fault(self.op, fault))?;
        let submission = gpu.queue.submit(first.into_iter().chain([self.encoder.finish()]));
        gpu.moved.submissions.fetch_add(1, Ordering::Relaxed);
        let mapping = Mapping::start(&back, total);
        let waited = gpu.wait(submission);
        gpu.check(self.op)?;
        waited.map_err(|fault| gpu.fault(self.op, fault))?;
        let mapped = if cfg!(target_arch = "wasm32") { mapping.await } else { mapping.is_there() };
        gpu.check(self.op)?;
        let lost = || gpu.fault(self.op, gpu.lost());
        if !mapped {
            return Err(lost());
        }
        let result = {
            let view = back.slice(..total).get_mapped_range().map_err(|_| lost())?;
            let word = view.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            read(Faults(word), &view[FIRST_OUT as usize..])
        };
        gpu.moved.from_device.fetch_add(total, Ordering::Relaxed);
        back.unmap();
        for (what, buffer) in self.held {
            gpu.give(what, buffer);
        }
        Ok(result)
    }
}
