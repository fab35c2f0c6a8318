use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::formats::gguf::TensorType;
use crate::model::Model;
use crate::spec::BlockLength;
use crate::testing::Shape;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-rust-q8_0.gguf");

/// A package of a file, and its bytes.
fn packed(file: Vec<u8>, block: Option<BlockLength>) -> (Model, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("x.dnm");
    let model = convert(ConvertSource::Bytes(file.into()), block, &target).unwrap();
    let bytes = std::fs::read(&target).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
    (model, bytes)
}

fn wide(kinds: &'static [TensorType]) -> Shape {
    Shape {
        width: 256,
        heads: 4,
        kv_heads: 2,
        head_size: 64,
        ffn: 256,
        vocabulary: 260,
        kinds,
        layers: 1,
        ..Shape::default()
    }
}

#[test]
fn a_package_is_the_model_it_was_made_of() {
    for kinds in [
        &[TensorType::Q8_0, TensorType::F16] as &'static [TensorType],
        &[TensorType::Q4_0],
        &[TensorType::Q4K, TensorType::Q6K],
        &[TensorType::Q5K],
    ] {
        let file = wide(kinds).file(3);
        let source = Model::from_bytes(file.clone()).unwrap();
        let (model, bytes) = packed(file.clone(), None);
        assert_eq!(model.id(), source.id(), "{kinds:?}");
        let read = Model::from_bytes(bytes.clone()).unwrap();
        assert_eq!(read.manifest(), source.manifest(), "{kinds:?}");
        assert_eq!(read.front().name(), Some("random"));
        let count = read.tiles().count() as u64;
        let (tile, proof) = read.prove_tile(count - 1).unwrap();
        assert_eq!(proof.verify(source.manifest().tensors_root, &tile.to_bytes()), Ok(()));
        assert!(read.prove_tile(count).is_none());
        // Four bits stay four bits.
        let four = matches!(kinds, [TensorType::Q4_0] | [TensorType::Q4K, _]);
        assert!(!four || bytes.len() < file.len() * 4 / 3, "{} of {}", bytes.len(), file.len());
        assert_eq!(read.coarsened(4).unwrap().id(), source.coarsened(4).unwrap().id());
        // A package of a package is the same file.
        assert!(packed(bytes.clone(), None).1 == bytes);
    }
}

#[test]
fn blocks_are_chosen_at_conversion() {
    let file = wide(&[TensorType::F32]).file(4);
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().write_all(&file).unwrap();
    let mut ids = Vec::new();
    for (length, number) in [(BlockLength::B32, 32), (BlockLength::B128, 128), (BlockLength::Row, 1)] {
        let (model, bytes) = packed(file.clone(), Some(length));
        assert_eq!(model.manifest().block, number);
        assert_eq!(Model::load_in_blocks(path.path(), length).unwrap().id(), model.id());
        let read = Model::from_bytes(bytes).unwrap();
        assert_eq!(read.id(), model.id());
        assert!(read.tensors().filter_map(|t| t.3).all(|b| b.length == length && !b.minima));
        ids.push(model.id());
    }
    assert_eq!(ids[0], Model::from_bytes(file).unwrap().id());
    ids.dedup();
    assert_eq!(ids.len(), 3);
    // Quantised files are quantised anew from the values they hold; in their own blocks that changes nothing.
    let file = wide(&[TensorType::Q8_0]).file(5);
    let (same, _) = packed(file.clone(), Some(BlockLength::B32));
    assert_eq!(same.id(), Model::from_bytes(file).unwrap().id());
}

#[test]
fn the_first_wrong_tile_is_named() {
    let (model, bytes) = packed(wide(&[TensorType::Q8_0]).file(6), None);
    let opened = super::super::open::bytes(bytes.clone().into()).unwrap();
    for (index, entry) in opened.entries.iter().enumerate() {
        let Some(rows) = entry.rows else { continue };
        let mut bad = bytes.clone();
        let stride = entry.size as usize / rows;
        let row = rows - 1;
        bad[entry.start as usize + row * stride + 40] ^= 1;
        // A later one too.
        let last = bad.len() - 4 * 256;
        bad[last] ^= 1;
        let error = Model::from_bytes(bad).unwrap_err();
        let ModelError::Tile { name, first_row, last_row, .. } = &error else { panic!("{error}") };
        assert_eq!(name, &entry.name);
        assert!((*first_row..=*last_row).contains(&(row as u32)), "{error}");
        assert!(error.to_string().contains(&format!("`{name}`, rows {first_row} to {last_row}")));
        let tile = model.tiles().find(|t| t.tensor == index as u32 && t.first_row == *first_row).unwrap();
        assert_eq!(tile.first_row + tile.rows - 1, *last_row);
    }
    // A file that changes after it was loaded.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    let model = Model::load(file.path()).unwrap();
    let mut bad = bytes;
    let at = opened.entries[0].start as usize + 99;
    bad[at] ^= 4;
    std::fs::write(file.path(), &bad).unwrap();
    assert!(matches!(model.tensor(Slot::Embedding), Err(ModelError::Tile { .. })));
}

#[test]
fn a_header_that_does_not_hold_together_is_refused() {
    let bytes = packed(std::fs::read(TINY).unwrap(), None).1;
    let length = u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
    let header = Header::from_bytes(&bytes[16..16 + length]).unwrap();
    let start = (16 + length).next_multiple_of(64);
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = header.clone();
        change(&mut header);
        let header = header.to_bytes();
        let mut out = [&MAGIC[..], &(header.len() as u64).to_le_bytes(), &header].concat();
        out.resize(out.len().next_multiple_of(64), 0);
        out.extend(&bytes[start..]);
        Model::from_bytes(out).map(|m| m.id())
    };
    let id = with(&|_| {}).unwrap();
    assert_eq!(id, Model::load(TINY.as_ref()).unwrap().id());
    // The name is not part of what a model is.
    assert_eq!(with(&|h| h.name = None).unwrap(), id);
    let part = |change: &dyn Fn(&mut Header), which: &str| match with(change) {
        Err(ModelError::Part { what, .. }) => assert_eq!(what, which),
        other => panic!("{other:?}"),
    };
    part(&|h| h.tiles[7] = Hash32([1; 32]), "list of tiles");
    part(&|h| h.manifest.tensors_root = Hash32::ZERO, "list of tiles");
    part(&|h| h.template = None, "chat template");
    part(&|h| h.template = Some("x".into()), "chat template");
    part(&|h| h.manifest.tokenizer_hash = Hash32::ZERO, "tokenizer");
    let other = |h: &mut Header| match &mut h.tokenizer {
        TokenizerSource::Gguf { definition } => definition.merges.truncate(9),
        _ => panic!("made of a GGUF file"),
    };
    part(&other, "tokenizer");
    let damaged = |change: &dyn Fn(&mut Header)| {
        assert!(matches!(with(change), Err(ModelError::Package { .. })));
    };
    damaged(&|h| h.tiles.truncate(9));
    damaged(&|h| h.tiles.push(Hash32::ZERO));
    damaged(&|h| h.packings.truncate(9));
    damaged(&|h| h.packings[0] = [32, 0, 32, 0]);
    damaged(&|h| h.packings[0] = [0, 0, 32, 0]);
    damaged(&|h| h.packings[0][2] = 4);
    damaged(&|h| h.manifest.numeric_spec = 9);
    damaged(&|h| h.manifest.hyperparameters.layers = 4);
    damaged(&|h| h.manifest.stop_tokens = vec![2, 1]);
    // What the loader derives again is compared too.
    (0..16).for_each(|bit| damaged(&|h| h.manifest.block ^= 1 << bit));
    for size in [0, u32::MAX] {
        assert!(matches!(
            with(&|h| h.manifest.hyperparameters.width = size),
            Err(ModelError::Parameter { .. })
        ));
        assert!(with(&|h| h.manifest.hyperparameters.vocabulary = size).is_err());
        assert!(with(&|h| h.manifest.hyperparameters.head_size = size).is_err());
        assert!(with(&|h| h.manifest.hyperparameters.rope_size = size).is_err());
    }
    assert!(with(&|h| h.manifest.hyperparameters.window = Some(0)).is_err());
    assert!(with(&|h| h.manifest.bos_token = Some(4096)).is_err());
    let other = with(&|h| h.manifest.architecture = "mamba".to_owned());
    assert!(matches!(other, Err(ModelError::Architecture { found }) if found == "mamba"));
}

#[test]
fn conversion_leaves_nothing_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("no/such/x.dnm");
    let source = || ConvertSource::Bytes(wide(&[TensorType::Q8_0]).file(1).into());
    assert!(matches!(convert(source(), None, &nowhere), Err(ModelError::Write { .. })));
    // A directory in the way.
    let taken = directory.path().join("taken");
    std::fs::create_dir(&taken).unwrap();
    std::fs::write(taken.join("x"), "").unwrap();
    assert!(matches!(convert(source(), None, &taken), Err(ModelError::NotAFile { .. })));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn conversion_replaces_files_only() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let source = || ConvertSource::Bytes(wide(&[TensorType::Q8_0]).file(1).into());
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("precious"), "precious").unwrap();
    symlink(at("precious"), at("link.dnm")).unwrap();
    symlink(at("nothing"), at("dangling.dnm")).unwrap();
    for link in ["link.dnm", "dangling.dnm"] {
        assert!(matches!(convert(source(), None, &at(link)), Err(ModelError::NotAFile { .. })), "{link}");
        assert!(std::fs::symlink_metadata(at(link)).unwrap().is_symlink());
    }
    // What lies where the package is written until it is complete is taken away, not written through.
    let target = at("x.dnm");
    symlink(at("precious"), partial_path(&target)).unwrap();
    std::fs::write(&target, "old").unwrap();
    let model = convert(source(), None, &target).unwrap();
    assert_eq!(Model::load(&target).unwrap().id(), model.id());
    assert_eq!(std::fs::read_to_string(at("precious")).unwrap(), "precious");
    assert!(std::fs::symlink_metadata(partial_path(&target)).is_err());
}

#[test]
fn what_killed_conversions_leave_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let source = || ConvertSource::Bytes(wide(&[TensorType::Q8_0]).file(1).into());
    for name in
        ["x.dnm.1.partial", "x.dnm.22.partial", "y.dnm.1.partial", "x.dnm.mine.partial", "x.dnm..partial"]
    {
        std::fs::write(at(name), "stale").unwrap();
    }
    std::fs::create_dir(at("x.dnm.3.partial")).unwrap();
    // A conversion that is at work holds its file's lock.
    let at_work = std::fs::File::open(at("x.dnm.22.partial")).unwrap();
    at_work.lock().unwrap();
    convert(source(), None, &at("x.dnm")).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let expected = [
        "x.dnm",
        "x.dnm..partial",
        "x.dnm.22.partial",
        "x.dnm.3.partial",
        "x.dnm.mine.partial",
        "y.dnm.1.partial",
    ];
    assert_eq!(left, expected);
    drop(at_work);
    convert(source(), None, &at("x.dnm")).unwrap();
    assert!(!at("x.dnm.22.partial").exists());
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    /// What the fuzz target runs: no change of a package makes loading panic, and none of the weights goes unnoticed.
    #[test]
    fn no_changed_package_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4), cut in any::<prop::sample::Index>()) {
        thread_local! {
            static GOOD: Vec<u8> = packed(Shape { layers: 1, vocabulary: 40, ..Shape::default() }.file(1), None).1;
        }
        GOOD.with(|good| {
            prop_assert!(Model::from_bytes(good[..cut.index(good.len())].to_vec()).is_err());
            let mut bad = good.clone();
            for (at, byte) in changes {
                let at = at.index(bad.len());
                bad[at] ^= byte;
            }
            if let Ok(model) = Model::from_bytes(bad) {
                // Names and padding are free.
                prop_assert_eq!(model.id(), Model::from_bytes(good.clone()).unwrap().id());
            }
            Ok(())
        })?;
    }
}
