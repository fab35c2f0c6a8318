//! The report as a whole, on runs made up for it: what is written, that it reads back, and that it is the same bytes
//! for the same runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use dn_sim::outcome::{Cell, CellKey, Metrics, Sample};
use dn_sim::report::{Gate, Provenance, ReportError, text_summary, write_all};
use dn_sim::stats::Interval;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// A small generator, so that the runs are the same everywhere.
struct Dice(u64);

impl Dice {
    /// SplitMix64.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const POLICIES: [&str; 6] = ["powr", "yuma", "yuma-canary", "work", "stake", "eigentrust"];

/// Name, level, and how well each policy does against it: 0 punishes, 1 does nothing, more pays.
type Attack = (&'static str, &'static str, [f64; 6]);

const ATTACKS: [Attack; 30] = [
    ("junk", "stake=0.1", [0.01, 0.1, 0.04, 1.0, 1.0, 0.2]),
    ("junk", "stake=0.3", [0.02, 0.3, 0.06, 1.0, 1.0, 0.3]),
    ("junk", "stake=0.45", [0.03, 0.8, 0.1, 1.0, 1.02, 0.6]),
    ("cheaper model", "rate=0.05", [0.88, 0.98, 0.95, 1.5, 1.0, 1.1]),
    ("cheaper model", "rate=0.2", [0.3, 0.95, 0.7, 1.6, 1.0, 1.2]),
    ("on-off", "", [0.41, 0.9, 0.6, 1.3, 1.0, 0.8]),
    ("whitewash", "", [0.19, 0.7, 0.5, 1.2, 1.0, 0.9]),
    ("bad-mouthing", "stake=0.3", [0.97, 1.2, 1.1, 1.0, 1.0, 1.4]),
    ("bad-mouthing", "stake=0.45", [0.99, 1.6, 1.3, 1.0, 1.0, 1.9]),
    ("ballot stuffing", "", [0.9, 1.4, 1.2, 1.0, 1.0, 2.2]),
    ("weight copying", "", [0.4, 1.1, 0.6, 1.0, 1.0, 1.0]),
    ("lazy validation", "", [0.2, 1.05, 0.4, 1.0, 1.0, 1.0]),
    ("sybil", "×10", [1.0, 1.2, 1.1, 1.0, 1.0, 3.1]),
    ("sybil", "×100", [1.0, 1.5, 1.3, 1.0, 1.0, 12.4]),
    ("sybil", "×1000", [0.99, 1.9, 1.7, 1.0, 1.0, 104.0]),
    ("wash work", "", [0.7, 1.3, 1.3, 2.8, 1.0, 1.2]),
    ("cabal", "stake=0.30", [0.05, 0.6, 0.2, 1.0, 1.0, 0.7]),
    ("cabal", "stake=0.45", [0.07, 1.1, 0.5, 1.0, 1.0, 1.1]),
    ("cabal", "stake=0.49", [0.1, 1.5, 0.9, 1.0, 1.0, 1.5]),
    ("cabal", "stake=0.55", [1.3, 1.9, 1.4, 1.0, 1.0, 1.8]),
    ("canary detection", "hits=0.5", [0.3, 1.0, 0.9, 1.0, 1.0, 1.0]),
    ("canary detection", "hits=0.9", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ("latency spoofing", "", [0.98, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ("griefing", "", [0.6, 0.9, 0.8, 1.0, 1.0, 0.9]),
    ("collusion ring", "size=5", [0.2, 0.9, 0.4, 1.2, 1.0, 1.6]),
    ("collusion ring", "size=50", [0.3, 1.4, 0.8, 1.2, 1.0, 2.6]),
    ("late reveal", "", [0.8, 0.9, 0.9, 1.0, 1.0, 1.0]),
    ("stake grinding", "", [1.0, 1.1, 1.1, 1.0, 1.1, 1.0]),
    ("delegation bribe", "", [0.9, 1.3, 1.2, 1.0, 1.4, 1.1]),
    ("none", "", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
];

fn cell(policy: usize, (attack, level, effects): Attack, seed: u64, samples: u32) -> Cell {
    let name = attack.len() as u64 * 31 + level.len() as u64;
    let mut dice = Dice(seed * 7919 + policy as u64 * 104_729 + name);
    let mut noise = |width: f64| (dice.roll() + dice.roll() + dice.roll() - 1.5) * width;
    let effect = effects[policy];
    let gain = (effect * (1.0 + noise(0.2)) + noise(0.01)).max(0.0);
    let twin_share = 0.3 + noise(0.02);
    let attacker_share = (twin_share * gain).min(0.97);
    let delay = (effect * 160.0 + 8.0 + noise(6.0)) as u32;
    let found = effect < 0.35
        || (effect < 0.5 && !seed.is_multiple_of(3))
        || (effect < 0.65 && seed.is_multiple_of(5));
    let learns = policy != 3 && policy != 4;
    let series = (0..samples).map(|i| {
        let epoch = (i + 1) * 720 / samples;
        let time = f64::from(epoch) / 720.0;
        let least = gain.min(1.0);
        let fade = if effect < 0.9 { (-(time * 9.0)).exp() * (1.0 - least) + least } else { gain };
        let learnt = if learns { 1.0 - (-(time * 5.0)).exp() } else { 1.0 };
        Sample {
            epoch,
            attacker_share: (twin_share * fade + noise(0.02)).clamp(0.0, 1.0),
            twin_share: (twin_share + noise(0.01)).clamp(0.0, 1.0),
            attacker_trust: (0.8 * learnt * fade.min(1.0) + noise(0.04)).clamp(0.0, 1.0),
            honest_trust: (0.79 * learnt + noise(0.03)).clamp(0.0, 1.0),
            attacker_stake: 0.3,
            gini: 0.3 + 0.1 * time,
        }
    });
    let series = series.collect();
    let metrics = Metrics {
        gain: Some(gain),
        worker_gain: found.then_some(gain),
        validator_gain: None,
        net_gain: Some(2.0 * gain - 1.0),
        attacker_share,
        twin_share,
        honest_loss: Some((attacker_share - twin_share) / (1.0 - twin_share) + noise(0.01)),
        twin_net: 1_000.0 + noise(10.0),
        detection_epochs: found.then_some(delay),
        gini: 0.22 + 0.09 * policy as f64 + noise(0.02) + 0.03 * effect.min(2.0),
        attacker_trust: 0.8 * gain.min(1.0),
        honest_trust: 0.79 + noise(0.01),
        user_quality: 0.95 - 0.06 * effect.min(2.0) + noise(0.01),
        attacker_stake: 0.3,
    };
    let key = CellKey { policy: POLICIES[policy].into(), attack: attack.into(), level: level.into(), seed };
    Cell { key, metrics, series }
}

fn suite(policies: usize, attacks: usize, seeds: u64, samples: u32) -> Vec<Cell> {
    let all = (0..policies).flat_map(|policy| ATTACKS[..attacks].iter().map(move |attack| (policy, *attack)));
    all.flat_map(|(policy, attack)| (1..=seeds).map(move |seed| cell(policy, attack, seed, samples)))
        .collect()
}

fn provenance() -> Provenance {
    Provenance {
        scenario_name: "suite & <b>more</b>".to_owned(),
        scenario_text: "[population]\nworkers = 200 # <script>alert(1)</script>\n\nvalidators = 20\n"
            .to_owned(),
        scenario_hash: "b3:5f0c6d7e1a".to_owned(),
        version: "0.1.0".to_owned(),
        formulas: "5f0c <6d7e>".to_owned(),
        seeds: (1..=30).collect(),
        command: "deepnode-sim run suite.toml --seeds 30".to_owned(),
    }
}

fn gates() -> Vec<Gate> {
    let gate = |name: &str, requirement: &str, mean, met, note: &str| Gate {
        name: name.to_owned(),
        requirement: requirement.to_owned(),
        measured: Some(Interval { mean, half_width: Some(0.004), count: 30 }),
        met: Some(met),
        note: note.to_owned(),
    };
    let split = gate("split", "gain ≤ 1.001", 0.0, false, "no such attack in this suite");
    vec![
        gate("junk", "gain ≤ 0.05 up to 45 % stake", 0.031, true, "worst level: stake=0.45"),
        gate("whitewash", "gain ≤ 0.25", 0.271, false, "<script>alert(2)</script>"),
        Gate { measured: None, met: None, ..split },
    ]
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("plots")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Rows of fields, by the grammar of RFC 4180.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quoted, c) {
            (true, '"') if chars.peek() == Some(&'"') => field.extend(chars.next()),
            (_, '"') => quoted = !quoted,
            (false, ',') => row.push(std::mem::take(&mut field)),
            (false, '\r') => {
                assert_eq!(chars.next(), Some('\n'), "lines end in both");
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            (_, other) => field.push(other),
        }
    }
    assert!(!quoted && field.is_empty() && row.is_empty(), "the last line is ended");
    rows
}

/// The same rows out of Parquet, numbers as the CSV shows them.
fn parquet(path: &Path) -> Vec<Vec<String>> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let columns = reader.metadata().file_metadata().schema_descr().columns().to_vec();
    let mut rows = vec![columns.iter().map(|column| column.name().to_owned()).collect::<Vec<_>>()];
    let shown = |field: &Field| match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Long(number) => number.to_string(),
        Field::ULong(number) => number.to_string(),
        Field::Double(number) => format!("{number:?}"),
        other => panic!("unexpected {other:?}"),
    };
    for row in reader.get_row_iter(None).unwrap() {
        rows.push(row.unwrap().get_column_iter().map(|(_, field)| shown(field)).collect());
    }
    rows
}

fn strange_suite() -> Vec<Cell> {
    let mut cells = suite(2, 3, 4, 5);
    cells[0].key.attack = "a \"b\", c\r\nd <script>alert(3)</script>".to_owned();
    cells[1].key.seed = u64::MAX;
    cells[1].metrics.gain = Some(f64::NAN);
    cells[2].metrics.gain = Some(f64::INFINITY);
    cells[2].metrics.gini = -0.0;
    cells[3].metrics.honest_loss = Some(-1.25e-300);
    cells[4].series.clear();
    cells[5].series[2].attacker_trust = -f64::NAN;
    cells[6].metrics.detection_epochs = Some(u32::MAX);
    cells
}

#[test]
fn tables_read_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let cells = strange_suite();
    write_all(dir.path(), &provenance(), &gates(), &cells).unwrap();
    for table in ["cells", "series", "summary"] {
        let text = fs::read_to_string(dir.path().join(format!("{table}.csv"))).unwrap();
        assert_eq!(csv(&text), parquet(&dir.path().join(format!("{table}.parquet"))), "{table}");
    }
    let rows = csv(&fs::read_to_string(dir.path().join("cells.csv")).unwrap());
    assert_eq!(rows.len(), cells.len() + 1);
    for Cell { key, metrics, .. } in &cells {
        let seed = key.seed.to_string();
        let key = [&key.policy, &key.attack, &key.level, &seed];
        let row = rows.iter().find(|row| key.iter().zip(row.iter()).all(|(a, b)| *a == b)).unwrap();
        let shares = [
            metrics.net_gain.unwrap(),
            metrics.attacker_share,
            metrics.twin_share,
            metrics.honest_loss.unwrap(),
        ];
        let trusts = [metrics.gini, metrics.attacker_trust, metrics.honest_trust];
        let rest = [metrics.user_quality, metrics.attacker_stake];
        let numbers = shares.into_iter().chain([metrics.twin_net]).chain(trusts).chain(rest);
        for (number, text) in numbers.zip(row[7..12].iter().chain(&row[13..])) {
            let read: f64 = text.parse().unwrap();
            assert!(read.to_bits() == number.to_bits() || (read.is_nan() && number.is_nan()), "{row:?}");
        }
        assert_eq!(row[12], metrics.detection_epochs.map_or(String::new(), |epochs| epochs.to_string()));
    }
    let samples: usize = cells.iter().map(|cell| cell.series.len()).sum();
    let rows = csv(&fs::read_to_string(dir.path().join("series.csv")).unwrap());
    assert_eq!(rows.len(), samples + 1);
    for cell in cells.iter().filter(|cell| cell.key.seed != u64::MAX) {
        let seed = cell.key.seed.to_string();
        let key = [&cell.key.policy, &cell.key.attack, &cell.key.level, &seed];
        let found = rows.iter().filter(|row| key.iter().zip(row.iter()).all(|(a, b)| *a == b));
        let found: Vec<&[String]> = found.map(|row| &row[4..]).collect();
        let expected: Vec<Vec<String>> = cell.series.iter().map(sample_row).collect();
        assert_eq!(found, expected, "{key:?}");
    }
}

fn sample_row(sample: &Sample) -> Vec<String> {
    let shares = [sample.attacker_share, sample.twin_share];
    let rest = [sample.attacker_trust, sample.honest_trust, sample.attacker_stake, sample.gini];
    let numbers = shares.into_iter().chain(rest).map(|number| format!("{number:?}"));
    [sample.epoch.to_string()].into_iter().chain(numbers).collect()
}

#[test]
fn the_summary_is_the_mean_of_the_finite() {
    let dir = tempfile::tempdir().unwrap();
    let mut cells = suite(1, 1, 4, 2);
    for (cell, gain) in cells.iter_mut().zip([1.0, 2.0, 6.0, f64::NAN]) {
        cell.metrics.gain = Some(gain);
        cell.metrics.detection_epochs = None;
    }
    write_all(dir.path(), &provenance(), &[], &cells).unwrap();
    let rows = csv(&fs::read_to_string(dir.path().join("summary.csv")).unwrap());
    assert_eq!(rows[0], ["policy", "attack", "level", "metric", "mean", "low", "high", "n"]);
    let of = |metric: &str| rows.iter().find(|row| row[3] == metric).unwrap()[4..].to_vec();
    // 1 2 6: mean 3, s = √7, t(2) = 4.302653, so ± 6.572411.
    let gain = of("gain");
    assert_eq!((gain[0].as_str(), gain[3].as_str()), ("3.0", "3"));
    assert!((gain[1].parse::<f64>().unwrap() + 3.572_411).abs() < 1e-6, "{gain:?}");
    assert!((gain[2].parse::<f64>().unwrap() - 9.572_411).abs() < 1e-6, "{gain:?}");
    assert_eq!(of("detection_epochs"), ["", "", "", "0"]);
}

#[test]
fn the_order_of_the_runs_does_not_matter() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut cells = suite(3, 6, 5, 12);
    let written = write_all(first.path(), &provenance(), &gates(), &cells).unwrap();
    let text = text_summary(&cells, &gates());
    let mut dice = Dice(5);
    for i in (1..cells.len()).rev() {
        cells.swap(i, (dice.roll() * (i + 1) as f64) as usize);
    }
    write_all(second.path(), &provenance(), &gates(), &cells).unwrap();
    assert_eq!(text, text_summary(&cells, &gates()));
    let (before, after) = (files(first.path()), files(second.path()));
    assert!(before == after, "the same names and bytes");
    let named: Vec<_> = written.iter().map(|path| path.strip_prefix(first.path()).unwrap()).collect();
    assert_eq!(named.len(), before.len());
    assert!(named.iter().all(|path| before.contains_key(*path)), "{named:?}");
}

#[test]
fn the_page_needs_nothing_and_trusts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let cells = strange_suite();
    write_all(dir.path(), &provenance(), &gates(), &cells).unwrap();
    for (path, bytes) in files(dir.path()) {
        if path.extension().is_some_and(|extension| extension == "html" || extension == "svg") {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains("<script") && !text.contains("<b>more"), "{}", path.display());
            let known = ["http://www.w3.org/2000/svg", "http-equiv"].map(|known| text.matches(known).count());
            assert_eq!(text.matches("http").count(), known.iter().sum::<usize>(), "{}", path.display());
            assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
            for loads in ["src=", "url(", "@import", "<link", "onload"] {
                assert!(!text.contains(loads), "{loads} in {}", path.display());
            }
        }
    }
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    let scripts = ["&lt;script&gt;alert(1)", "&lt;script&gt;alert(2)", "&lt;script&gt;alert(3)"];
    for shown in scripts.into_iter().chain(["1 of 3 met", "1 missed", "1 not measured"]) {
        assert!(page.contains(shown), "{shown}");
    }
}

#[test]
fn every_attack_has_its_pictures() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), &provenance(), &gates(), &suite(2, 5, 2, 8)).unwrap();
    let plots = fs::read_dir(dir.path().join("plots")).unwrap();
    let mut names: Vec<String> =
        plots.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let expected = [
        "detection.svg",
        "gini.svg",
        "honest-loss.svg",
        "matrix-net.svg",
        "matrix.svg",
        "share-cheaper-model.svg",
        "share-junk.svg",
        "trust-cheaper-model.svg",
        "trust-junk.svg",
    ];
    assert_eq!(names, expected);
}

#[test]
fn what_can_not_be_reported_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let none = write_all(dir.path(), &provenance(), &[], &[]).unwrap_err();
    assert!(matches!(none, ReportError::NoRuns), "{none}");
    let mut cells = suite(1, 2, 2, 2);
    cells.push(cells[1].clone());
    let twice = write_all(dir.path(), &provenance(), &[], &cells).unwrap_err();
    assert!(matches!(&twice, ReportError::Repeated { key } if *key == cells[1].key), "{twice}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn one_run_without_numbers_is_a_report_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut cells = suite(1, 1, 1, 1);
    cells[0].series[0] = Sample { attacker_trust: f64::NAN, twin_share: 1e300, ..cells[0].series[0] };
    let (gain, gini) = (f64::NAN, f64::INFINITY);
    cells[0].metrics = Metrics {
        gain: Some(gain),
        gini,
        honest_loss: Some(1e300),
        detection_epochs: None,
        ..cells[0].metrics
    };
    write_all(dir.path(), &provenance(), &[], &cells).unwrap();
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(page.contains("<td class=\"number\">– <small>0 of 1</small></td>"));
    assert!(!page.contains("NaN") && !page.contains(">inf"));
    cells[0].series.clear();
    write_all(dir.path(), &provenance(), &[], &cells).unwrap();
}

#[test]
fn the_terminal_gets_a_table() {
    let text = text_summary(&suite(2, 3, 5, 1), &gates());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["attack", "level", "powr", "yuma"]);
    assert!(lines[1].starts_with("junk    stake=0.1 "), "{text}");
    assert!(lines[2].starts_with("        stake=0.3 "), "{text}");
    assert_eq!(lines[1].matches(" ± ").count(), 2, "{text}");
    assert_eq!(lines.len(), 4 + 1 + 4, "{text}");
    assert_eq!(lines[0].chars().count(), lines[3].chars().count(), "{text}");
}

/// The largest suite that is foreseen: 5,400 runs with 128 samples each. Seconds with optimisation; leaves the report
/// in cargo's folder for such things, to be looked at.
#[test]
#[ignore = "large: run it with --release"]
fn the_largest_suite_takes_seconds() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, policies, attacks, seeds) in [("large", 6, 30, 30), ("small", 1, 1, 3), ("middle", 3, 9, 10)] {
        let cells = suite(policies, attacks, seeds, 128);
        let start = std::time::Instant::now();
        write_all(&dir.join(name), &provenance(), &gates(), &cells).unwrap();
        let elapsed = start.elapsed();
        let page = fs::metadata(dir.join(name).join("report.html")).unwrap().len();
        println!("{name}: {} runs in {elapsed:?}, page of {page} bytes", cells.len());
        println!("{}", text_summary(&cells, &gates()));
        assert!(elapsed.as_secs() < 15, "{elapsed:?}");
        assert!(page < 6_000_000, "{page} bytes");
    }
}
