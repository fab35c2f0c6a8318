//! From what was measured to the ratios that have bars: `docs/perf/gpu.md`.

use std::fmt::Write;

use serde_json::Value;

/// What was measured of a model; `None` of what did not run.
#[derive(Default)]
pub(super) struct Rates {
    pub(super) name: String,
    /// `dn bench infer --json` on CUDA: an answer and its replay.
    pub(super) cuda: Option<Value>,
    /// The same of a prompt.
    pub(super) prefill: Option<Value>,
    /// As `cuda`, on the card's Vulkan.
    pub(super) wgpu: Option<Value>,
    /// `tools/gpu/torch_decode.py`.
    pub(super) torch: Option<Value>,
}

/// A ratio with its bar: more is better.
#[derive(Debug, PartialEq)]
struct Row {
    what: String,
    ratio: Option<f64>,
    bar: f64,
    aim: f64,
}

/// Weights of a model's matrices.
#[derive(Debug, PartialEq)]
struct Weights {
    all: f64,
    /// Those that one token after another is multiplied with.
    decode: f64,
    /// Those that every token of a prompt is multiplied with: logits are the last one's alone.
    prefill: f64,
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value[key].as_f64().filter(|number| *number > 0.0)
}

impl Weights {
    /// Of the shape that a bench reports.
    fn of(bench: &Value) -> Option<Self> {
        let shape = &bench["shape"];
        let n = |key| number(shape, key);
        let (width, ffn) = (n("width")?, n("ffn_width")?);
        let (query, kv) = (n("heads")? * n("head_size")?, n("kv_heads")? * n("head_size")?);
        let prefill = n("layers")? * width * (2.0 * query + 2.0 * kv + 3.0 * ffn);
        let ends = n("vocabulary")? * width;
        let decode = prefill + ends;
        let all = if shape["tied_embeddings"].as_bool()? { decode } else { decode + ends };
        Some(Self { all, decode, prefill })
    }
}

/// The ceilings and the ratios, as Markdown.
pub(super) fn section(ceilings: Option<&Value>, models: &[Rates]) -> String {
    let mut text = "\n## Ceilings of the card\n\n".to_owned();
    match ceilings {
        None => text.push_str("NOT MEASURED: see the step above.\n"),
        Some(ceilings) => {
            for (name, key, scale, unit) in [
                ("copy, read and written together", "copy_bytes_per_s", 1e9, "GB/s"),
                ("read", "read_bytes_per_s", 1e9, "GB/s"),
                ("`dp4a`", "dp4a_ops_per_s", 1e12, "TOPS"),
                ("`mma.sync` of bytes", "tile_ops_per_s", 1e12, "TOPS"),
            ] {
                let value = number(ceilings, key).map(|value| format!("{:.1} {unit}", value / scale));
                let _ = writeln!(text, "- {name}: {}", value.as_deref().unwrap_or("not there"));
            }
        }
    }
    text.push_str("\n## Ratios\n\n| what | measured | bar | aim | |\n|---|---|---|---|---|\n");
    for row in models.iter().flat_map(|rates| rows(ceilings, rates)) {
        let measured = row.ratio.map_or("not measured".to_owned(), |ratio| format!("{ratio:.3}"));
        let verdict = match row.ratio {
            None => "",
            Some(ratio) if ratio >= row.aim => "aim",
            Some(ratio) if ratio >= row.bar => "bar",
            Some(_) => "MISSED",
        };
        let Row { what, bar, aim, .. } = row;
        let _ = writeln!(text, "| {what} | {measured} | ≥ {bar} | ≥ {aim} | {verdict} |");
    }
    text
}

fn rows(ceilings: Option<&Value>, rates: &Rates) -> Vec<Row> {
    let Rates { name, cuda, prefill, wgpu, torch } = rates;
    let row = |what: &str, ratio, bar, aim| Row { what: format!("{name}: {what}"), ratio, bar, aim };
    let decode = |bench: &Option<Value>| number(bench.as_ref()?, "decode_tok_per_s");
    let over = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let share = || decode_bytes_per_s(cuda.as_ref()?).zip(number(ceilings?, "copy_bytes_per_s"));
    let peak = || prefill_ops_per_s(prefill.as_ref()?).zip(number(ceilings?, "tile_ops_per_s"));
    let replay = || over(number(cuda.as_ref()?, "generation_ms"), number(cuda.as_ref()?, "replay_ms"));
    vec![
        row("decode, share of copy bandwidth", share().map(|(a, b)| a / b), 0.5, 0.85),
        row("prefill of 2,048, share of int8 peak", peak().map(|(a, b)| a / b), 0.15, 0.4),
        row("generation ÷ replay, 128 + 512", replay(), 30.0, 100.0),
        row("decode, wgpu ÷ CUDA", over(decode(wgpu), decode(cuda)), 0.333, 0.8),
        row("decode, exact ÷ torch bf16", over(decode(cuda), decode(torch)), 0.8, 1.5),
    ]
}

/// Bytes of weights that decoding reads: what the device holds, without the embedding where the output has weights of its own.
fn decode_bytes_per_s(bench: &Value) -> Option<f64> {
    let weights = Weights::of(bench)?;
    let held = number(bench, "weights_mb")? * 1e6;
    Some(number(bench, "decode_tok_per_s")? * held * weights.decode / weights.all)
}

/// A product and an addition for each weight and token: that the kernels take two products for each counts once.
fn prefill_ops_per_s(bench: &Value) -> Option<f64> {
    Some(number(bench, "prefill_tok_per_s")? * 2.0 * Weights::of(bench)?.prefill)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The 8B shape.
    fn bench(decode: f64, prefill: f64) -> Value {
        json!({
            "shape": {
                "layers": 32, "width": 4096, "heads": 32, "kv_heads": 8, "head_size": 128, "ffn_width": 14336,
                "vocabulary": 128256, "tied_embeddings": false,
            },
            "weights_mb": 8533.0,
            "decode_tok_per_s": decode,
            "prefill_tok_per_s": prefill,
            "generation_ms": 5000.0,
            "replay_ms": 100.0,
        })
    }

    fn ratios(ceilings: Option<&Value>, rates: &Rates) -> Vec<Option<f64>> {
        rows(ceilings, rates).into_iter().map(|row| row.ratio).collect()
    }

    #[test]
    fn weights_are_those_of_the_shape() {
        let weights = Weights::of(&bench(1.0, 1.0)).unwrap();
        // By hand: 218,103,808 of a layer, 525,336,576 of an end.
        assert_eq!(weights.prefill, 32.0 * 218_103_808.0);
        assert_eq!(weights.decode, weights.prefill + 525_336_576.0);
        assert_eq!(weights.all, weights.decode + 525_336_576.0);
        let mut tied = bench(1.0, 1.0);
        tied["shape"]["tied_embeddings"] = true.into();
        assert_eq!(Weights::of(&tied).unwrap().all, weights.decode);
        assert_eq!(Weights::of(&json!({})), None);
    }

    #[test]
    fn ratios_are_what_they_say() {
        let ceilings = json!({ "copy_bytes_per_s": 4e12, "tile_ops_per_s": 1e15 });
        let rates = Rates {
            name: "8b".to_owned(),
            cuda: Some(bench(250.0, 9.0)),
            prefill: Some(bench(0.0, 20_000.0)),
            wgpu: Some(bench(100.0, 1.0)),
            torch: Some(json!({ "decode_tok_per_s": 200.0 })),
        };
        let found = ratios(Some(&ceilings), &rates);
        // 250 tokens of 8.533 GB times 7,504,658,432 of 8,029,995,008 weights, of 4 TB/s.
        let expected = [0.49842, 0.279173, 50.0, 0.4, 1.25];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found.unwrap() / expected - 1.0).abs() < 1e-4, "{found:?} {expected}");
        }
        let text = section(Some(&ceilings), &[rates]);
        for line in [
            "- copy, read and written together: 4000.0 GB/s",
            "- `mma.sync` of bytes: 1000.0 TOPS",
            "- `dp4a`: not there",
            "| 8b: decode, share of copy bandwidth | 0.498 | ≥ 0.5 | ≥ 0.85 | MISSED |",
            "| 8b: prefill of 2,048, share of int8 peak | 0.279 | ≥ 0.15 | ≥ 0.4 | bar |",
            "| 8b: decode, exact ÷ torch bf16 | 1.250 | ≥ 0.8 | ≥ 1.5 | bar |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_did_not_run_is_not_measured() {
        let none = Rates { name: "8b".to_owned(), ..Rates::default() };
        assert_eq!(ratios(None, &none), [None; 5]);
        // A card without tiles, and a bench without a rate.
        let ceilings = json!({ "copy_bytes_per_s": 4e12, "tile_ops_per_s": null });
        let rates = Rates { cuda: Some(bench(0.0, 1.0)), prefill: Some(bench(1.0, 1.0)), ..Rates::default() };
        assert_eq!(ratios(Some(&ceilings), &rates), [None, None, Some(50.0), None, None]);
        let text = section(None, &[none]);
        assert!(text.contains("NOT MEASURED") && text.matches("not measured").count() == 5, "{text}");
        assert!(!text.contains("MISSED"), "{text}");
    }
}
