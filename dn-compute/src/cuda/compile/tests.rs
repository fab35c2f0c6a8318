//! The cache; and, where NVRTC is, that the kernels compile and what they compile to.

use std::fs;

use super::*;

#[test]
fn the_own_architecture_is_taken_or_the_nearest_below() {
    let known = [50, 75, 80, 86, 90];
    assert_eq!(Architecture::choose(86, &known), Some(Architecture::Own(86)));
    assert_eq!(Architecture::choose(89, &known), Some(Architecture::Older(86)));
    assert_eq!(Architecture::choose(120, &known), Some(Architecture::Older(90)));
    assert_eq!(Architecture::choose(61, &[75, 80]), None);
    assert!(Architecture::Own(80).has_tiles() && !Architecture::Older(75).has_tiles());
}

#[test]
fn what_is_kept_is_used_and_what_is_broken_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("deeper").join("image.bin");
    let make = |byte: u8| move || Ok::<_, ()>(vec![byte; 100]);
    assert_eq!(kept(Some(place.as_path()), make(1)).unwrap(), vec![1; 100]);
    assert_eq!(kept(Some(place.as_path()), make(2)).unwrap(), vec![1; 100], "the file is used");
    let whole = fs::read(&place).unwrap();
    for at in [0, 31, 32, whole.len() - 1] {
        let mut broken = whole.clone();
        broken[at] ^= 1;
        fs::write(&place, broken).unwrap();
        assert_eq!(kept(Some(place.as_path()), make(1)).unwrap(), vec![1; 100], "byte {at}");
        assert_eq!(fs::read(&place).unwrap(), whole, "and written again");
    }
    for length in [0, 5, 32, whole.len() - 1] {
        fs::write(&place, &whole[..length]).unwrap();
        assert_eq!(kept(Some(place.as_path()), make(3)).unwrap(), vec![3; 100], "{length} bytes");
    }
    assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    // A directory that cannot be is no reason to fail.
    let under_a_file = place.join("below").join("image.bin");
    assert_eq!(kept(Some(under_a_file.as_path()), make(4)).unwrap(), vec![4; 100]);
    assert_eq!(kept(Some(place.as_path()), || Err::<Vec<u8>, _>("refused")).unwrap(), vec![3; 100]);
    assert_eq!(kept(None, || Err::<Vec<u8>, _>("refused")), Err("refused"));
}

/// Whether NVRTC is here; `cargo xtask cuda` fetches it and sets `DN_REQUIRE_NVRTC=1`.
fn has_compiler() -> bool {
    match start() {
        Ok(()) => true,
        Err(error) => {
            let required = std::env::var_os("DN_REQUIRE_NVRTC").is_some_and(|value| value == "1");
            assert!(!required, "DN_REQUIRE_NVRTC is set: {error}");
            println!("SKIPPED: {error}");
            false
        }
    }
}

/// Float instructions that round as the spec says, or move and compare. Everything else that has a float type is refused.
const ALLOWED: [&str; 22] = [
    "abs",
    "add.rn",
    "copysign",
    "cvt.rn",
    "cvt.rni",
    "div.rn",
    "ld.global",
    "ld.local",
    "ld.param",
    "ld.shared",
    "max",
    "min",
    "mov",
    "mul.rn",
    "neg",
    "selp",
    "setp",
    "sqrt.rn",
    "st.global",
    "st.local",
    "st.shared",
    "sub.rn",
];

/// Instructions of a PTX text that compute on floats in a way that is not the spec's.
fn strays(ptx: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in ptx.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let instruction = match line.strip_prefix('@') {
            Some(guarded) => guarded.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim()),
            None => line,
        };
        let name = instruction.split([' ', '\t', ';']).next().unwrap_or_default();
        // Directives declare registers and the like.
        if name.starts_with('.') {
            continue;
        }
        let parts: Vec<&str> = name.split('.').collect();
        let float =
            parts.iter().any(|part| ["f16", "f16x2", "bf16", "bf16x2", "f32", "f64", "tf32"].contains(part));
        let allowed = ALLOWED.iter().any(|allowed| {
            name.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let loose = parts.iter().any(|part| ["approx", "ftz", "full", "sat"].contains(part));
        if (float && !allowed) || loose || ["f16", "f64", "bf16"].iter().any(|wide| parts.contains(wide)) {
            found.push(line.to_owned());
        }
    }
    found
}

fn ptx(source: &str, number: u32, options: &[&str]) -> String {
    let image = compile_with(source, Architecture::Older(number), options).unwrap();
    String::from_utf8(image).unwrap()
}

#[test]
fn the_kernels_compile_and_no_float_instruction_is_loose() {
    if !has_compiler() {
        return;
    }
    let supported = supported().unwrap();
    let wanted: Vec<u32> =
        [61, 70, 75, 80, 90, 100, 120].into_iter().filter(|n| supported.contains(n)).collect();
    assert!(wanted.len() >= 3, "{supported:?}");
    for number in wanted {
        let text = ptx(SOURCE, number, &OPTIONS);
        assert_eq!(strays(&text), Vec::<String>::new(), "compute_{number}");
        for kernel in super::super::kernels::NAMES {
            assert!(text.contains(&format!(".entry {kernel}(")), "{kernel} for {number}");
        }
        let tiles = text.matches("mma.sync.aligned.m16n8k32").count();
        assert_eq!(tiles > 0, number >= 80, "{number}");
        assert!(text.contains("dp4a.s32.s32"), "{number}");
        println!("compute_{number}: {} bytes of PTX, {tiles} products of tiles", text.len());
    }
}

/// Kernels that divide or take a root: what the assembler makes of these is fused by design, and rounds right.
const DIVIDING: [&str; 4] = ["divide", "layer_norm", "rms_norm", "silu_mul"];

/// Instructions of a disassembly that fuse, flush or approximate where no division needs it, with their kernels.
fn fused(sass: &str) -> Vec<String> {
    let mut kernel = "";
    let mut found = Vec::new();
    for line in sass.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
            kernel = name;
        }
        let Some((_, instruction)) = line.split_once("*/") else { continue };
        let words: Vec<&str> = instruction.split_whitespace().collect();
        let name = words.iter().find(|word| !word.starts_with('@')).copied().unwrap_or_default();
        let is = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        // The half-precision unit also sets registers to constants: minus zero times zero, and a number.
        let constant = name.starts_with("HFMA2") && instruction.contains("-RZ, RZ,");
        let wide = is(&["DFMA", "DADD", "DMUL"]) || (is(&["HFMA2", "HADD2", "HMUL2"]) && !constant);
        let loose = is(&["FFMA"]) || (is(&["FADD", "FMUL"]) && name.contains("FTZ"));
        // Divisions of integers begin with an approximate reciprocal too, and end exactly.
        let root = name.starts_with("MUFU.RSQ") && DIVIDING.contains(&kernel);
        let approximate = is(&["MUFU"]) && !name.starts_with("MUFU.RCP") && !root;
        if wide || approximate || (loose && !DIVIDING.contains(&kernel)) {
            found.push(format!("{kernel}: {instruction}"));
        }
    }
    found
}

/// What an architecture really runs, where `DN_NVDISASM` names the disassembler.
fn disassembled(source: &str, number: u32, options: &[&str]) -> Option<String> {
    let Some(program) = std::env::var_os("DN_NVDISASM") else {
        println!("SKIPPED: DN_NVDISASM names no disassembler");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kernels.cubin");
    fs::write(&file, compile_with(source, Architecture::Own(number), options).unwrap()).unwrap();
    // The wheel's program has lost its permission to run.
    let runnable = dir.path().join("nvdisasm");
    fs::copy(program, &runnable).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&runnable, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let output = std::process::Command::new(&runnable).arg("-c").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_the_assembler_makes_fuses_nothing_either() {
    if !has_compiler() {
        return;
    }
    let planted = "extern \"C\" __global__ void planted(float* x) { x[0] = x[0] * x[1] + x[2]; }";
    let Some(text) = disassembled(planted, 80, &["--fmad=true"]) else { return };
    assert!(fused(&text).iter().any(|line| line.starts_with("planted: ") && line.contains("FFMA")), "{text}");
    assert_eq!(fused(&disassembled(planted, 80, &OPTIONS).unwrap()), Vec::<String>::new());
    let planted = "extern \"C\" __global__ void planted(float* x) { x[0] = __expf(x[0]); }";
    let text = disassembled(planted, 80, &OPTIONS).unwrap();
    assert!(fused(&text).iter().any(|line| line.contains("MUFU.EX2")), "{text}");
    let known = supported().unwrap();
    let wanted: Vec<u32> = [75, 80, 86, 89, 90, 100, 120].into_iter().filter(|n| known.contains(n)).collect();
    assert!(wanted.contains(&80) && wanted.len() >= 3, "{known:?}");
    for number in wanted {
        let text = disassembled(SOURCE, number, &OPTIONS).unwrap();
        assert_eq!(fused(&text), Vec::<String>::new(), "sm_{number}");
        println!("sm_{number}: {} lines of machine code", text.lines().count());
        let tiles = ("linear_tiles_row", "IMMA.16832.S8.S8");
        for (kernel, instruction) in [("linear_1", "IDP.4A.S8.S8"), tiles] {
            let there = text.contains(&format!(".text.{kernel}:")) && text.contains(instruction);
            assert_eq!(there, number >= 80 || kernel == "linear_1", "{kernel} of sm_{number}");
        }
    }
}

#[test]
fn a_cubin_is_made_kept_and_used() {
    if !has_compiler() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let number = supported().unwrap().into_iter().filter(|n| *n >= 75).min().unwrap();
    let image_of = || image(&Architecture::Own(number), Some(dir.path())).unwrap();
    let first = image_of();
    assert!(first.starts_with(b"\x7fELF"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(image_of(), first);
}

#[test]
fn the_scan_finds_what_is_planted() {
    if !has_compiler() {
        return;
    }
    let number = supported().unwrap().into_iter().filter(|n| *n >= 75).min().unwrap();
    let planted =
        |body: &str| format!("extern \"C\" __global__ void planted(float* x, double* d) {{ {body} }}");
    for (body, options, word) in [
        ("x[0] = x[0] * x[1] + x[2];", &["--fmad=true"][..], "fma.rn.f32"),
        ("x[0] = x[0] * x[1] + x[2];", &OPTIONS[..], ""),
        ("x[0] = x[0] / x[1];", &["--prec-div=false"], "div.full.f32"),
        ("x[0] = __fsqrt_rn(x[0]);", &["--ftz=true"], ""),
        ("x[0] = x[0] + x[1];", &["--ftz=true"], "add.ftz.f32"),
        ("x[0] = __expf(x[0]);", &OPTIONS, "ex2.approx"),
        ("x[0] = __frsqrt_rn(x[0]);", &OPTIONS, "rsqrt"),
        ("x[0] = __sinf(x[0]);", &OPTIONS, "sin.approx"),
        ("x[0] = fmaf(x[0], x[1], x[2]);", &OPTIONS, "fma.rn.f32"),
        ("d[0] = d[0] * d[1];", &OPTIONS, "f64"),
    ] {
        let found = strays(&ptx(&planted(body), number, options)).join("\n");
        assert!(found.contains(word), "{body} {options:?}: {found}");
        assert_eq!(
            found.is_empty(),
            word.is_empty() && !options.contains(&"--ftz=true"),
            "{body} {options:?}: {found}"
        );
    }
    // Where contraction is allowed, the kernels themselves stay as they are: their arithmetic is explicit.
    assert_eq!(strays(&ptx(SOURCE, number, &["--fmad=true", "--std=c++17"])), Vec::<String>::new());
}

#[test]
fn a_text_that_does_not_compile_is_told_with_its_place() {
    if !has_compiler() {
        return;
    }
    let number = supported().unwrap().into_iter().filter(|n| *n >= 75).min().unwrap();
    match compile("extern \"C\" __global__ void broken(", Architecture::Own(number)) {
        Err(CudaError::Compile { log, .. }) => assert!(log.contains("deepnode.cu(1)"), "{log}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(compile("a\0b", Architecture::Own(number)), Err(CudaError::Compile { .. })));
}
