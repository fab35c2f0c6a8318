//! The kernels: their sources, their forms, and the pipelines, each compiled once when it is first used.

use std::sync::OnceLock;

/// Lanes of a workgroup of every kernel but the linear ones.
pub(super) const LANES: u32 = 64;
/// Lanes of a workgroup of a linear kernel.
const GROUP: u32 = 128;
/// Lanes of it that share a row of weights.
const ROW_LANES: u32 = 32;
/// Rows of weights that it takes.
pub(super) const GROUP_ROWS: u32 = GROUP / ROW_LANES;
/// Activation rows that pass at a time where there are as many.
pub(super) const TILE_TOKENS: usize = 4;

/// A kernel in one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Quantise,
    Linear {
        /// Whether [`TILE_TOKENS`] pass at a time, or one.
        tile: bool,
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
    Attention,
    Silu,
    Gelu,
    Add,
}

const FORMS: usize = 18;

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
            Self::Embed { minima } => 8 + minima as usize,
            Self::Linear { tile, short, minima } => {
                10 + 4 * tile as usize + 2 * short as usize + minima as usize
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
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::Add => "add",
            Self::Embed { .. } => "embed",
            Self::Linear { .. } => "linear",
        }
    }

    /// The whole text: constants of the form, arithmetic, kernel.
    fn source(self) -> String {
        let (constants, body) = match self {
            Self::Quantise => (String::new(), include_str!("quantise.wgsl")),
            Self::RmsNorm => (String::new(), include_str!("rms_norm.wgsl")),
            Self::LayerNorm => (String::new(), include_str!("layer_norm.wgsl")),
            Self::Rope => (String::new(), include_str!("rope.wgsl")),
            Self::Attention => (String::new(), include_str!("attention.wgsl")),
            Self::Silu => (String::new(), include_str!("silu.wgsl")),
            Self::Gelu => (String::new(), include_str!("gelu.wgsl")),
            Self::Add => (String::new(), include_str!("add.wgsl")),
            Self::Embed { minima } => (format!("const MINIMA = {minima};\n"), include_str!("embed.wgsl")),
            Self::Linear { tile, short, minima } => {
                let (tokens, vectors) = (if tile { TILE_TOKENS } else { 1 }, if short { 1 } else { 2 });
                let constants = format!(
                    "const GROUP = {GROUP}u;\nconst LANES = {ROW_LANES}u;\nconst TOKENS = {tokens}u;\nconst VECTORS = {vectors}u;\nconst MINIMA = {minima};\n"
                );
                (constants, include_str!("linear.wgsl"))
            }
        };
        [&constants, include_str!("float.wgsl"), body].concat()
    }
}

/// Compiled pipelines.
#[derive(Debug, Default)]
pub(super) struct Pipelines([OnceLock<::wgpu::ComputePipeline>; FORMS]);

impl Pipelines {
    pub(super) fn of(&self, device: &::wgpu::Device, kernel: Kernel) -> &::wgpu::ComputePipeline {
        self.0[kernel.index()].get_or_init(|| {
            let label = Some(kernel.name());
            let source = ::wgpu::ShaderSource::Wgsl(kernel.source().into());
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
            Kernel::Silu,
            Kernel::Gelu,
            Kernel::Add,
        ];
        for minima in [false, true] {
            all.push(Kernel::Embed { minima });
            for tile in [false, true] {
                all.extend([false, true].map(|short| Kernel::Linear { tile, short, minima }));
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
            for line in kernel.source().lines() {
                let code = line.split("//").next().unwrap_or_default();
                for word in ["f32", "f16", "float", "fma(", "exp(", "sqrt(", "unpack", "pack2x"] {
                    assert!(!code.contains(word) || code.contains("rsqrt("), "{}: {line}", kernel.name());
                }
            }
        }
    }
}
