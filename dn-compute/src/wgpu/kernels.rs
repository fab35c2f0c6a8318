//! The kernels: their sources, their forms, and the pipelines, each compiled once when it is first used.

use std::sync::OnceLock;

/// Lanes of a workgroup of every kernel but the linear ones.
pub(super) const LANES: u32 = 64;
/// Lanes of a workgroup of a linear kernel for few rows.
const GROUP: u32 = 128;
/// Lanes of it that share a row of weights.
const ROW_LANES: u32 = 32;
/// Rows of weights that it takes.
const GROUP_ROWS: u32 = GROUP / ROW_LANES;
/// Activation rows that pass at a time where there are a few.
const FEW_TOKENS: usize = 4;
/// Rows of weights, and activation rows, that share a workgroup's memory where there are many.
const TILE_ROWS: u32 = 32;
const TILE_TOKENS: usize = 16;
/// Activation rows of a lane of it.
const OWN_TOKENS: usize = 4;

/// How many activation rows a linear kernel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    One,
    Few,
    /// Enough to load weights for all of them into memory that a workgroup shares.
    Many,
}

impl Rows {
    /// The kernel for so many.
    pub(super) const fn of(tokens: usize) -> Self {
        match tokens {
            0 | 1 => Self::One,
            2..=FEW_TOKENS => Self::Few,
            _ => Self::Many,
        }
    }

    /// Activation rows, and rows of weights, of a workgroup.
    pub(super) const fn tile(self) -> (usize, usize) {
        match self {
            Self::One => (1, GROUP_ROWS as usize),
            Self::Few => (FEW_TOKENS, GROUP_ROWS as usize),
            Self::Many => (TILE_TOKENS, TILE_ROWS as usize),
        }
    }
}

/// A kernel in one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Quantise,
    Linear {
        rows: Rows,
        /// Whether pieces of sixteen columns are needed, or of 32.
        short: bool,
        minima: bool,
    },
    Embed {
        minima: bool,
    },
    RmsNorm,
    LayerNorm,
    Rope,
    /// All of a query in one workgroup.
    Attention,
    /// The same in three kernels, over several workgroups.
    AttentionScores,
    AttentionSums,
    AttentionEnd,
    Silu,
    Gelu,
    Add,
}

const FORMS: usize = 25;

impl Kernel {
    const fn index(self) -> usize {
        match self {
            Self::Quantise => 0,
            Self::RmsNorm => 1,
            Self::LayerNorm => 2,
            Self::Rope => 3,
            Self::Attention => 4,
            Self::Silu => 5,
            Self::Gelu => 6,
            Self::Add => 7,
            Self::AttentionScores => 8,
            Self::AttentionSums => 9,
            Self::AttentionEnd => 10,
            Self::Embed { minima } => 11 + minima as usize,
            Self::Linear { rows, short, minima } => {
                13 + 4 * rows as usize + 2 * short as usize + minima as usize
            }
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Quantise => "quantise",
            Self::RmsNorm => "rms_norm",
            Self::LayerNorm => "layer_norm",
            Self::Rope => "rope",
            Self::Attention => "attention",
            Self::AttentionScores => "attention_scores",
            Self::AttentionSums => "attention_sums",
            Self::AttentionEnd => "attention_end",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::Add => "add",
            Self::Embed { .. } => "embed",
            Self::Linear { .. } => "linear",
        }
    }

    /// Lanes of a workgroup, lanes that share a row, and sums of each, where lanes put together what they have.
    const fn shared(self) -> Option<(u32, u32, usize)> {
        match self {
            Self::Linear { rows: Rows::Many, .. } => None,
            Self::Linear { rows, .. } => Some((GROUP, ROW_LANES, rows.tile().0)),
            Self::LayerNorm => Some((LANES, LANES, 2)),
            Self::Quantise | Self::RmsNorm => Some((LANES, LANES, 1)),
            Self::Attention | Self::AttentionScores | Self::AttentionSums => Some((LANES, LANES, 1)),
            _ => None,
        }
    }

    /// The whole text: constants of the form, arithmetic, what lanes do together, kernel.
    fn source(self, subgroups: bool) -> String {
        let (constants, body) = match self {
            Self::Quantise => (String::new(), include_str!("quantise.wgsl")),
            Self::RmsNorm => (String::new(), include_str!("rms_norm.wgsl")),
            Self::LayerNorm => (String::new(), include_str!("layer_norm.wgsl")),
            Self::Rope => (String::new(), include_str!("rope.wgsl")),
            Self::Attention => (attention() + ATTENTION_BLOCKS, include_str!("attention.wgsl")),
            Self::AttentionScores => (attention(), include_str!("attention_scores.wgsl")),
            Self::AttentionSums => (attention() + ATTENTION_BLOCKS, include_str!("attention_sums.wgsl")),
            Self::AttentionEnd => {
                (attention() + &format!("const LANES = {LANES}u;\n"), include_str!("attention_end.wgsl"))
            }
            Self::Silu => (String::new(), include_str!("silu.wgsl")),
            Self::Gelu => (String::new(), include_str!("gelu.wgsl")),
            Self::Add => (String::new(), include_str!("add.wgsl")),
            Self::Embed { minima } => (format!("const MINIMA = {minima};\n"), include_str!("embed.wgsl")),
            Self::Linear { rows, short, minima } => {
                let (tokens, weights) = rows.tile();
                let vectors = if short { 1 } else { 2 };
                let form = format!(
                    "const TOKENS = {tokens}u;\nconst VECTORS = {vectors}u;\nconst MINIMA = {minima};\n"
                );
                if rows == Rows::Many {
                    let tile = format!("const ROWS = {weights}u;\nconst OWN = {OWN_TOKENS}u;\n");
                    (form + &tile, include_str!("linear_tile.wgsl"))
                } else {
                    (form, include_str!("linear.wgsl"))
                }
            }
        };
        let lanes = self.shared().map_or_else(String::new, |(group, lanes, sums)| {
            let text = match subgroups {
                true => include_str!("lanes_subgroups.wgsl"),
                false => include_str!("lanes_memory.wgsl"),
            };
            format!("const GROUP = {group}u;\nconst LANES = {lanes}u;\nconst SUMS = {sums}u;\n{text}")
        });
        [&constants, include_str!("float.wgsl"), &lanes, body].concat()
    }
}

/// What those of them share that add up weighted values.
const ATTENTION_BLOCKS: &str = include_str!("attention_blocks.wgsl");

/// What the kernels of attention share.
fn attention() -> String {
    include_str!("attention_shared.wgsl").to_owned()
}

/// Compiled pipelines.
#[derive(Debug)]
pub(super) struct Pipelines {
    compiled: [OnceLock<::wgpu::ComputePipeline>; FORMS],
    /// Whether lanes put together what they have in subgroups, or all in memory.
    pub(super) subgroups: bool,
    /// Whether subgroups count as not full, for a test: the drivers at hand fill them.
    #[cfg(test)]
    pub(super) gaps: bool,
}

impl Pipelines {
    pub(super) fn new(subgroups: bool) -> Self {
        Self {
            compiled: Default::default(),
            subgroups,
            #[cfg(test)]
            gaps: false,
        }
    }

    pub(super) fn of(&self, device: &::wgpu::Device, kernel: Kernel) -> &::wgpu::ComputePipeline {
        self.compiled[kernel.index()].get_or_init(|| {
            let label = Some(kernel.name());
            let text = kernel.source(self.subgroups);
            #[cfg(test)]
            let text = if self.gaps { text.replace(ARE_FULL, "false") } else { text };
            let source = ::wgpu::ShaderSource::Wgsl(text.into());
            let module = device.create_shader_module(::wgpu::ShaderModuleDescriptor { label, source });
            // Every kernel writes what it shares before it reads it.
            let compilation_options = ::wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            };
            device.create_compute_pipeline(&::wgpu::ComputePipelineDescriptor {
                label,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options,
                cache: None,
            })
        })
    }
}

/// What says that every subgroup is full.
#[cfg(test)]
const ARE_FULL: &str = "lanes.count * lanes.size == GROUP";

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Kernel> {
        let mut all = vec![
            Kernel::Quantise,
            Kernel::RmsNorm,
            Kernel::LayerNorm,
            Kernel::Rope,
            Kernel::Attention,
            Kernel::AttentionScores,
            Kernel::AttentionSums,
            Kernel::AttentionEnd,
            Kernel::Silu,
            Kernel::Gelu,
            Kernel::Add,
        ];
        for minima in [false, true] {
            all.push(Kernel::Embed { minima });
            for rows in [Rows::One, Rows::Few, Rows::Many] {
                all.extend([false, true].map(|short| Kernel::Linear { rows, short, minima }));
            }
        }
        all
    }

    #[test]
    fn every_form_has_a_place_of_its_own() {
        let mut places: Vec<usize> = all().into_iter().map(Kernel::index).collect();
        places.sort_unstable();
        assert_eq!(places, (0..FORMS).collect::<Vec<_>>());
    }

    /// Float arithmetic means something else on every driver: no kernel may have any.
    #[test]
    fn no_kernel_knows_floats() {
        for kernel in all() {
            let both = [false, true].map(|subgroups| kernel.source(subgroups)).concat();
            for line in both.lines() {
                let code = line.split("//").next().unwrap_or_default();
                for word in ["f32", "f16", "float", "fma(", "exp(", "sqrt(", "unpack", "pack2x"] {
                    assert!(!code.contains(word) || code.contains("rsqrt("), "{}: {line}", kernel.name());
                }
            }
        }
    }

    /// Every kernel that puts together what lanes have does so in subgroups where there are any, and nowhere else.
    #[test]
    fn subgroups_are_asked_for_where_they_are() {
        let with: Vec<Kernel> = all().into_iter().filter(|k| k.source(true).contains("subgroup")).collect();
        assert_eq!(with.len(), 14, "{with:?}");
        assert!(with.iter().all(|kernel| kernel.source(true).matches(ARE_FULL).count() == 1));
        for kernel in all() {
            let text = kernel.source(false);
            let code = text.lines().filter_map(|line| line.split("//").next());
            assert!(!code.collect::<String>().contains("subgroup"), "{}", kernel.name());
        }
    }

    /// Drivers need not fill subgroups: then all goes through memory, with the same bits.
    #[cfg(feature = "engine")]
    #[test]
    fn subgroups_with_gaps_give_the_same_bits() {
        use super::super::{WgpuOptions, device::Gpu};
        use crate::{conformance, testing::device::device, wgpu::Wgpu};

        let options = WgpuOptions::default();
        if device(&options).is_none_or(|device| !device.has_subgroups()) {
            return;
        }
        let mut gpu = pollster::block_on(Gpu::open(&options)).unwrap();
        gpu.pipelines.gaps = true;
        if let Err(mismatch) = conformance::sample(&Wgpu { gpu: gpu.into(), threads: 1 }, 7) {
            panic!("{mismatch}");
        }
    }
}
